"""What the data alone tells: duplicates, conflicting labels, counts, lengths, label names in texts."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion_classifier.evaluation.overlap import overlap
from fusion_classifier.tasks.loaded import LoadedTask, Split, label_indices
from fusion_classifier.tasks.quality import (
    MIN_LABEL_ROWS,
    count_labels,
    data_quality,
    find_duplicates,
    find_label_words,
    measure_lengths,
)

LABELS = ("anger", "fear", "joy")
ROWS = st.lists(
    st.tuples(st.sampled_from(["a", "A", "a!", "b", "b b", "B  b", "😀", "joy of fear"]), st.integers(0, 2)),
    max_size=12,
)


def task_of(labels: tuple[str, ...] = LABELS, **splits: list[tuple[str, int]]) -> LoadedTask:
    parts = {name: Split(tuple(t for t, _ in rows), tuple(i for _, i in rows)) for name, rows in splits.items()}
    return LoadedTask("made up", labels, parts, "nowhere")


def test_no_model_is_needed() -> None:
    code = "import sys, fusion_classifier.tasks.quality; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Duplicates.


def test_copies_are_counted_exact_and_normalized() -> None:
    found, copies = find_duplicates(
        task_of(
            train=[("we won", 2), ("we won", 2), ("We won!", 2), ("it is dark", 1)],
            test=[("we won", 2), ("IT IS DARK", 1), ("other", 0)],
        )
    )
    assert found["within"] == {"train": {"exact": 1, "normalized": 2}, "test": {"exact": 0, "normalized": 0}}
    assert found["across"] == {"test in train": {"exact": 1, "normalized": 2}}
    assert found["conflicting_texts"] == {"exact": 0, "normalized": 0}
    assert [tuple(c[key] for key in ("group", "split", "row", "exact")) for c in copies] == [
        (0, "train", 0, True),
        (0, "train", 1, True),
        (0, "train", 2, False),
        (0, "test", 0, True),
        (1, "train", 3, False),
        (1, "test", 1, False),
    ]


def test_the_same_text_with_different_labels_is_a_conflict() -> None:
    found, copies = find_duplicates(
        task_of(train=[("so dark", 1), ("so dark", 1), ("So dark.", 0)], test=[("so dark", 2)])
    )
    assert found["conflicting_texts"] == {"exact": 1, "normalized": 1}
    assert found["conflicting_rows"] == {"exact": 3, "normalized": 4}
    assert all(copy["labels_differ"] for copy in copies)
    assert [copy["label"] for copy in copies] == ["fear", "fear", "anger", "joy"]


@given(train=ROWS, valid=ROWS, test=ROWS)
def test_duplicates_agree_with_the_overlap_of_evaluation(
    train: list[tuple[str, int]], valid: list[tuple[str, int]], test: list[tuple[str, int]]
) -> None:
    task = task_of(train=train, valid=valid, test=test)
    found, _ = find_duplicates(task)
    assert list(found["across"]) == ["valid in train", "test in train", "test in valid"]
    for name, same in found["across"].items():
        later, _, earlier = name.split()
        assert same["normalized"] == overlap(task.splits[later].texts, task.splits[earlier].texts).sum()
        assert same["exact"] == sum(text in task.splits[earlier].texts for text in task.splits[later].texts)
        assert same["exact"] <= same["normalized"]
    for name, part in task.splits.items():
        assert found["within"][name]["exact"] == len(part) - len(set(part.texts))
        assert found["within"][name]["exact"] <= found["within"][name]["normalized"]


@given(train=ROWS, test=ROWS)
def test_copies_are_all_rows_with_a_duplicated_text(
    train: list[tuple[str, int]], test: list[tuple[str, int]]
) -> None:
    task = task_of(train=train, test=test)
    _, copies = find_duplicates(task)
    places = [(copy["split"], copy["row"]) for copy in copies]
    assert len(set(places)) == len(places)
    assert all(task.splits[copy["split"]].texts[copy["row"]] == copy["text"] for copy in copies)
    alone = {
        (name, row)
        for name, part in task.splits.items()
        for row, text in enumerate(part.texts)
        if sum(overlap([text], [other])[0] for p in task.splits.values() for other in p.texts) == 1
    }
    everywhere = {(name, row) for name, part in task.splits.items() for row in range(len(part))}
    assert set(places) == everywhere - alone


def test_several_labels_a_text_conflict_where_their_sets_do() -> None:
    assert label_indices(3) == (3,)
    assert label_indices((0, 2)) == (0, 2)


# Counts.


def test_missing_and_rare_labels_are_named() -> None:
    many = [("x", 0)] * MIN_LABEL_ROWS
    found = count_labels(task_of(train=[*many, ("y", 1)], test=[("z", 2)]))
    assert found["rows"]["anger"] == {"train": MIN_LABEL_ROWS, "test": 0}
    assert found["missing"] == {"train": ["joy"], "test": ["anger", "fear"]}
    assert found["few"] == ["fear", "joy"]


def test_without_a_train_split_all_rows_count_as_learned_from() -> None:
    found = count_labels(task_of(valid=[("x", 0)] * 6, test=[("x", 0)] * 6))
    assert found["few"] == ["fear", "joy"]


@given(train=ROWS, test=ROWS)
def test_counts_add_up_to_the_rows(train: list[tuple[str, int]], test: list[tuple[str, int]]) -> None:
    found = count_labels(task_of(train=train, test=test))
    assert sum(by_split["train"] for by_split in found["rows"].values()) == len(train)
    assert sum(by_split["test"] for by_split in found["rows"].values()) == len(test)


# Lengths.


@given(st.lists(st.integers(0, 1000), min_size=1))
def test_lengths_are_numpys(lengths: list[int]) -> None:
    found = measure_lengths(lengths)
    assert found["mean"] == pytest.approx(np.mean(lengths))
    assert found["median"] == np.median(lengths)
    assert found["p95"] == pytest.approx(np.quantile(lengths, 0.95))
    assert found["max"] == max(lengths)


def test_an_empty_split_has_no_length() -> None:
    assert measure_lengths([]) == {"mean": 0, "median": 0, "p95": 0, "max": 0}


def test_characters_and_words_are_those_of_the_given_text() -> None:
    figures = data_quality(task_of(train=[("so  dark!", 1), ("dark", 1)], test=[]))[0]["splits"]
    assert figures["train"]["characters"]["max"] == 9
    assert figures["train"]["words"]["max"] == 2
    assert figures["test"]["rows"] == 0


# Label names in texts.


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("Joy!", True),
        ("what a JOY, really", True),
        ("joyful", False),
        ("killjoy", False),
        ("j o y", False),
    ],
)
def test_a_name_is_found_as_a_whole_word(text: str, inside: bool) -> None:
    found = find_label_words(task_of(train=[(text, 2)]))
    assert found["own"] == {"train": int(inside)}
    assert found["other"] == {"train": 0}


def test_own_and_other_names_are_told_apart() -> None:
    found = find_label_words(task_of(train=[("joy", 2), ("joy and fear", 2), ("fear", 0), ("nothing", 1)]))
    assert found["own"] == {"train": 2}
    assert found["other"] == {"train": 2}
    joy = next(word for word in found["by_label"] if word["label"] == "joy")
    assert [joy[key] for key in ("rows", "own", "found")] == [2, 2, 2]
    fear = next(word for word in found["by_label"] if word["label"] == "fear")
    assert [fear[key] for key in ("rows", "own", "found")] == [1, 0, 2]


def test_names_of_several_words_are_found_numbers_are_not() -> None:
    labels = ("very_sad", "12", "👍")
    found = find_label_words(task_of(labels, train=[("I am Very Sad.", 0), ("12 👍", 1), ("sad, very", 0)]))
    assert found["own"] == {"train": 1}
    assert found["unnamed"] == ["12", "👍"]
