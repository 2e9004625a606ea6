"""Splits by seed: disjoint, complete, stratified, the same for the same seed, equal texts together."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_classifier.errors import DataError
from fusion_classifier.tasks.loaded import Label, Split
from fusion_classifier.tasks.normalize import same_key
from fusion_classifier.tasks.split import MIN_ROWS_TO_SPLIT, hold_out, rare_labels_note, split_rows


@st.composite
def wholes(draw: st.DrawFn) -> Split:
    """Rows with doubled texts, some of them under two labels."""
    n_labels = draw(st.integers(1, 5))
    rows = [(f"text {number}", number % n_labels) for number in range(draw(st.integers(40, 90)))]
    again = st.tuples(st.sampled_from([text for text, _ in rows]), st.integers(0, n_labels - 1))
    rows += draw(st.lists(again, max_size=30))
    rows = draw(st.permutations(rows))
    return Split(tuple(text for text, _ in rows), tuple(label for _, label in rows))


def rows_of(split: Split) -> Counter[tuple[str, Label]]:
    return Counter(zip(split.texts, split.labels, strict=True))


def example(*counts: int) -> Split:
    """So many distinct texts of each label."""
    rows = [(f"{label} {number}", label) for label, count in enumerate(counts) for number in range(count)]
    return Split(tuple(text for text, _ in rows), tuple(label for _, label in rows))


SEEDS = st.integers(0, 2**32 - 1)


@settings(deadline=None)
@given(whole=wholes(), seed=SEEDS)
def test_parts_hold_every_row_once(whole: Split, seed: int) -> None:
    parts = split_rows(whole, seed)
    assert list(parts) == ["train", "valid", "test"]
    assert sum((rows_of(part) for part in parts.values()), Counter()) == rows_of(whole)


@settings(deadline=None)
@given(whole=wholes(), seed=SEEDS)
def test_equal_texts_stay_together(whole: Split, seed: int) -> None:
    """Whatever their labels: no text stands in two parts."""
    parts = [set(part.texts) for part in split_rows(whole, seed).values()]
    assert sum(len(part) for part in parts) == len(set.union(*parts))


@pytest.mark.parametrize("seed", range(3))
def test_copies_in_another_case_stay_together(seed: int) -> None:
    texts = [f"words of row {number}" for number in range(200)]
    rows = [(text, number % 4) for number, text in enumerate(texts)]
    rows += [(f"{text.capitalize()}!", label) for text, label in rows]
    whole = Split(tuple(text for text, _ in rows), tuple(label for _, label in rows))
    parts = split_rows(whole, seed)
    assert {name: len(part) for name, part in parts.items()} == {"train": 320, "valid": 40, "test": 40}
    alike = [{same_key(text) for text in part.texts} for part in parts.values()]
    assert sum(map(len, alike)) == len(set.union(*alike)) == 200
    without = Split(whole.texts[:200], whole.labels[:200])
    for name, part in split_rows(without, seed).items():  # the copies change nothing for the others
        assert [text for text in parts[name].texts if text in texts] == list(part.texts)


@settings(deadline=None)
@given(whole=wholes(), seed=SEEDS)
def test_rows_keep_their_order(whole: Split, seed: int) -> None:
    for part in split_rows(whole, seed).values():
        kept = set(part.texts)
        wanted = [row for row in zip(whole.texts, whole.labels, strict=True) if row[0] in kept]
        assert list(zip(part.texts, part.labels, strict=True)) == wanted


@settings(deadline=None, max_examples=30)
@given(whole=wholes(), seed=SEEDS)
def test_same_seed_same_split(whole: Split, seed: int) -> None:
    assert split_rows(whole, seed) == split_rows(whole, seed)
    assert hold_out({"train": whole}, seed) == hold_out({"train": whole}, seed)


def test_other_seed_other_split() -> None:
    whole = example(50, 50)
    assert len({split_rows(whole, seed)["test"].texts for seed in range(10)}) == 10


@settings(deadline=None)
@given(counts=st.lists(st.integers(20, 120), min_size=1, max_size=5), seed=SEEDS)
def test_split_is_stratified(counts: list[int], seed: int) -> None:
    """Each part has a tenth of every label, to within a row."""
    parts = split_rows(example(*counts), seed)
    for label, count in enumerate(counts):
        for name in ("valid", "test"):
            assert abs(parts[name].labels.count(label) - count / 10) <= 1.5


@settings(deadline=None)
@given(counts=st.lists(st.integers(1, 12), min_size=2, max_size=12), seed=SEEDS)
def test_train_has_every_label_however_rare(counts: list[int], seed: int) -> None:
    whole = example(40, *counts)
    assert set(split_rows(whole, seed)["train"].labels) == set(whole.labels)


def test_label_with_one_text_stays_in_train() -> None:
    for seed in range(20):
        parts = split_rows(example(30, 30, 1), seed)
        assert parts["train"].labels.count(2) == 1


def test_sizes_are_80_10_10_of_the_different_texts() -> None:
    whole = example(500, 300, 200)
    doubled = Split(whole.texts + whole.texts[:500] * 3, whole.labels + whole.labels[:500] * 3)
    for rows in (whole, doubled):
        parts = split_rows(rows, 0)
        assert {name: len(set(part.texts)) for name, part in parts.items()} == {
            "train": 800,
            "valid": 100,
            "test": 100,
        }


def test_held_out_part_has_room_for_every_label() -> None:
    """20 labels with 3 texts each: a tenth would be 6 texts."""
    parts = split_rows(example(*[3] * 20), 0)
    assert len(set(parts["test"].labels)) == 20
    assert len(set(parts["train"].labels)) == 20


def test_hold_out_takes_a_tenth_of_train_and_leaves_test_alone() -> None:
    train, test = example(60, 40), Split(("test",), (0,))
    splits, note = hold_out({"train": train, "test": test}, 0)
    assert "10 rows" in note
    assert list(splits) == ["train", "valid", "test"]
    assert splits["test"] == test
    assert (len(splits["train"]), len(splits["valid"])) == (90, 10)
    assert rows_of(splits["train"]) + rows_of(splits["valid"]) == rows_of(train)
    assert Counter(splits["valid"].labels) == {0: 6, 1: 4}


@pytest.mark.parametrize("rows", [MIN_ROWS_TO_SPLIT, MIN_ROWS_TO_SPLIT + 1, MIN_ROWS_TO_SPLIT + 2])
def test_as_many_texts_as_the_error_asks_for_are_enough(rows: int) -> None:
    half = rows // 2
    parts = split_rows(example(half, rows - half), 0)
    assert sum(len(part) for part in parts.values()) == rows
    assert all(len(part) for part in parts.values())


@pytest.mark.parametrize("rows", [1, 2, MIN_ROWS_TO_SPLIT - 1])
def test_too_few_texts_are_an_error_with_their_number(rows: int) -> None:
    """Rows that repeat a text don't help."""
    few = example(rows)
    for whole in (few, Split(few.texts * 20, few.labels * 20)):
        with pytest.raises(
            DataError, match=f"the data: {rows} different texts?, too few .* at least {MIN_ROWS_TO_SPLIT}"
        ):
            split_rows(whole, 0)
        with pytest.raises(DataError, match=f"the data: {rows} different texts?, too few"):
            hold_out({"train": whole}, 0)


def test_texts_each_with_a_label_of_its_own_can_not_be_split() -> None:
    with pytest.raises(DataError, match=r"no label has three different texts \(30 labels for 30\).*`label_column`"):
        split_rows(example(*[1] * 30), 0)


@given(seed=SEEDS)
@settings(deadline=None, max_examples=10)
def test_labels_of_one_to_three_rows_are_split_and_named(seed: int) -> None:
    """Each has a row to learn from, and the note says where every row went."""
    whole = example(100, 60, 34, 1, 2, 3)
    for parts in (split_rows(whole, seed), hold_out({"train": whole}, seed)[0]):
        assert {3, 4, 5} <= set(parts["train"].labels)
        note = rare_labels_note(parts, ["a", "b", "c", "one", "two", "three"])
        assert note is not None
        for number, name in ((3, "one"), (4, "two"), (5, "three")):
            counts = {part: split.labels.count(number) for part, split in parts.items()}
            places = ", ".join(f"{count} in {part}" for part, count in counts.items() if count)
            assert f"{name!r} {places}" in note
        assert "'a'" not in note


def test_of_many_rare_labels_some_are_named() -> None:
    whole = example(30, *[2] * 9)
    note = rare_labels_note({"train": whole}, [f"label {i}" for i in range(10)])
    assert note is not None
    assert note.count("'") == 10
    assert note.endswith("; and 4 more labels")
    assert rare_labels_note({"train": example(4, 5)}, ["a", "b"]) is None
