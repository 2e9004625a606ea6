"""Quality of a task's data, from texts and labels alone: lengths, duplicates, label counts, label names in texts.

A row has the `file` that it was read from, its `row` there from 0, as pandas counts, and its `line` from 1.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np

from fusion_classifier.tasks.loaded import LoadedTask, label_indices
from fusion_classifier.tasks.normalize import normalized, same_key

Row = dict[str, Any]  # a row of duplicates.csv
MIN_LABEL_ROWS = 10  # a label with fewer training rows is hardly learned, and hardly measured


def data_quality(task: LoadedTask) -> tuple[dict[str, Any], list[Row]]:
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


def measure_lengths(lengths: Iterable[int]) -> dict[str, float]:
    """Mean, median, 95% quantile `p95` and maximum; zeros for no texts."""
    array = np.array([*lengths] or [0])
    p95 = float(np.quantile(array, 0.95))
    return {"mean": float(array.mean()), "median": float(np.median(array)), "p95": p95, "max": int(array.max())}


def find_duplicates(task: LoadedTask) -> tuple[dict[str, Any], list[Row]]:
    """Counts of duplicated texts, each `exact` and `normalized` (ignoring case and punctuation), and their rows.

    `within`: rows of each split that repeat an earlier row of the same split. `across`: for "test in train" and so
    on, rows of the first split whose text is also in the second. `conflicting_texts`: texts with different labels,
    in `conflicting_rows`, over all splits.

    A row has the same `group` as the others with its text; `exact` is whether one of them is exactly the same, and
    `labels_differ` whether labels of the group differ.
    """
    exact, alike = defaultdict[str, list[Row]](list), defaultdict[str, list[Row]](list)
    for name, part in task.splits.items():
        for text, label, place in zip(part.texts, part.labels, part.places, strict=True):
            labels = ", ".join(task.labels[i] for i in label_indices(label))
            found: Row = {"split": name, **asdict(place), "label": labels, "text": text}
            exact[text].append(found)
            alike[same_key(text)].append(found)
    copies = []
    for group, rows in enumerate(rows for rows in alike.values() if len(rows) > 1):
        differ = _labels_differ(rows)
        for found in rows:
            copies.append({"group": group, "exact": len(exact[found["text"]]) > 1, "labels_differ": differ, **found})
    counts = (_count_duplicates(list(groups.values()), list(task.splits)) for groups in (exact, alike))
    return _side_by_side(*counts), copies


def _labels_differ(rows: list[Row]) -> bool:
    return len({row["label"] for row in rows}) > 1


def _count_duplicates(groups: list[list[Row]], splits: list[str]) -> dict[str, Any]:
    by_split = [Counter(row["split"] for row in rows) for rows in groups]
    conflicts = [len(rows) for rows in groups if _labels_differ(rows)]
    return {
        "within": {name: sum(max(n[name] - 1, 0) for n in by_split) for name in splits},
        "across": {
            f"{later} in {earlier}": sum(n[later] for n in by_split if n[earlier])
            for earlier, later in combinations(splits, 2)
        },
        "conflicting_texts": len(conflicts),
        "conflicting_rows": sum(conflicts),
    }


def _side_by_side(exact: dict[str, Any], normalized: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _side_by_side(value, normalized[key])
        if isinstance(value, dict)
        else {"exact": value, "normalized": normalized[key]}
        for key, value in exact.items()
    }


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
    few = [label for label, by_split in rows.items() if sum(by_split[name] for name in learned) < MIN_LABEL_ROWS]
    return {"rows": rows, "missing": missing, "few": few, "few_rows": MIN_LABEL_ROWS}


def find_label_words(task: LoadedTask) -> dict[str, Any]:
    """Texts that contain label names, as whole words, ignoring case and punctuation.

    `own` and `other`: rows of each split that contain the name of one of their labels, and of another label.
    `by_label`: over all splits, the number of `rows` with the label, of those that contain its name (`own`), and of
    all texts that contain it (`found`). `unnamed` labels are numbers or have no letter, and are not searched for.
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
