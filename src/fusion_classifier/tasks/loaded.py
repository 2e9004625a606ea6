"""Texts and labels of a task, by split: the input of every later stage."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fusion_classifier.errors import MissingSplitError

SPLITS = ("train", "valid", "test")

Label = int | tuple[int, ...]
"""Index into `LoadedTask.labels`, or in a multi-label task the indices of all labels of a text, ascending."""


@dataclass(frozen=True, slots=True)
class RowPlace:
    """Location of a row."""

    file: str
    """File as given, or Hub data set and split; empty if the task does not provide it."""
    row: int
    """Row, from 0, as pandas and datasets count."""
    line: int | None = None
    """First line (text file) or row number (spreadsheet) of the row, counted from 1."""

    @property
    def within(self) -> str:
        """Line, or else row, in the file."""
        return f"row {self.row}" if self.line is None else f"line {self.line}"

    def __str__(self) -> str:
        """File and line or row, for messages."""
        return f"{self.file}, {self.within}" if self.file else self.within


@dataclass(frozen=True)
class LeftOut:
    """A skipped row, and the reason."""

    place: RowPlace
    problem: str


@dataclass(frozen=True)
class Split:
    """Unchanged texts, their labels, and their locations (default: their positions)."""

    texts: tuple[str, ...]
    labels: tuple[Label, ...]
    places: tuple[RowPlace, ...] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.places) != len(self.texts):
            object.__setattr__(self, "places", tuple(RowPlace("", row) for row in range(len(self.texts))))

    def __len__(self) -> int:
        return len(self.texts)

    def fingerprint(self) -> str:
        """SHA-256 over texts and labels in their order."""
        digest = hashlib.sha256()
        for text, label in zip(self.texts, self.labels, strict=True):
            data = text.encode()
            shown = str(label) if isinstance(label, int) else ",".join(map(str, label))
            digest.update(b"%s %d " % (shown.encode(), len(data)))
            digest.update(data)
        return digest.hexdigest()

    def take(self, rows: Iterable[int]) -> "Split":
        """Some rows, in this order."""
        chosen = list(rows)
        return Split(
            tuple(self.texts[i] for i in chosen),
            tuple(self.labels[i] for i in chosen),
            tuple(self.places[i] for i in chosen),
        )


def targets(labels: Sequence[Label], n_labels: int) -> np.ndarray:
    """Labels as an array, int64: (N,), or in a multi-label task (N, C) of 0 and 1."""
    if not labels or isinstance(labels[0], int):
        return np.asarray(labels, dtype=np.int64)
    matrix = np.zeros((len(labels), n_labels), dtype=np.int64)
    for row, several in enumerate(labels):
        assert isinstance(several, tuple)
        matrix[row, list(several)] = 1
    return matrix


def label_indices(label: Label) -> tuple[int, ...]:
    """The labels of a text as a tuple, even for a single label."""
    return (label,) if isinstance(label, int) else label


def rarest_label(given: np.ndarray) -> np.ndarray:
    """The label by which a row is stratified: (N,), int64.

    Args:
        given: Label numbers (N,), which are returned, or (N, C) of 0 and 1: the rarest of a row's labels, −1 without
            any.
    """
    if given.ndim == 1:
        return given
    rarest = np.where(given, given.sum(0), len(given) + 1).argmin(1)
    return np.where(given.any(1), rarest, -1)


@dataclass(frozen=True)
class LoadedTask:
    """Texts and labels of a classification task.

    Args:
        name: name of the task.
        labels: label names in the order of their indices.
        splits: one to three of train, valid, test.
        source: path or Hub data set that was read.
        licence: licence of the data.
        notes: how the data was read, for the user.
        multilabel: whether a text may have any number of labels.
        augmentation: more training rows (such as paraphrases), never evaluated on.
        label_tree: pairs of child and parent of a label hierarchy; it orders figures, nothing is learnt from it.
        cross_validated: whether valid has the rows of train, which are evaluated out of fold.
        left_out: rows without a text or label, or with an unknown label, which are not used.
    """

    name: str
    labels: tuple[str, ...]
    splits: dict[str, Split]
    source: str
    licence: str = "unknown"
    notes: tuple[str, ...] = ()
    multilabel: bool = False
    augmentation: Split | None = None
    label_tree: tuple[tuple[str, str], ...] = ()
    cross_validated: bool = False
    left_out: tuple[LeftOut, ...] = ()

    def targets(self, name: str) -> np.ndarray:
        """The labels of a split: (N,), int64, or in a multi-label task (N, C) of 0 and 1."""
        return targets(self.split(name).labels, len(self.labels))

    @property
    def training(self) -> Split:
        """The rows to train on: train, then the augmentation."""
        train, more = self.split("train"), self.augmentation
        if more is None:
            return train
        return Split(train.texts + more.texts, train.labels + more.labels, train.places + more.places)

    def split(self, name: str) -> Split:
        """The split of this name.

        Raises:
            MissingSplitError: the task does not have it.
        """
        if name not in self.splits:
            have = ", ".join(self.splits) or "none"
            raise MissingSplitError(
                f"task {self.name} has no {name} split in {self.source} (it has: {have}); "
                f"add a {name} file, or choose another split"
            )
        return self.splits[name]

    def limited(self, rows: int | None) -> "LoadedTask":
        """The same task with the first `rows` rows of each split."""
        if rows is None:
            return self
        splits = {name: split.take(range(min(rows, len(split)))) for name, split in self.splits.items()}
        more = self.augmentation and self.augmentation.take(range(min(rows, len(self.augmentation))))
        return replace(self, splits=splits, augmentation=more)
