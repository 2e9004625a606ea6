"""Injects faults into the files of a feature store: are they detected, and is a wrong feature ever read?

    python benchmarks/reliability/storage_faults.py --faults 400 --json

Stores of pooled features and of token states are written; then, one at a time and each in a fresh copy: a flipped bit
or a block of zeros at a random position in a random file, a truncated file, a missing file. Every feature is read,
and the store verified, in a separate process, since a damaged file may crash it. Prints, as JSON, by kind of fault:
`tried`, `found` by `fec store verify`, `refused` by reading, `harmless` (everything is read as written), `missing` (a
commit is undone: texts are reported as missing, and the next extraction encodes them again), `ended the process` (by
an error other than the store's), `wrong` (another feature was read without an error) and `missed` (reading is
refused, but verification finds nothing). The last three must be 0.
"""

import argparse
import json
import multiprocessing
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.errors import FecError, StoreError
from fusion_classifier.features.arrays import FeatureShape
from fusion_classifier.features.hashing import hash_texts
from fusion_classifier.features.store import FeatureStore

ROWS, WIDTH, LAYERS, LONGEST = 60, 48, 2, 9
TEXTS = [f"text number {i}" for i in range(ROWS)]


def flip(file: Path, draw: random.Random) -> None:
    """Flip one bit."""
    data = bytearray(file.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    file.write_bytes(data)


def zero(file: Path, draw: random.Random) -> None:
    """Zero a block, as if it had not been written."""
    data = bytearray(file.read_bytes())
    start = draw.randrange(len(data))
    end = min(len(data), start + draw.choice([8, 64, 512]))
    data[start:end] = bytes(end - start)
    file.write_bytes(data)


def cut(file: Path, draw: random.Random) -> None:
    """Truncate a file."""
    file.write_bytes(file.read_bytes()[: draw.randrange(file.stat().st_size)])


def remove(file: Path, _: random.Random) -> None:
    """Delete a file."""
    file.unlink()


KINDS: dict[str, Callable[[Path, random.Random], None]] = {"bit": flip, "zeros": zero, "cut": cut, "gone": remove}


def write(root: Path, identity: EncoderIdentity, *, ragged: bool) -> None:
    """A store with two commits; one feature of each does not fit into float16."""
    draw = np.random.default_rng(0)
    shape = FeatureShape((LAYERS, WIDTH) if ragged else (WIDTH,), ragged)
    features = []
    for row in range(ROWS):
        size = (int(draw.integers(1, LONGEST)), *shape.shape) if ragged else shape.shape
        values = draw.normal(size=size).astype(np.float32)
        features.append(values * (1e5 if row % 30 == 7 else 1))
    store, hashes = FeatureStore(root).of(identity), hash_texts(TEXTS)
    for part in (slice(0, ROWS // 2), slice(ROWS // 2, ROWS)):
        store.append(hashes[part], features[part], shape)


def content(root: Path, identity: EncoderIdentity) -> list[np.ndarray]:
    """Each text's feature, read separately."""
    store, hashes = FeatureStore(root).of(identity), hash_texts(TEXTS)
    return [store.read(hashes[row : row + 1]).values for row in range(ROWS)]


def examine(root: Path, identity: EncoderIdentity, expected: list[np.ndarray], answer: Any) -> None:
    """Verify and read in a separate process; the findings and the features."""
    found = bool(list(FeatureStore(root).verify(identity.key)))
    refused = wrong = False
    store, hashes = FeatureStore(root).of(identity), hash_texts(TEXTS)
    try:
        rows = int(store.contains(hashes).sum())
    except StoreError:
        rows = ROWS
    for row, right in enumerate(expected):
        try:
            values = store.read(hashes[row : row + 1]).values
        except StoreError:
            refused = True
        else:
            wrong = wrong or values.shape != right.shape or not np.array_equal(values, right)
    answer.send((found, refused, wrong, rows))


def judged(root: Path, identity: EncoderIdentity, expected: list[np.ndarray]) -> str:
    """Outcome of one fault."""
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=examine, args=(root, identity, expected, theirs))
    process.start()
    theirs.close()
    try:
        found, refused, wrong, rows = ours.recv()
    except EOFError:
        return "ended the process"
    finally:
        process.join()
    if wrong:
        return "wrong"
    if rows < ROWS and not found:
        return "missing"
    if refused and not found:
        return "missed"
    return "found" if found else "harmless"


def plant(root: Path, identity: EncoderIdentity, kind: str, draw: random.Random) -> Path:
    """Inject a fault into a random file of the dataset, weighted by size."""
    files = [file for file in sorted((root / f"{identity.key}.lance").rglob("*")) if file.is_file()]
    file = draw.choices(files, [file.stat().st_size for file in files])[0]
    KINDS[kind](file, draw)
    return file


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    multiprocessing.set_forkserver_preload(["fusion_classifier.features", "fusion_classifier.encoders"])
    draw, result = random.Random(given.seed), {kind: Counter[str]() for kind in KINDS}
    identity = identify(parse_encoder("minilm-l6"), torch.device("cpu"))
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        expected = {}
        for ragged in (False, True):
            write(root / str(ragged), identity, ragged=ragged)
            expected[ragged] = content(root / str(ragged), identity)
        for number in range(given.faults):
            ragged, kind = bool(number % 2), list(KINDS)[number // 2 % len(KINDS)]
            copy = root / "copy"
            shutil.copytree(root / str(ragged), copy)
            file = plant(copy, identity, kind, draw)
            outcome = judged(copy, identity, expected[ragged])
            result[kind]["tried"] += 1
            result[kind][outcome] += 1
            if outcome in ("wrong", "missed", "ended the process"):
                print(f"{kind} in {file.relative_to(copy)} (ragged: {ragged}): {outcome}", file=sys.stderr)
            shutil.rmtree(copy)
    print(json.dumps(result, indent=1))
    sys.exit(any(counts[bad] for counts in result.values() for bad in ("wrong", "missed", "ended the process")))


if __name__ == "__main__":
    try:
        main()
    except FecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
