"""What is worth knowing of a task's texts and labels before anything is trained on them.

Everything here comes from the data alone: no model is asked. Rows are counted from 0 within their split, as in a
run's `predictions.parquet`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from fusion_classifier.tasks.loaded import LoadedTask
from fusion_classifier.tasks.normalize import normalized, same_key

FEW_ROWS = 10  # a label with fewer training rows is hardly learned, and hardly measured


@dataclass(frozen=True)
class Spread:
    """How long texts are."""

    mean: float
    median: float
    p95: float
    max: int


@dataclass(frozen=True)
class SplitFigures:
    """A split: rows, lengths in characters and in words (as white space parts them)."""

    rows: int
    characters: Spread
    words: Spread


@dataclass(frozen=True)
class Same:
    """A count of rows or texts, by two ideas of sameness: to the letter, and up to case and punctuation."""

    exact: int
    normalized: int


@dataclass(frozen=True)
class Copy:
    """A row whose text also stands elsewhere; rows of one `group` have the same text up to case and punctuation.

    `exact`: another row of the group has it to the letter. `labels_differ`: not all rows of the group have the
    same labels.
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
    """Texts that stand in the data more than once.

    `within`: rows of each split that repeat an earlier one of it. `across`: for "test in train" and so on, rows of
    the first whose text also stands in the second. `conflicting_texts` stand there with different labels, in
    `conflicting_rows`, over all splits.
    """

    within: dict[str, Same]
    across: dict[str, Same]
    conflicting_texts: Same
    conflicting_rows: Same
    copies: tuple[Copy, ...]


@dataclass(frozen=True)
class LabelCounts:
    """`rows` by label and split; `missing` labels by split; `few`: labels with fewer than `FEW_ROWS` rows to learn
    from (in train, or in all splits where there is no train)."""

    rows: dict[str, dict[str, int]]
    missing: dict[str, tuple[str, ...]]
    few: tuple[str, ...]


@dataclass(frozen=True)
class LabelWord:
    """The name of a label as words of the texts, over all splits: `rows` have the label, `own` of these contain its
    name, `found` texts contain it in all."""

    label: str
    rows: int
    own: int
    found: int


@dataclass(frozen=True)
class LabelWords:
    """Label names inside texts.

    `own` and `other`: rows of each split that contain the name of a label of theirs, and of a label not theirs.
    `unnamed` labels are numbers or have no letter, and were not looked for.
    """

    own: dict[str, int]
    other: dict[str, int]
    by_label: tuple[LabelWord, ...]
    unnamed: tuple[str, ...]


@dataclass(frozen=True)
class DataAudit:
    """All that the data alone tells."""

    splits: dict[str, SplitFigures]
    duplicates: Duplicates
    labels: LabelCounts
    label_words: LabelWords


def audit_data(task: LoadedTask) -> DataAudit:
    """Look through the texts and labels of all splits."""
    return DataAudit(
        {
            name: SplitFigures(
                len(part),
                spread(len(text) for text in part.texts),
                spread(len(text.split()) for text in part.texts),
            )
            for name, part in task.splits.items()
        },
        find_duplicates(task),
        count_labels(task),
        find_label_words(task),
    )


def label_numbers(label: Any) -> tuple[int, ...]:
    """The labels of a text: one, or where a task has several a text, all."""
    return (label,) if isinstance(label, int) else tuple(label)


def spread(lengths: Iterable[int]) -> Spread:
    """Mean, median, 95 % quantile and maximum; zeros for no texts."""
    values = np.fromiter(lengths, dtype=np.int64)
    if not len(values):
        return Spread(0.0, 0.0, 0.0, 0)
    return Spread(float(values.mean()), float(np.median(values)), float(np.quantile(values, 0.95)), int(values.max()))


def find_duplicates(task: LoadedTask) -> Duplicates:
    """Rows with a text that also stands elsewhere."""
    keys = {name: [same_key(text) for text in part.texts] for name, part in task.splits.items()}
    exact: dict[str, list[tuple[str, int]]] = defaultdict(list)
    alike: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for name, part in task.splits.items():
        for row, text in enumerate(part.texts):
            exact[text].append((name, row))
            alike[keys[name][row]].append((name, row))

    def labels(place: tuple[str, int]) -> tuple[int, ...]:
        return label_numbers(task.splits[place[0]].labels[place[1]])

    def conflicting(groups: Iterable[list[tuple[str, int]]]) -> list[int]:
        return [len(group) for group in groups if len({labels(place) for place in group}) > 1]

    conflicts, conflicts_alike = conflicting(exact.values()), conflicting(alike.values())
    copies = []
    for number, group in enumerate(group for group in alike.values() if len(group) > 1):
        differ = len({labels(place) for place in group}) > 1
        for name, row in group:
            text = task.splits[name].texts[row]
            names = tuple(task.labels[i] for i in labels((name, row)))
            copies.append(Copy(number, len(exact[text]) > 1, differ, name, row, names, text))
    across = {}
    for earlier, later in combinations(task.splits, 2):
        texts, known = set(task.splits[earlier].texts), set(keys[earlier])
        across[f"{later} in {earlier}"] = Same(
            sum(text in texts for text in task.splits[later].texts), sum(key in known for key in keys[later])
        )
    return Duplicates(
        {
            name: Same(len(part) - len(set(part.texts)), len(part) - len(set(keys[name])))
            for name, part in task.splits.items()
        },
        across,
        Same(len(conflicts), len(conflicts_alike)),
        Same(sum(conflicts), sum(conflicts_alike)),
        tuple(copies),
    )


def count_labels(task: LoadedTask) -> LabelCounts:
    """How often each label occurs in each split."""
    counts = {
        name: Counter(i for label in part.labels for i in label_numbers(label)) for name, part in task.splits.items()
    }
    rows = {label: {name: counts[name][i] for name in counts} for i, label in enumerate(task.labels)}
    missing = {name: tuple(label for label in rows if not rows[label][name]) for name in counts}
    learned = ["train"] if "train" in counts else list(counts)
    few = tuple(label for label, by_split in rows.items() if sum(by_split[name] for name in learned) < FEW_ROWS)
    return LabelCounts(rows, missing, few)


def find_label_words(task: LoadedTask) -> LabelWords:
    """Which texts contain the names of labels, as whole words and up to case and punctuation."""
    names = {i: normalized(label) for i, label in enumerate(task.labels)}
    named = {i: name for i, name in names.items() if name and not name.replace(" ", "").isdecimal()}
    own_by_split, other_by_split = {}, {}
    rows, own, found = Counter[int](), Counter[int](), Counter[int]()
    for split, part in task.splits.items():
        own_by_split[split] = other_by_split[split] = 0
        for text, label in zip(part.texts, part.labels, strict=True):
            given = set(label_numbers(label))
            words = f" {normalized(text)} "
            inside = {i for i, name in named.items() if f" {name} " in words}
            rows.update(given)
            found.update(inside)
            own.update(given & inside)
            own_by_split[split] += bool(given & inside)
            other_by_split[split] += bool(inside - given)
    by_label = tuple(LabelWord(label, rows[i], own[i], found[i]) for i, label in enumerate(task.labels) if i in named)
    unnamed = tuple(label for i, label in enumerate(task.labels) if i not in named)
    return LabelWords(own_by_split, other_by_split, by_label, unnamed)
