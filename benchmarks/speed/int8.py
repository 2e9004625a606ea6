"""Compares encoders with 8-bit weights (torchao) with bfloat16 in size, speed and features.

    pip install torchao==0.18.0
    OMP_NUM_THREADS=1 python benchmarks/speed/int8.py --task go_emotion --data DATA/go_emotion
    OMP_NUM_THREADS=1 python benchmarks/speed/int8.py --json

Two methods: `weights`, with 8-bit weights only and products in bfloat16; `dynamic`, with 8-bit inputs, too, one scale
per token and integer products. For each, on the same texts and alternately with bfloat16:

- real encoders through the extraction engine: rate relative to bfloat16 (`rate`, in CPU time, which is less affected
  by other work; above 1 is faster), the minimum and mean cosine of a text's feature (`cosine_least`, `cosine_mean`:
  over all layers of the preset, flattened), and the size of the linear layers' weights relative to bfloat16
  (`bytes`).
- one layer in the shape of Llama-2-7b, with random weights, on 512 tokens, as in extraction: its rate. With random
  weights the cosine is meaningless.
"""

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchao.quantization import (  # type: ignore[import-not-found, unused-ignore]
    Int8DynamicActivationInt8WeightConfig,
    Int8WeightOnlyConfig,
    quantize_,
)
from transformers import LlamaConfig, LlamaModel

from fusion_classifier.config import TaskConfig
from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.loading import load_encoder
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.errors import FecError
from fusion_classifier.tasks.registry import load_task

ENCODERS = ("smollm2-135m", "minilm-l6", "mpnet-base")
WAYS = {"weights": Int8WeightOnlyConfig, "dynamic": Int8DynamicActivationInt8WeightConfig}
LLAMA = {"hidden_size": 4096, "intermediate_size": 11008, "num_attention_heads": 32, "num_hidden_layers": 1}
TOKENS = 512


def processor_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of a call, over all threads."""
    started = time.process_time()
    work()
    return time.process_time() - started


def linear_bytes(model: nn.Module) -> int:
    """Bytes of the linear layers' weights, including scales."""
    return sum(tensor_bytes(part.weight) for part in model.modules() if isinstance(part, nn.Linear))


def tensor_bytes(weight: Tensor) -> int:
    """Bytes of a tensor, or of its parts for torchao's composite tensors."""
    names = getattr(weight, "tensor_data_names", None)
    return sum(getattr(weight, name).nbytes for name in names) if names else weight.nbytes


def in_turns(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median rates relative to the first side."""
    ratios: dict[str, list[float]] = {}
    for _ in range(rounds):
        taken = {name: processor_seconds(work) for name, work in sides.items()}
        first = next(iter(taken.values()))
        for name, seconds in taken.items():
            ratios.setdefault(name, []).append(first / seconds)
    return {name: statistics.median(values) for name, values in ratios.items()}


def quantized(model: nn.Module, way: str) -> nn.Module:
    """The model with 8-bit weights in its linear layers, modified in place."""
    quantize_(model, WAYS[way]())
    return model


def real(name: str, texts: Sequence[str], rounds: int) -> dict[str, Any]:
    """Figures of one encoder."""
    device, config = torch.device("cpu"), parse_encoder(f"{name}?dtype=bfloat16")
    encoders = {side: load_encoder(config, device) for side in ("bfloat16", *WAYS)}
    size = linear_bytes(encoders["bfloat16"].model)
    for way in WAYS:
        quantized(encoders[way].model, way)
    found = {side: np.stack(encode(encoder, texts)).reshape(len(texts), -1) for side, encoder in encoders.items()}
    rates = in_turns({s: lambda e=e: encode(e, texts) for s, e in encoders.items()}, rounds)  # type: ignore[misc]
    result = {}
    for way in WAYS:
        a, b = found["bfloat16"].astype(np.float64), found[way].astype(np.float64)
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        result[way] = {
            "rate": rates[way],
            "cosine_least": float(cosine.min()),
            "cosine_mean": float(cosine.mean()),
            "bytes": linear_bytes(encoders[way].model) / size,
        }
    return result


def llama(rounds: int) -> dict[str, Any]:
    """The rate of one layer in original size."""
    plain = LlamaModel(LlamaConfig(vocab_size=8, **LLAMA)).to(torch.bfloat16).eval()
    models = {"bfloat16": plain} | {way: quantized(copy.deepcopy(plain), way) for way in WAYS}
    states = torch.randn(1, TOKENS, LLAMA["hidden_size"], dtype=torch.bfloat16)
    with torch.inference_mode():
        sides = {s: lambda m=m: m(inputs_embeds=states, use_cache=False) for s, m in models.items()}
        in_turns(sides, 1)  # type: ignore[arg-type]
        rates = in_turns(sides, rounds)  # type: ignore[arg-type]
    return {way: {"rate": rates[way], "bytes": linear_bytes(models[way]) / linear_bytes(plain)} for way in WAYS}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="demo")
    parser.add_argument("--data")
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    train = load_task(TaskConfig(name=given.task, data=given.data)).split("train").texts
    order = np.random.default_rng(0).permutation(len(train))[: given.texts]
    texts = [train[i] for i in order]
    figures = {name: real(name, texts, given.rounds) for name in ENCODERS} | {"llama-2-7b layer": llama(given.rounds)}
    if given.json:
        print(json.dumps(figures, indent=1))
        return
    for name, ways in figures.items():
        for way, values in ways.items():
            print(f"{name}, {way}: " + ", ".join(f"{key} {value:.4f}" for key, value in values.items()))


if __name__ == "__main__":
    try:
        main()
    except FecError as error:
        sys.exit(f"error: {error}")
