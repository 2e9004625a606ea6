"""Data sets, draws and cells of the learning curves; needs only NumPy and the standard library.

A draw depends only on the labels, so that every system on every machine trains on the same rows.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DATASETS = ("banking77", "clinc150", "trec", "sst5", "subj", "ED", "go_emotion")
SIZES: tuple[int | str, ...] = (8, 16, 64, 256, "all")
DRAWS = 5
HELD_OUT = 2000
SPLITS = ("train", "valid", "test")
WITHOUT_TEST = frozenset({"ED"})  # its test split is held back and never read


@dataclass(frozen=True)
class Part:
    """Texts and their label numbers (N,), int64."""

    texts: tuple[str, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: np.ndarray) -> "Part":
        """These rows."""
        return Part(tuple(self.texts[int(i)] for i in rows), self.labels[rows])


@dataclass(frozen=True)
class Corpus:
    """A data set.

    `classes` are the labels by number, as words where `label2idx.txt` has them. `pool` are the training rows for
    draws: all of them if the data set has a validation split, otherwise all but those held out as `valid`. `test` is
    None if there is none.
    """

    name: str
    classes: tuple[str, ...]
    pool: Part
    valid: Part
    test: Part | None

    def judged(self, split: str) -> Part:
        """The rows that a split is scored on."""
        if split == "valid":
            return self.valid
        if self.test is None:
            raise ValueError(f"{self.name} has no test split; choose `valid`")
        return self.test


def load_corpus(folder: Path, name: str) -> Corpus:
    """Read a data set.

    Args:
        folder: Contains `small/NAME/train.csv` or `NAME/train.csv` (or `.csv.gz`), with the other splits next to it.
        name: One of `DATASETS`, or another folder with this layout.

    Raises:
        ValueError: Files are missing, or lack a column `text` or `label`.
    """
    place = next((at for at in (folder / name, folder / "small" / name) if _file(at, "train")), None)
    if place is None:
        raise ValueError(f"{folder} has neither {name}/train.csv nor small/{name}/train.csv")
    splits = SPLITS[:-1] if name in WITHOUT_TEST else SPLITS
    rows = {split: _read(file) for split in splits if (file := _file(place, split))}
    written = sorted({label for _, labels in rows.values() for label in labels})
    number, words = {label: i for i, label in enumerate(written)}, _words(place / "label2idx.txt")
    classes = tuple(words.get(label, label) for label in written)
    parts = {
        split: Part(texts, np.array([number[label] for label in labels], dtype=np.int64))
        for split, (texts, labels) in rows.items()
    }
    pool = parts["train"]
    if "valid" not in parts:
        held = hold_out(pool.labels, HELD_OUT)
        parts["valid"], pool = pool.take(held), pool.take(np.setdiff1d(np.arange(len(pool)), held))
    return Corpus(name, classes, pool, parts["valid"], parts.get("test"))


def hold_out(labels: np.ndarray, count: int) -> np.ndarray:
    """Sorted indices of about `count` rows (at most two fifths), stratified; each class keeps at least one row."""
    count = min(count, len(labels) * 2 // 5)
    share = count / len(labels)
    numbers = np.random.default_rng([20, 18]).permutation(len(labels))
    found: list[int] = []
    for label in np.unique(labels):
        of_class = numbers[labels[numbers] == label]
        found += of_class[: min(round(share * len(of_class)), len(of_class) - 1)].tolist()
    return np.array(sorted(found), dtype=np.int64)


def draw_rows(labels: np.ndarray, per_class: int | str, draw: int) -> np.ndarray:
    """Sorted row indices of a draw: at most `per_class` per class, or "all".

    Smaller sizes of a draw are subsets of larger ones.
    """
    if per_class == "all":
        return np.arange(len(labels))
    numbers = np.random.default_rng([18, draw]).permutation(len(labels))
    found = [numbers[labels[numbers] == label][: int(per_class)] for label in np.unique(labels)]
    return np.sort(np.concatenate(found))


def fingerprint(rows: np.ndarray) -> int:
    """Digest of the rows of a draw, to check that results of several machines are for the same rows."""
    return zlib.crc32(rows.astype("<i8").tobytes())


def same_as_all(labels: np.ndarray, per_class: int | str) -> bool:
    """Whether a size draws every row, so that it equals "all"."""
    return per_class != "all" and int(np.bincount(labels).max()) <= int(per_class)


@dataclass(frozen=True)
class Cell:
    """One training: a system on a draw of a data set."""

    dataset: str
    size: int | str
    draw: int
    system: str

    def key(self, split: str) -> tuple[str, str, str, int, str]:
        """Key of a finished row."""
        return self.dataset, split, str(self.size), self.draw, self.system


def key_of(row: Mapping[str, object]) -> tuple[str, str, str, int, str]:
    """`Cell.key` of a finished row."""
    return str(row["dataset"]), str(row["split"]), str(row["n"]), int(str(row["draw"])), str(row["system"])


def _file(folder: Path, split: str) -> Path | None:
    return next((f for ending in (".csv", ".csv.gz") if (f := folder / f"{split}{ending}").is_file()), None)


def _words(file: Path) -> dict[str, str]:
    """The word of each label number; empty if there is no file."""
    lines = file.read_text("utf-8").splitlines() if file.is_file() else []
    return {number: word for word, number in (line.split() for line in lines if line.strip())}


def _read(file: Path) -> tuple[tuple[str, ...], Sequence[str]]:
    raw = file.read_bytes()
    text = (gzip.decompress(raw) if file.suffix == ".gz" else raw).decode("utf-8")
    rows = csv.DictReader(io.StringIO(text, newline=""))
    if not {"text", "label"} <= set(rows.fieldnames or ()):
        raise ValueError(f"{file} has no columns text and label")
    found = [(row["text"], row["label"]) for row in rows]
    return tuple(text for text, _ in found), [label for _, label in found]
