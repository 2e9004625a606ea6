"""Labels that look like ids, dates, quantities or several labels are doubted; those of usual data are not."""

from dataclasses import replace

import pytest

from fusion_classifier.tasks.doubts import data_doubts
from fusion_classifier.tasks.loaded import LoadedTask, RowPlace, Split


def task_of(labels: list[str]) -> LoadedTask:
    """One row for each of these labels."""
    names = tuple(dict.fromkeys(labels))
    split = Split(tuple(f"text {i}" for i in range(len(labels))), tuple(names.index(label) for label in labels))
    return LoadedTask("some", names, {"train": split}, "some.csv")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([f"user-{i}" for i in range(40)] + ["user-0", "user-1"], "look like ids: 40 different ones on 42 rows"),
        (["news"] * 50 + ["sport"] * 50 + [f"free {i}" for i in range(20)], "20 of 22 have one row"),
        ([f"2024-02-{i % 20 + 1:02d}" for i in range(200)], "All 20 labels are dates"),
        ([f"{i % 9 + 1}.3.2021" for i in range(200)], "All 9 labels are dates"),
        ([f"202403{i % 9 + 10}" for i in range(200)], "All 9 labels are dates"),
        ([f"{i % 30 / 4}" for i in range(300)], "all 30 are numbers, some with decimals"),
        ([str(1000 + i % 50) for i in range(150)], "consecutive numbers with 3.0 rows each"),
    ],
)
def test_what_is_no_class_is_doubted(labels: list[str], said: str) -> None:
    (doubt,) = data_doubts(task_of(labels))
    assert said in doubt
    assert "`label_column`" in doubt


@pytest.mark.parametrize("other", ["Billing", "billing ", "BILLING", "b\uff49lling"])
def test_labels_that_are_written_in_two_ways_are_doubted(other: str) -> None:
    (doubt,) = data_doubts(task_of(["billing", "praise"] * 20 + [other]))
    assert f"'billing', {other!r}." in doubt


def test_every_label_written_in_two_ways_is_shown() -> None:
    (doubt,) = data_doubts(task_of(["billing", "praise"] * 20 + ["Billing", "Praise"]))
    assert "'billing', 'Billing'; 'praise', 'Praise'." in doubt


@pytest.mark.parametrize(
    "labels",
    [
        ["joy", "anger"] * 20,
        [str(i % 5 + 1) for i in range(40)],  # stars
        [f"{i % 9 / 2}" for i in range(90)],  # half stars
        [str(i % 150) for i in range(1500)],  # numbered intents
        [str(2000 + i % 20) for i in range(400)],  # years are numbers
        ["joy"] * 20 + ["anger"] * 10 + ["pride", "grief"],  # rare ones
        ["a", "b", "c"],  # each with one row, but few
        [f"intent {i % 77}" for i in range(200)],
        ["refund (partial)", "(other)", "none"] * 5,
    ],
)
def test_usual_labels_are_not(labels: list[str]) -> None:
    assert data_doubts(task_of(labels)) == []


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (
            ["['Billing'", "'refund']"] * 20,
            "2 labels with brackets or quotes at the start or end, such as \"['Billing'\"",
        ),
        (["joy", "anger)"] * 20, "1 label with brackets or quotes at the start or end, such as 'anger)'"),
        (["joy", "None"] * 20, "The label 'None' looks like a missing value"),
        (["joy", "n/a"] * 20, "The label 'n/a' looks like a missing value"),
        (["joy", "\\N"] * 20, "The label '\\\\N' looks like a missing value"),
        (["joy", "joy|anger"] * 20, "No text has several labels, and 'joy|anger' looks like several"),
    ],
)
def test_notation_within_labels_is_doubted(labels: list[str], said: str) -> None:
    (doubt,) = data_doubts(task_of(labels))
    assert said in doubt


@pytest.mark.parametrize("both", ["billing/shipping", "Shipping ; billing", "billing|shipping", "billing + shipping"])
def test_two_labels_in_one_cell_are_doubted_by_line(both: str) -> None:
    task = task_of(["billing", "shipping"] * 3 + [both])
    train = task.splits["train"]
    places = tuple(RowPlace("tickets.csv", row, row + 2) for row in range(len(train)))
    (doubt,) = data_doubts(replace(task, splits={"train": replace(train, places=places)}))
    assert f"Several labels seem to be in one cell, such as {both!r} (tickets.csv, line 8)" in doubt
    assert "`label_separator`" in doubt


@pytest.mark.parametrize("text", ["NaN", " nan ", "<NA>", "#N/A", "NULL"])
def test_a_text_like_a_missing_value_is_doubted_and_kept(text: str) -> None:
    split = Split(("nice", text), (0, 1))
    (doubt,) = data_doubts(LoadedTask("some", ("a", "b"), {"train": split}, "some.csv"))
    assert f"1 text like {text.strip()!r}, which" in doubt
    assert "row 1" in doubt


def test_rows_of_a_cross_validation_are_counted_once() -> None:
    split = Split(("nice", "nan"), (0, 1))
    task = LoadedTask("some", ("a", "b"), {"train": split, "valid": split}, "some.csv", cross_validated=True)
    assert data_doubts(task)[0].startswith("1 text")


def test_rows_that_a_stray_quote_has_joined_are_doubted() -> None:
    joined = "i am so happy,joy\nwhat a day,anger\nlove this song"
    mail = "Dear Bob,\nI am full of anger,\nand joy.\n\nYours, Al"
    names = ("joy", "anger")
    texts = tuple(f"text {i}" for i in range(20))
    task = LoadedTask("some", names, {"train": Split((*texts, mail), (0, 1) * 10 + (0,))}, "some.csv")
    assert data_doubts(task) == []
    task = LoadedTask("some", names, {"train": Split((*texts, joined), (0, 1) * 10 + (0,))}, "some.csv")
    assert "1 text with lines that end in a label, such as 'i am so happy,joy'" in data_doubts(task)[0]
