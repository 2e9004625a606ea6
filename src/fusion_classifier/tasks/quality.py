"""Quality of a task's data, from texts and labels alone: lengths, duplicates, label counts, label names in texts.

Rows are counted from 0 within their split, as in a run's `predictions.parquet`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from fusion_classifier.tasks.loaded import Label, LoadedTask
from fusion_classifier.tasks.normalize import normalized, same_key

FEW_ROWS = 10  # a label with fewer training rows is hardly learned, and hardly measured


@dataclass(frozen=True)
class Lengths:
    """Distribution of text lengths."""

    mean: float
    median: float
    p95: float
    max: int


@dataclass(frozen=True)
class SplitSize:
    """Number of rows of a split, and lengths in characters and in words (separated by white space)."""

    rows: int
    characters: Lengths
    words: Lengths


@dataclass(frozen=True)
class Same:
    """A count of equal texts: exactly equal, and up to case and punctuation."""

    exact: int
    normalized: int


@dataclass(frozen=True)
class Copy:
    """A row whose text is duplicated; rows of one `group` have the same text up to case and punctuation.

    `exact`: another row has exactly this text. `labels_differ`: the rows of the group have different labels.
    """

    group: int
    exact: bool
    labels_differ: bool
    split: str
    row: int
    labels: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Duplicates:
    """Duplicated texts.

    `within`: rows of each split that repeat an earlier one of it. `across`: for "test in train" and so on, rows of
    the first split whose text is also in the second. `conflicting_texts`: texts with different labels, in
    `conflicting_rows`, over all splits.
    """

    within: dict[str, Same]
    across: dict[str, Same]
    conflicting_texts: Same
    conflicting_rows: Same
    copies: tuple[Copy, ...]


@dataclass(frozen=True)
class LabelCounts:
    """Rows by label and split.

    `missing`: labels without a row, by split. `few`: labels with fewer than `FEW_ROWS` rows in train (in all splits
    if there is no train).
    """

    rows: dict[str, dict[str, int]]
    missing: dict[str, tuple[str, ...]]
    few: tuple[str, ...]


@dataclass(frozen=True)
class LabelWord:
    """A label's name in texts: `rows` have the label, `own` of them contain its name, `found` texts do in all."""

    label: str
    rows: int
    own: int
    found: int


@dataclass(frozen=True)
class LabelWords:
    """Label names in texts.

    `own` and `other`: rows of each split that contain the name of one of their labels, and of another label.
    `unnamed` labels are numbers or have no letter, and were not looked for.
    """

    own: dict[str, int]
    other: dict[str, int]
    by_label: tuple[LabelWord, ...]
    unnamed: tuple[str, ...]


@dataclass(frozen=True)
class DataQuality:
    """Everything that this module measures."""

    splits: dict[str, SplitSize]
    duplicates: Duplicates
    labels: LabelCounts
    label_words: LabelWords


def data_quality(task: LoadedTask) -> DataQuality:
    """Measure all splits of a task."""
    splits = {
        name: SplitSize(
            len(part),
            measure_lengths(map(len, part.texts)),
            measure_lengths(len(text.split()) for text in part.texts),
        )
        for name, part in task.splits.items()
    }
    return DataQuality(splits, find_duplicates(task), count_labels(task), find_label_words(task))


def label_indices(label: Label) -> tuple[int, ...]:
    """The labels of a text as a tuple, also where a text has one."""
    return (label,) if isinstance(label, int) else label


def measure_lengths(values: Iterable[int]) -> Lengths:
    """Mean, median, 95 % quantile and maximum; zeros for no texts."""
    array = np.fromiter(values, dtype=np.int64)
    if not len(array):
        return Lengths(0.0, 0.0, 0.0, 0)
    return Lengths(float(array.mean()), float(np.median(array)), float(np.quantile(array, 0.95)), int(array.max()))


def find_duplicates(task: LoadedTask) -> Duplicates:
    """Rows with a text that is there more than once."""
    texts = {name: part.texts for name, part in task.splits.items()}
    keys = {name: [same_key(text) for text in part.texts] for name, part in task.splits.items()}
    exact, alike = _groups(texts), _groups(keys)

    def conflict(group: list[tuple[str, int]]) -> bool:
        return len({label_indices(task.splits[name].labels[row]) for name, row in group}) > 1

    copies = []
    for number, group in enumerate(group for group in alike.values() if len(group) > 1):
        differ = conflict(group)
        for name, row in group:
            text, label = texts[name][row], task.splits[name].labels[row]
            labels = tuple(task.labels[i] for i in label_indices(label))
            copies.append(Copy(number, len(exact[text]) > 1, differ, name, row, labels, text))
    conflicts = [[len(group) for group in groups.values() if conflict(group)] for groups in (exact, alike)]
    return Duplicates(
        {name: Same(*(len(part) - len(set(part)) for part in (texts[name], keys[name]))) for name in texts},
        {
            f"{later} in {earlier}": Same(*(_known(part[later], part[earlier]) for part in (texts, keys)))
            for earlier, later in combinations(texts, 2)
        },
        Same(*map(len, conflicts)),
        Same(*map(sum, conflicts)),
        tuple(copies),
    )


def _groups(texts: Mapping[str, Sequence[str]]) -> dict[str, list[tuple[str, int]]]:
    """Split and row of each text."""
    groups = defaultdict(list)
    for name, part in texts.items():
        for row, text in enumerate(part):
            groups[text].append((name, row))
    return groups


def _known(later: Sequence[str], earlier: Sequence[str]) -> int:
    known = set(earlier)
    return sum(text in known for text in later)


def count_labels(task: LoadedTask) -> LabelCounts:
    """How often each label occurs in each split."""
    counts = {
        name: Counter(i for label in part.labels for i in label_indices(label)) for name, part in task.splits.items()
    }
    rows = {label: {name: counts[name][i] for name in counts} for i, label in enumerate(task.labels)}
    missing = {name: tuple(label for label in rows if not rows[label][name]) for name in counts}
    learned = ["train"] if "train" in counts else list(counts)
    few = tuple(label for label, by_split in rows.items() if sum(by_split[name] for name in learned) < FEW_ROWS)
    return LabelCounts(rows, missing, few)


def find_label_words(task: LoadedTask) -> LabelWords:
    """Which texts contain label names, as whole words and up to case and punctuation."""
    names = {i: normalized(label) for i, label in enumerate(task.labels)}
    named = {i: name for i, name in names.items() if name and not name.replace(" ", "").isdecimal()}
    own_by_split, other_by_split = dict.fromkeys(task.splits, 0), dict.fromkeys(task.splits, 0)
    rows, own, found = Counter[int](), Counter[int](), Counter[int]()
    for split, part in task.splits.items():
        for text, label in zip(part.texts, part.labels, strict=True):
            given = set(label_indices(label))
            words = f" {normalized(text)} "
            inside = {i for i, name in named.items() if f" {name} " in words}
            rows.update(given)
            found.update(inside)
            own.update(given & inside)
            own_by_split[split] += bool(given & inside)
            other_by_split[split] += bool(inside - given)
    by_label = tuple(LabelWord(task.labels[i], rows[i], own[i], found[i]) for i in named)
    unnamed = tuple(label for i, label in enumerate(task.labels) if i not in named)
    return LabelWords(own_by_split, other_by_split, by_label, unnamed)
