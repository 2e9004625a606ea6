"""Compares ONNX Runtime and OpenVINO with `fec extract` for the encoders, on the same texts.

    python benchmarks/speed/runtimes.py --task go_emotion --data DATA/go_emotion
    python benchmarks/speed/runtimes.py --quick --json

Each encoder is exported to ONNX once (float32) and run by ONNX Runtime, in float32 and with weights and activations
quantized to 8 bits, and by OpenVINO, in float32 and in bfloat16; texts are sorted by length, in batches of 32 or 64,
whichever is faster. `fec extract` with its store is compared with each, alternately; median over rounds; sentence
vectors are compared, too (`least_cosine`). A ratio above 1 means that the other runtime is faster.

Needs: pip install onnx onnxruntime openvino. Use an idle machine.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import torch
from extraction import CPU, Ours, sampled, seconds
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import Tensor, nn

from fusion_classifier.config import TaskConfig
from fusion_classifier.encoders.loading import TransformerEncoder, load_transformer
from fusion_classifier.errors import FecError
from fusion_classifier.tasks.registry import load_task

ENCODERS = ("minilm-l6", "mpnet-base")
BATCHES = (32, 64)
TRIED_TEXTS = 512  # for choosing the batch size
THREADS = os.cpu_count() or 1

Session = Callable[[np.ndarray, np.ndarray], np.ndarray]  # ids and mask (B, L) to states (B, L, H)


class LastLayer(nn.Module):
    """Only the last hidden states, as a graph output."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states


def exported(encoder: TransformerEncoder, path: Path) -> None:
    """Export the encoder as an ONNX file, float32, for any batch size and length."""
    encoder.model.set_attn_implementation("eager")
    example = encoder.tokenizer(["a text", "a longer text than that"], padding=True, return_tensors="pt")
    axes = {name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask", "states")}
    torch.onnx.export(
        LastLayer(encoder.model.float()),
        (example["input_ids"], example["attention_mask"]),
        path,
        input_names=["input_ids", "attention_mask"],
        output_names=["states"],
        dynamic_axes=axes,
        dynamo=False,
    )


def onnx_session(path: Path) -> Session:
    """By ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        states: np.ndarray = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return states

    return run


def openvino_session(path: Path, precision: str) -> Session:
    """Run with OpenVINO in this precision."""
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": "1"}
    model = openvino.Core().compile_model(path, "CPU", settings)

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        states: np.ndarray = model({"input_ids": ids, "attention_mask": mask})[0]
        return states

    return run


def encoded(session: Session, encoder: TransformerEncoder, texts: Sequence[str], batch_size: int) -> np.ndarray:
    """Mean vectors of texts (N, H), in batches of similar lengths."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    vectors: list[np.ndarray] = [np.empty(0)] * len(texts)
    for start in range(0, len(texts), batch_size):
        chosen = order[start : start + batch_size]
        batch = encoder.tokenizer(
            [texts[i] for i in chosen], padding=True, truncation=True, max_length=256, return_tensors="np"
        )
        mask = batch["attention_mask"]
        states = session(batch["input_ids"], mask)  # (B, L, H)
        sums = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
        for i, vector in zip(chosen, sums, strict=True):
            vectors[i] = vector
    return np.stack(vectors)


def against(
    session: Session, encoder: TransformerEncoder, ours: Ours, expected: np.ndarray, rounds: int
) -> dict[str, Any]:
    """Compare one runtime with ours, alternately."""
    texts = ours.texts

    def theirs(some: Sequence[str], batch_size: int) -> float:
        return seconds(lambda: encoded(session, encoder, some, batch_size))

    theirs(texts[:TRIED_TEXTS], BATCHES[0])  # warm-up
    batch_size = min(BATCHES, key=lambda size: theirs(texts[:TRIED_TEXTS], size))
    taken = [(theirs(texts, batch_size), ours()) for _ in range(rounds)]
    vectors = encoded(session, encoder, texts, batch_size)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    return {
        "batch_size": batch_size,
        "ratio": statistics.median(b / a for a, b in taken),
        "texts_per_second": len(texts) / statistics.median(a for a, _ in taken),
        "least_cosine": float(((vectors * expected).sum(1) / lengths).min()),
    }


def measure(name: str, texts: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """Compare every runtime with ours for one encoder."""
    ours = Ours(name, texts)
    expected = ours.vectors().astype(np.float32)
    encoder = load_transformer(ours.identity, CPU, plain=True)
    with tempfile.TemporaryDirectory() as folder:
        full, small = Path(folder) / "full.onnx", Path(folder) / "int8.onnx"
        exported(encoder, full)
        quantize_dynamic(full, small, weight_type=QuantType.QInt8)
        sessions = {
            "ONNX Runtime, float32": onnx_session(full),
            "ONNX Runtime, int8": onnx_session(small),
            "OpenVINO, float32": openvino_session(full, "f32"),
            "OpenVINO, bfloat16": openvino_session(full, "bf16"),
        }
        return [
            {"encoder": name, "runtime": runtime, **against(session, encoder, ours, expected, rounds)}
            for runtime, session in sessions.items()
        ]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="demo")
    parser.add_argument("--data")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    task = load_task(TaskConfig(name=given.task, data=given.data))
    texts = sampled(task.split("train").texts, 512 if given.quick else 2048)
    found = [row for name in ENCODERS for row in measure(name, texts, 1 if given.quick else 3)]
    if given.json:
        print(json.dumps(found, indent=1))
        return
    print("| encoder | runtime | its rate / ours | least cosine |\n|---|---|---:|---:|")
    for row in found:
        print(f"| {row['encoder']} | {row['runtime']} | {row['ratio']:.2f} | {row['least_cosine']:.5f} |")


if __name__ == "__main__":
    try:
        main()
    except FecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
