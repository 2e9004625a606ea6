"""Are encoders with weights of 8 bits (torchao) smaller, as fast and the same as in bfloat16?

    pip install torchao==0.18.0
    OMP_NUM_THREADS=1 python benchmarks/speed/int8.py --task go_emotion --data DATA/go_emotion
    OMP_NUM_THREADS=1 python benchmarks/speed/int8.py --json

Two ways: `weights`, 8 bits for weights only, products in bfloat16; `dynamic`, inputs too, a scale a token, products
of whole numbers. For each, and on the same texts in turns with bfloat16:

- real encoders through extraction's own engine: rate over bfloat16's (`rate`, of the processor's time, on which other
  work has less effect; above 1 is faster), the least and the mean cosine of a text's feature (`cosine_least`,
  `cosine_mean`: of all layers that the preset takes, flat), and the bytes of linear layers' weights over bfloat16's
  (`bytes`).
- one layer of Llama-2-7b's true shape with random weights on 512 tokens, a batch of extraction: its rate. Random
  weights say nothing of the cosine.
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
    """Seconds of the processor, all threads together, of a call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def linear_bytes(model: nn.Module) -> int:
    """Bytes of the linear layers' weights, scales and all."""
    return sum(tensor_bytes(part.weight) for part in model.modules() if isinstance(part, nn.Linear))


def tensor_bytes(weight: Tensor) -> int:
    """Bytes of a tensor, of its parts where torchao made it of several."""
    names = getattr(weight, "tensor_data_names", None)
    return sum(getattr(weight, name).nbytes for name in names) if names else weight.nbytes


def in_turns(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Rates over the first side's, medians."""
    ratios: dict[str, list[float]] = {}
    for _ in range(rounds):
        taken = {name: processor_seconds(work) for name, work in sides.items()}
        first = next(iter(taken.values()))
        for name, seconds in taken.items():
            ratios.setdefault(name, []).append(first / seconds)
    return {name: statistics.median(values) for name, values in ratios.items()}


def quantized(model: nn.Module, way: str) -> nn.Module:
    """The model itself, its linear layers with weights of 8 bits."""
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
    """The rate of one true-sized layer."""
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
