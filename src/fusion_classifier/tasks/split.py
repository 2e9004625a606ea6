"""Stratified splits by seed.

Texts that are equal, ignoring case and punctuation, stay in the same split: otherwise a memorized text could be in
test. A text with several labels is stratified by the rarest one, so that rare labels reach every split.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from fusion_classifier.errors import DataError
from fusion_classifier.support.text import counted
from fusion_classifier.tasks.loaded import Split, label_indices, rarest_label, targets
from fusion_classifier.tasks.normalize import same_key

VALID_FRACTION = 0.1
TEST_FRACTION = 0.1
MIN_ROWS_TO_SPLIT = 10
CROSS_VALIDATED_ROWS = 1000  # rows of a single file up to which a cross-validation is better than held-out splits
RARE_ROWS = 3  # a label with so few can hardly be learnt and measured
MAX_SHOWN = 5  # labels in a note


def split_rows(whole: Split, seed: int, source: str = "the data") -> dict[str, Split]:
    """Train, valid and test of one set of rows: 80, 10 and 10%."""
    check_enough(whole, source)
    rest, test = _divide(whole, TEST_FRACTION, seed)
    train, valid = _divide(rest, VALID_FRACTION / (1 - TEST_FRACTION), seed)
    return {"train": train, "valid": valid, "test": test}


def hold_out(splits: dict[str, Split], seed: int, source: str = "the data") -> tuple[dict[str, Split], str]:
    """The same splits with a tenth of train held out as valid, and a note for the user."""
    check_enough(splits["train"], source)
    train, valid = _divide(splits["train"], VALID_FRACTION, seed)
    note = (
        f"{source} has no validation split: {counted(len(valid), 'row')} of train held out by seed {seed}, stratified"
    )
    return {"train": train, "valid": valid} | {name: s for name, s in splits.items() if name != "train"}, note


def rare_labels_note(splits: Mapping[str, Split], labels: Sequence[str]) -> str | None:
    """Which labels have 1 to 3 rows, and where a split by seed has put them; None if there are none."""
    counts = {
        name: Counter(i for label in part.labels for i in label_indices(label)) for name, part in splits.items()
    }
    totals = sum(counts.values(), Counter[int]())
    rare = [i for i in range(len(labels)) if 0 < totals[i] <= RARE_ROWS]
    if not rare:
        return None
    places = [", ".join(f"{counts[name][i]} in {name}" for name in counts if counts[name][i]) for i in rare]
    shown = "; ".join(f"{labels[i]!r} {place}" for i, place in zip(rare[:MAX_SHOWN], places, strict=False))
    more = f"; and {len(rare) - MAX_SHOWN:,} more labels" if len(rare) > MAX_SHOWN else ""
    return f"labels with {RARE_ROWS} rows or fewer, too few to learn and measure them well: {shown}{more}"


def check_enough(whole: Split, source: str) -> None:
    """Check that some rows can be held out."""
    by_label = Counter(dict(zip(map(same_key, whole.texts), _strata(whole), strict=True)).values())
    if by_label.total() >= MIN_ROWS_TO_SPLIT and max(by_label.values()) < 3:
        raise DataError(
            f"{source}: no label has three different texts ({len(by_label):,} labels for {by_label.total():,}): "
            "so there is nothing to hold out; is `label_column` the right one?"
        )
    if by_label.total() < MIN_ROWS_TO_SPLIT:
        raise DataError(
            f"{source}: {counted(by_label.total(), 'different text')}, too few to hold out a split; "
            f"give at least {MIN_ROWS_TO_SPLIT}, with three or more per label"
        )


def _divide(whole: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Two parts, the second with the texts of `held_out`."""
    keys = [same_key(text) for text in whole.texts]
    held = held_out(keys, _strata(whole), fraction, seed)
    rest, part = ([i for i, key in enumerate(keys) if (key in held) == inside] for inside in (False, True))
    return whole.take(rest), whole.take(part)


def held_out(rows: Sequence[Hashable], strata: Sequence[int], fraction: float, seed: int) -> set[Hashable]:
    """About `fraction` of the distinct rows, stratified; empty if no stratum has two distinct rows.

    A stratum with fewer than two distinct rows is never held out: it can't be in both parts.
    """
    from sklearn.model_selection import train_test_split  # noqa: PLC0415 - slow to import

    first_label: dict[Hashable, int] = {}
    for row, label in zip(rows, strata, strict=True):
        first_label.setdefault(row, label)
    counts = Counter(first_label.values())
    texts = np.array([row for row, label in first_label.items() if counts[label] >= 2], dtype=object)
    if not len(texts):
        return set()
    labels = np.array([first_label[text] for text in texts])
    # Each part needs a row of every stratum, so the held-out part is at least as large as there are labels.
    n_strata = len(set(labels.tolist()))
    size = min(max(round(fraction * len(texts)), n_strata), len(texts) // 2)
    _, held = train_test_split(
        texts, test_size=size, random_state=seed, stratify=labels if size >= n_strata else None
    )
    return set(held.tolist())


def _strata(whole: Split) -> list[int]:
    """The label that each row is stratified by."""
    n_labels = 1 + max((i for label in whole.labels for i in label_indices(label)), default=0)
    return list(map(int, rarest_label(targets(whole.labels, n_labels))))
