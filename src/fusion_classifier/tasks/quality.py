"""Quality of a task's data, from texts and labels alone: lengths, duplicates, label counts, label names in texts.

Rows are counted from 0 within their split, as in a run's `predictions.parquet`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from fusion_classifier.tasks.loaded import Label, LoadedTask
from fusion_classifier.tasks.normalize import normalized, same_key

FEW_ROWS = 10  # a label with fewer training rows is hardly learned, and hardly measured


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


def data_quality(task: LoadedTask) -> tuple[dict[str, Any], list[Copy]]:
    """All figures of this module, and the rows with a duplicated text."""
    duplicates, copies = find_duplicates(task)
    splits = {
        name: {
            "rows": len(part),
            "characters": measure_lengths(map(len, part.texts)),
            "words": measure_lengths(len(text.split()) for text in part.texts),
        }
        for name, part in task.splits.items()
    }
    figures = {"duplicates": duplicates, "labels": count_labels(task), "label_words": find_label_words(task)}
    return {"splits": splits} | figures, copies


def label_indices(label: Label) -> tuple[int, ...]:
    """The labels of a text as a tuple, also where a text has one."""
    return (label,) if isinstance(label, int) else label


def measure_lengths(lengths: Iterable[int]) -> dict[str, float]:
    """Mean, median, 95 % quantile `p95` and maximum; zeros for no texts."""
    array = np.fromiter(lengths, dtype=np.int64)
    if not len(array):
        return {"mean": 0.0, "median": 0.0, "p95": 0.0, "max": 0}
    p95 = float(np.quantile(array, 0.95))
    return {"mean": float(array.mean()), "median": float(np.median(array)), "p95": p95, "max": int(array.max())}


def find_duplicates(task: LoadedTask) -> tuple[dict[str, Any], list[Copy]]:
    """Counts of duplicated texts, each `exact` and `normalized` (up to case and punctuation), and their rows.

    `within`: rows of each split that repeat an earlier one of it. `across`: for "test in train" and so on, rows of
    the first split whose text is also in the second. `conflicting_texts`: texts with different labels, in
    `conflicting_rows`, over all splits.
    """
    texts = {name: part.texts for name, part in task.splits.items()}
    keys = {name: [same_key(text) for text in part] for name, part in texts.items()}
    exact, alike = _places(texts), _places(keys)

    def conflict(places: list[tuple[str, int]]) -> bool:
        return len({label_indices(task.splits[name].labels[row]) for name, row in places}) > 1

    copies = []
    for group, places in enumerate(places for places in alike.values() if len(places) > 1):
        differ = conflict(places)
        for name, row in places:
            text = texts[name][row]
            labels = tuple(task.labels[i] for i in label_indices(task.splits[name].labels[row]))
            copies.append(Copy(group, len(exact[text]) > 1, differ, name, row, labels, text))
    conflicts = [[len(places) for places in found.values() if conflict(places)] for found in (exact, alike)]
    figures = {
        "within": {
            name: _same(*(len(part[name]) - len(set(part[name])) for part in (texts, keys))) for name in texts
        },
        "across": {
            f"{later} in {earlier}": _same(*(_known(part[later], part[earlier]) for part in (texts, keys)))
            for earlier, later in combinations(texts, 2)
        },
        "conflicting_texts": _same(*map(len, conflicts)),
        "conflicting_rows": _same(*map(sum, conflicts)),
    }
    return figures, copies


def _same(exact: int, normalized: int) -> dict[str, int]:
    return {"exact": exact, "normalized": normalized}


def _places(texts: Mapping[str, Sequence[str]]) -> dict[str, list[tuple[str, int]]]:
    """Split and row of each text."""
    places = defaultdict(list)
    for name, part in texts.items():
        for row, text in enumerate(part):
            places[text].append((name, row))
    return places


def _known(later: Sequence[str], earlier: Sequence[str]) -> int:
    known = set(earlier)
    return sum(text in known for text in later)


def count_labels(task: LoadedTask) -> dict[str, Any]:
    """Rows of each label by split.

    `missing`: labels without a row, by split. `few`: labels with fewer than `few_rows` rows in train (in all splits
    if there is no train).
    """
    counts = {
        name: Counter(i for label in part.labels for i in label_indices(label)) for name, part in task.splits.items()
    }
    rows = {label: {name: counts[name][i] for name in counts} for i, label in enumerate(task.labels)}
    missing = {name: [label for label in rows if not rows[label][name]] for name in counts}
    learned = ["train"] if "train" in counts else list(counts)
    few = [label for label, by_split in rows.items() if sum(by_split[name] for name in learned) < FEW_ROWS]
    return {"rows": rows, "missing": missing, "few": few, "few_rows": FEW_ROWS}


def find_label_words(task: LoadedTask) -> dict[str, Any]:
    """Which texts contain label names, as whole words and up to case and punctuation.

    `own` and `other`: rows of each split that contain the name of one of their labels, and of another label.
    `by_label`: over all splits, `rows` with the label, of these the `own` that contain its name, and all texts where
    it is `found`. `unnamed` labels are numbers or have no letter, and are not looked for.
    """
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
    return {
        "own": own_by_split,
        "other": other_by_split,
        "by_label": [{"label": task.labels[i], "rows": rows[i], "own": own[i], "found": found[i]} for i in named],
        "unnamed": [label for i, label in enumerate(task.labels) if i not in named],
    }
