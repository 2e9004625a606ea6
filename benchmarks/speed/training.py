"""Compares training with the original's loop, in memory and from a store larger than memory.

    python benchmarks/speed/training.py --data DATA/go_emotion
    python benchmarks/speed/training.py --data DATA/go_emotion --quick --json

Both sides of each figure are measured in this run:

- `vs_original`: rows per second of the published classifier in its original size, (5, 4096) + 1024 + 1024 numbers per
  text and 25.49 M parameters: the original's loop (DataLoader with 4 workers, batches of 10, Adam, float32), against
  `train` with batches of 1,024 in bfloat16. In turns, median over rounds. `default_head_vs_original`: the same with
  the head `fusion` on the same features; `recipes_vs_original`: both heads with their default recipes, as in `fec
  train`.
- `measures`: the head `fusion` with those sizes and batches; its rate with torch's dropout, and with glibc returning
  freed memory to the system, relative to its actual rate.
- `time_to_accuracy`: on real features of GoEmotions (SmolLM2 and MiniLM, one vector per layer), the original's loop
  is trained with its recipe (learning rate 1e-4, at most 200 epochs, patience 10); the figure is the time that it
  takes to reach its best validation accuracy, divided by the time for `fec train`'s default to reach it.
- `streamed`: rows per second of `train` on features five times larger than the memory limit, read from the store in
  blocks, relative to the same features in memory.

Use an idle machine. Missing features of the real texts are extracted first.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from fusion_classifier.config import EncoderConfig, LlmEmbedConfig, TaskConfig, TrainingConfig
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.spec import parse_encoders
from fusion_classifier.encoders.weights import Weights
from fusion_classifier.errors import FecError
from fusion_classifier.features.arrays import FeatureShape, PooledFeatures
from fusion_classifier.features.extract import open_features
from fusion_classifier.features.hashing import hash_texts
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion import attention
from fusion_classifier.fusion import fusion as fusion_module
from fusion_classifier.fusion.head import count_parameters
from fusion_classifier.fusion.registry import build_head, parse_head
from fusion_classifier.runs.context import RunContext
from fusion_classifier.runs.features import extract_task, features_of
from fusion_classifier.support.heap import kept_memory
from fusion_classifier.support.progress import QUIET, Progress
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.train import train

CPU = torch.device("cpu")
TRUE_SIZES = {"llama2-7b-chat": (5, 4096), "bert-large": (1024,), "roberta-large": (1024,)}
TRUE_LABELS = 32
REAL_ENCODERS = ("smollm2-135m", "minilm-l6")
ORIGINAL_BATCH, ORIGINAL_WORKERS, ORIGINAL_RATE = 10, 4, 1e-4
ORIGINAL_EPOCHS, ORIGINAL_PATIENCE = 200, 10
LARGE_BATCH = 1024
STREAMED_PART = 5  # ratio of the features' size to the memory limit


# --- the original's loop, from its description ---------------------------------------------------------------


class OriginalRows(Dataset[dict[str, Tensor]]):
    """The features in float32, row by row."""

    def __init__(self, data: LabelledFeatures) -> None:
        self.labels = torch.from_numpy(data.labels)
        self.features = {
            name: torch.from_numpy(values.values).float()
            for name, values in data.features.items()
            if isinstance(values, PooledFeatures)
        }

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {name: values[row] for name, values in self.features.items()} | {"label": self.labels[row]}


class Original:
    """Model, optimizer and loader of the published training."""

    def __init__(self, data: LabelledFeatures, labels: int, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = build_head(LlmEmbedConfig(), data.shapes, labels)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=ORIGINAL_RATE)
        self.loader = DataLoader(
            OriginalRows(data), batch_size=ORIGINAL_BATCH, shuffle=True, num_workers=ORIGINAL_WORKERS
        )

    def steps(self, most: int | None = None) -> tuple[int, float]:
        """Run an epoch, or its first steps; rows and seconds."""
        self.model.train()
        rows, batches = 0, iter(self.loader)  # startup of the workers is not counted
        started = time.perf_counter()
        for batch in islice(batches, most):
            labels = batch.pop("label")
            loss = nn.functional.cross_entropy(self.model(batch), labels)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
            self.optimizer.step()
            rows += len(labels)
        return rows, time.perf_counter() - started

    @torch.inference_mode()
    def accuracy(self, data: LabelledFeatures) -> float:
        """Accuracy."""
        self.model.eval()
        rows = DataLoader(OriginalRows(data), batch_size=ORIGINAL_BATCH, num_workers=ORIGINAL_WORKERS)
        right = 0
        for batch in rows:
            labels = batch.pop("label")
            right += int((self.model(batch).argmax(1) == labels).sum())
        return right / len(data)


# --- features ----------------------------------------------------------------------------------------------


def random_features(rows: int, seed: int = 0) -> LabelledFeatures:
    """Features in the sizes of the published trio; the time per step does not depend on their values."""
    generator = np.random.default_rng(seed)
    features = {
        name: PooledFeatures(generator.standard_normal((rows, *shape), dtype=np.float32).astype(np.float16))
        for name, shape in TRUE_SIZES.items()
    }
    return LabelledFeatures(features, generator.integers(0, TRUE_LABELS, rows))


def stored_in(root: Path, data: LabelledFeatures) -> tuple[list[str], list[EncoderIdentity], FeatureStore]:
    """The same features in a store: their texts, the encoders, the store."""
    texts = [f"text {row}" for row in range(len(data))]
    hashes, store, identities = hash_texts(texts), FeatureStore(root), []
    for name, values in data.features.items():
        assert isinstance(values, PooledFeatures)
        config = EncoderConfig(name=name, model=name)
        identity = EncoderIdentity(config, Weights(Path(name), None, "random"), name, "float32")
        for rows in np.array_split(np.arange(len(data)), max(len(data) // 2048, 1)):
            arrays = list(values.values[rows].astype(np.float32))
            store.of(identity).append(hashes[rows], arrays, FeatureShape(values.shape.shape, ragged=False))
        identities.append(identity)
    return texts, identities, store


def few(data: LabelledFeatures, rows: int) -> LabelledFeatures:
    """The first rows, in memory."""
    chosen = np.arange(min(rows, len(data)))
    kept = {n: PooledFeatures(v.values[chosen]) for n, v in data.features.items() if isinstance(v, PooledFeatures)}
    return LabelledFeatures(kept, data.labels[chosen])


# --- ours --------------------------------------------------------------------------------------------------


def rate_of(head: str, config: TrainingConfig, data: LabelledFeatures, valid: LabelledFeatures, epochs: int) -> float:
    """Rows per second of `train`, including validation on a few rows, without the first epoch."""
    config = config.model_copy(update={"max_epochs": epochs + 1, "min_steps": 0, "patience": epochs + 1})
    with kept_memory():  # as in a run
        history = train(parse_head(head), config, data, valid, TRUE_LABELS, 0, CPU, QUIET).history
    return len(data) / statistics.median(epoch.seconds for epoch in history[1:])


def large_batches(head: str) -> TrainingConfig:
    """The head's recipe with batch size and precision for speed."""
    return recipe("default", head, batch_size=LARGE_BATCH).model_copy(update={"precision": "bfloat16"})


WITHOUT: tuple[tuple[str, tuple[ModuleType, ...], str, Any], ...] = (
    ("torch's dropout", (attention, fusion_module), "dropout", nn.functional.dropout),
    ("freed memory given back", (sys.modules[__name__],), "kept_memory", nullcontext),
)

# --- the figures -------------------------------------------------------------------------------------------


def measure_rates(*, quick: bool) -> dict[str, Any]:
    """`vs_original`."""
    data = random_features(4096 if quick else 8192)
    valid, rounds = few(data, 32), 1 if quick else 3
    original = Original(few(data, 2048), TRUE_LABELS)
    original.steps(5)
    rates: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        rows, seconds = original.steps(60 if quick else 100)
        rates["original"].append(rows / seconds)
        for head in ("llmembed", "fusion"):
            rates[head].append(rate_of(head, large_batches(head), data, valid, 1 if quick else 2))
            part = data if head == "fusion" else few(data, 2048)  # many small steps: enough rows to measure a rate
            rates[f"{head}, recipe"].append(rate_of(head, recipe("default", head), part, valid, 1))
        for name, modules, attribute, instead in WITHOUT:
            with ExitStack() as patched:
                for module in modules:
                    patched.enter_context(patch.object(module, attribute, instead))
                rates[name].append(rate_of("fusion", large_batches("fusion"), data, valid, 1))
        print(f"rows per second: { ({name: round(found[-1]) for name, found in rates.items()}) }", file=sys.stderr)

    def ratio(name: str, base: str = "original") -> float:
        return statistics.median(a / b for a, b in zip(rates[name], rates[base], strict=True))

    return {
        "parameters": count_parameters(original.model),
        "rows_per_second": {name: statistics.median(found) for name, found in rates.items()},
        "vs_original": ratio("llmembed"),
        "default_head_vs_original": ratio("fusion"),
        "recipes_vs_original": {head: ratio(f"{head}, recipe") for head in ("llmembed", "fusion")},
        "measures": {name: ratio(name, "fusion") for name, *_ in WITHOUT},
    }


def measure_streamed(*, quick: bool) -> dict[str, Any]:
    """`streamed`."""
    data = random_features(24576 if quick else 65536)
    size = sum(values.values.nbytes for values in data.features.values() if isinstance(values, PooledFeatures))
    valid, config = few(data, 32), large_batches("llmembed")
    with tempfile.TemporaryDirectory() as root:
        texts, identities, store = stored_in(Path(root), data)
        left = replace(data, features=open_features(texts, identities, store, size // STREAMED_PART))
        assert left.stored
        ratios, rates = [], {}
        for _ in range(1 if quick else 3):
            for name, features in (("memory", data), ("store", left)):
                rates[name] = rate_of("llmembed", config, features, valid, 1 if quick else 2)
            ratios.append(rates["store"] / rates["memory"])
            print(f"rows per second: { ({name: round(rate) for name, rate in rates.items()}) }", file=sys.stderr)
    return {"streamed": statistics.median(ratios), "streamed_bytes": size, "streamed_rows_per_second": rates}


def measure_time(given: argparse.Namespace) -> dict[str, Any]:
    """`time_to_accuracy`."""
    task = load_task(TaskConfig(name="go_emotion", data=given.data, limit=4000 if given.quick else None))
    work = RunContext(FeatureStore(given.store), CPU, Progress())
    encoders = parse_encoders(list(REAL_ENCODERS), features="pooled")
    extract_task(task, ["train", "valid"], encoders, work)
    identities = [identify(encoder, CPU) for encoder in encoders]
    data, valid = (features_of(task.split(name), task, identities, work.store) for name in ("train", "valid"))

    original = Original(data, len(task.labels))
    started = time.perf_counter()
    best, best_epoch, reached = 0.0, 0, 0.0
    for epoch in range(1, ORIGINAL_EPOCHS + 1):
        original.steps()
        accuracy = original.accuracy(valid)
        if accuracy > best:
            best, best_epoch, reached = accuracy, epoch, time.perf_counter() - started
        print(f"original, epoch {epoch}: {accuracy:.4f}, {time.perf_counter() - started:.0f} s", file=sys.stderr)
        if epoch - best_epoch >= ORIGINAL_PATIENCE or (given.quick and time.perf_counter() - started > 75):
            break

    result: dict[str, Any] = {"original": {"accuracy": best, "epoch": best_epoch, "seconds": reached}}
    for head in ("fusion", "linear"):
        started = time.perf_counter()
        with kept_memory():
            history = train(
                parse_head(head), recipe("default", head), data, valid, len(task.labels), 0, CPU, QUIET
            ).history
        whole = time.perf_counter() - started
        before = whole - sum(epoch.seconds for epoch in history)  # everything but epochs: counted as startup
        until = np.cumsum([epoch.seconds for epoch in history]) + before
        first = next((i for i, epoch in enumerate(history) if epoch.valid_accuracy >= best), None)
        result[head] = {
            "seconds": None if first is None else float(until[first]),
            "epoch": None if first is None else first + 1,
            "best_accuracy": max(epoch.valid_accuracy for epoch in history),
            "all_seconds": whole,
        }
    taken = result["fusion"]["seconds"]
    return {"time": result, "time_to_accuracy": None if taken is None else reached / taken}


def profile() -> None:
    """Print the cost of a large step of the published classifier and of a large matrix product, on one core."""
    torch.set_num_threads(1)
    shapes = {name: FeatureShape(shape, ragged=False) for name, shape in TRUE_SIZES.items()}
    head = build_head(LlmEmbedConfig(), shapes, TRUE_LABELS)
    batch = {name: torch.randn(LARGE_BATCH, *shape).half() for name, shape in TRUE_SIZES.items()}
    labels, optimizer = torch.randint(TRUE_LABELS, (LARGE_BATCH,)), torch.optim.AdamW(head.parameters(), fused=True)
    square = torch.randn(4096, 4096, dtype=torch.bfloat16)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            logits = head(batch)
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def rate(work: Callable[[], object], operations: float) -> float:
        """GFLOP per CPU second, which is less affected by other work."""
        taken = []
        for _ in range(5):
            started = time.process_time()
            work()
            taken.append(time.process_time() - started)
        return operations / min(taken) / 1e9

    with FlopCounterMode(display=False) as counter:
        step()
    print(f"{counter.get_total_flops() / LARGE_BATCH / 1e6:.0f} MFLOP a row in matrix products")
    print(f"step: {rate(step, counter.get_total_flops()):.0f} GFLOP/s per core")
    print(f"product of 4096 x 4096: {rate(lambda: square @ square, 2 * 4096**3):.0f} GFLOP/s per core")
    with torch.profiler.profile() as profiler:
        step()
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=10, max_name_column_width=40))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of GoEmotions. Default: from the Hub")
    parser.add_argument("--store", type=Path, help="feature store. Default: in the user's cache")
    parser.add_argument("--only", choices=["rates", "streamed", "time"], help="one of the three figures")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--profile", action="store_true", help="compare the cost of a step with a matrix product")
    given = parser.parse_args()
    if given.profile:
        profile()
        return
    # The original always starts 4 workers; they only index tensors, and never access a store.
    warnings.filterwarnings("ignore", "This DataLoader will create|lance is not fork-safe")
    figures: Mapping[str, Callable[[], dict[str, Any]]] = {
        "rates": lambda: measure_rates(quick=given.quick),
        "streamed": lambda: measure_streamed(quick=given.quick),
        "time": lambda: measure_time(given),
    }
    result: dict[str, Any] = {"threads": torch.get_num_threads(), "quick": given.quick}
    for name, measure in figures.items():
        if given.only in (None, name):
            result |= measure()
    if given.json:
        print(json.dumps(result, indent=1))
        return
    if "vs_original" in result:
        rates = {name: round(rate) for name, rate in result["rows_per_second"].items()}
        print(f"rows per second, {result['parameters']:,} parameters: {rates}")
        print(f"ours / original, the published head: {result['vs_original']:.1f} x")
        print(f"ours / original, head fusion: {result['default_head_vs_original']:.1f} x")
        print(f"at the default recipes: {result['recipes_vs_original']}")
        print(f"head fusion without a measure / with all: {result['measures']}")
    if "streamed" in result:
        print(f"from the store / in memory: {result['streamed']:.2f}")
    if "time" in result:
        print(f"to the original's best validation accuracy: {json.dumps(result['time'])}")
        print(f"original / ours: {result['time_to_accuracy']}")


if __name__ == "__main__":
    try:
        main()
    except FecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
