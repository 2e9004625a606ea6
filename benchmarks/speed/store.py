"""Compares reading features from the store with a plain memory map of the same numbers.

    python benchmarks/speed/store.py
    python benchmarks/speed/store.py --quick --json
    python benchmarks/speed/store.py --profile

Features of Llama-2-7b's size, (5, 4096) in float16, 40 KB per text, are written to a store and to one `.npy` file.
Each figure is the memory map's time divided by the store's, on the same rows, alternately; median; 1 is as
fast as a memory map. Both are in the page cache, and every value read is used once (in a sum), so that a memory
map's pages are really read.

- `sequential`: all rows in store order.
- `shuffled_blocks`: all rows as read by training on data larger than memory: blocks of consecutive rows from the
  whole store, against the same rows gathered from the memory map.
- `random_rows`: batches of 256 random rows, which no part of the package does.
- `write`: writing rows to the store, with features checked and hashes indexed, against writing the memory map.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.encoders.weights import Weights
from fusion_classifier.errors import FecError
from fusion_classifier.features import codec
from fusion_classifier.features.arrays import FeatureShape
from fusion_classifier.features.hashing import hash_texts
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.training.data import in_blocks

SHAPE = (5, 4096)
COMMITTED_ROWS = 2048
RANDOM_ROWS = 256
MEMORY_PART = 5  # shuffled reading may use this fraction (1/n) of the features' size


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def processor_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of a call, over all threads; less affected by other work."""
    started = time.process_time()
    work()
    return time.process_time() - started


def withchecksums_timed(work: Callable[[], object]) -> tuple[float, float]:
    """CPU time of a call, and its part for checksums."""
    checked, plain = 0.0, codec.checksums

    def timed(*given: Any) -> np.ndarray:
        nonlocal checked
        started = time.process_time()
        sums = plain(*given)
        checked += time.process_time() - started
        return sums

    with patch.object(codec, "checksums", timed):
        return processor_seconds(work), checked


def used(values: np.ndarray) -> None:
    """Read every value once, as bytes, at memory speed."""
    torch.from_numpy(values.view(np.int32).reshape(-1)).sum()


def measure(rows: int, rounds: int, folder: Path, *, profile: bool = False) -> dict[str, Any]:
    """All figures; with `profile`, only print the speed of reading by the number of rows fetched at once."""
    generator = np.random.default_rng(0)
    values = generator.standard_normal((rows, *SHAPE), dtype=np.float32).astype(np.float16)
    hashes = hash_texts([f"text {row}" for row in range(rows)])
    config = EncoderConfig(name="random", model="random")
    identity = EncoderIdentity(config, Weights(folder, None, "random"), "random", "float32")
    features = FeatureStore(folder / "store").of(identity)
    started = time.perf_counter()
    for start in range(0, rows, COMMITTED_ROWS):
        part = slice(start, start + COMMITTED_ROWS)
        features.append(hashes[part], list(values[part].astype(np.float32)), FeatureShape(SHAPE, ragged=False))
    writing = time.perf_counter() - started
    started = time.perf_counter()
    np.save(folder / "values.npy", values)
    plain = time.perf_counter() - started
    del values
    mapped = np.load(folder / "values.npy", mmap_mode="r")
    stored = features.stored(hashes)
    stored = replace(stored, memory=mapped.nbytes // MEMORY_PART)
    in_order = np.arange(rows)

    if profile:
        for size in (400, 4096):
            codec.READ_BYTES = size * mapped[0].nbytes
            took, checked = min(withchecksums_timed(lambda: stored.take(in_order)) for _ in range(4))
            rate = f"{mapped.nbytes / 1e9 / took:.2f} GB per CPU second"
            print(f"{size} rows at once: {rate}; checksums take {100 * checked / took:.0f}% of it")
        return {}

    def sequential_store() -> None:
        for block in in_blocks({"random": stored}, rows):
            used(block.features["random"].values)

    def sequential_map() -> None:
        for start in range(0, rows, COMMITTED_ROWS):
            used(np.array(mapped[start : start + COMMITTED_ROWS]))

    def shuffled_store() -> None:
        for block in in_blocks({"random": stored}, rows, np.random.default_rng(1)):
            used(block.features["random"].values)

    blocks = [block.rows for block in in_blocks({"random": stored}, rows, np.random.default_rng(1))]

    def shuffled_map() -> None:
        for block in blocks:
            used(mapped[block])

    picked = [generator.permutation(in_order)[:RANDOM_ROWS] for _ in range(max(rows // RANDOM_ROWS // 4, 1))]

    def random_store() -> None:
        for chosen in picked:
            used(stored.take(chosen).values)

    def random_map() -> None:
        for chosen in picked:
            used(mapped[chosen])

    result: dict[str, Any] = {"rows": rows, "gigabytes": mapped.nbytes / 1e9, "write": plain / writing}
    pairs = {
        "sequential": (sequential_map, sequential_store),
        "shuffled_blocks": (shuffled_map, shuffled_store),
        "random_rows": (random_map, random_store),
    }
    for name, (theirs, ours) in pairs.items():
        theirs(), ours()
        found = [(seconds(theirs), seconds(ours)) for _ in range(rounds)]
        result[name] = statistics.median(a / b for a, b in found)
        read = len(picked) * RANDOM_ROWS if name == "random_rows" else rows
        result[f"{name}_gigabytes_per_second"] = (
            read * mapped[0].nbytes / 1e9 / statistics.median(b for _, b in found)
        )
    return result


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="folder on the disk to measure. Default: a temporary folder")
    parser.add_argument(
        "--profile", action="store_true", help="profile reading by the number of rows fetched at once, and checksums"
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        if given.profile:
            measure(4096, 0, Path(folder), profile=True)
            return
        result = measure(8192 if given.quick else 50_000, 3 if given.quick else 5, Path(folder))
    if given.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{result['rows']:,} rows, {result['gigabytes']:.2f} GB; the memory map's time over the store's:")
    for name in ("sequential", "shuffled_blocks", "random_rows"):
        rate = result[f"{name}_gigabytes_per_second"]
        print(f"{name.replace('_', ' ')}: {result[name]:.2f} (store: {rate:.2f} GB/s)")
    print(f"write: {result['write']:.2f}")


if __name__ == "__main__":
    try:
        main()
    except FecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
