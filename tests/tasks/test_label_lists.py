"""Lists of labels in cells of text are read as what they are, or refused; never cut at their commas."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion_classifier.config import TaskConfig
from fusion_classifier.errors import DataError
from fusion_classifier.tasks.label_lists import parse_list
from fusion_classifier.tasks.labels import read_labelled

LABELS = st.lists(st.text(st.sampled_from("ab '\",[]{}\\|é:"), max_size=8), max_size=5)


@given(LABELS)
def test_what_python_json_and_numpy_write_comes_back(labels: list[str]) -> None:
    assert parse_list(repr(labels)) == labels
    assert parse_list(json.dumps(labels)) == labels
    assert parse_list(str(np.array(labels, dtype=object))) == labels
    assert parse_list(repr(np.array(labels, dtype=object))) == labels
    assert parse_list(repr([np.str_(label) for label in labels])) == labels


@given(LABELS)
def test_what_postgresql_writes_comes_back(labels: list[str]) -> None:
    quoted = ['"' + label.replace("\\", "\\\\").replace('"', '\\"') + '"' for label in labels]
    # In double quotes an element may be anything; `{'a'}` without them is taken for a set of Python.
    assert parse_list("{" + ",".join(quoted) + "}") == labels


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("['Billing', 'refund']", ["Billing", "refund"]),
        ("[]", []),
        ("{}", []),
        ("set()", []),
        ("{a,b}", ["a", "b"]),
        ("{very sad, joy}", ["very sad", "joy"]),
        ("('a', 'b')", ["a", "b"]),
        ("('a',)", ["a"]),
        ("frozenset({'a'})", ["a"]),
        ("['a'\n 'b']", ["a", "b"]),
        ("[0 1]", [0, 1]),
        ("[0. 1.]", [0, 1]),
        ("[np.int64(3)]", [3]),
        ("(other)", None),
        ("(1)", None),
        ("joy, calm", None),
        ("", None),
        ("[", None),
    ],
)
def test_notations(cell: str, expected: list[object] | None) -> None:
    assert parse_list(cell) == expected


@pytest.mark.parametrize(
    "cell",
    [
        "[joy, calm]",
        "[bug],[ui]",
        '{"a": 1}',
        "{a,NULL}",
        "{a,}",
        "['a', None]",
        "['a' 'b', 'c']",
        "[[1]]",
        "['a' ... 'b']",
    ],
)
def test_brackets_without_a_list_are_refused(cell: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - parse_list documents no other
        parse_list(cell)


def labels_of(folder: Path, cells: list[str], **options: object) -> list[tuple[str, ...]]:
    path = folder / "a.csv"
    quoted = ['"' + cell.replace('"', '""') + '"' for cell in cells]
    path.write_text("text,label\n" + "".join(f"text {i},{cell}\n" for i, cell in enumerate(quoted)), "utf-8")
    config = TaskConfig(name=str(path), **options)  # type: ignore[arg-type]
    return [row.labels for row in read_labelled(path, config).rows]


def test_a_column_may_mix_lists_and_joined_names(tmp_path: Path) -> None:
    cells = ["['Billing', 'refund']", "[]", '["a, b"]', "{joy,calm}", "joy, calm", "", "[0 1]"]
    assert labels_of(tmp_path, cells, multilabel=True) == [
        *(("Billing", "refund"), (), ("a, b",), ("joy", "calm"), ("joy", "calm"), (), ("0", "1")),
    ]


@pytest.mark.parametrize(
    ("cell", "multilabel", "said"),
    [
        ("[joy, calm]", True, "in brackets, but not a valid list; write"),
        ("['joy', 'joy']", True, "label 'joy' is duplicated; keep one"),
        ("[0, 1, 0, 0]", True, "`label_columns`"),
        ("['joy', 'calm']", False, "the label is the list \"['joy', 'calm']\"; set `multilabel`"),
    ],
)
def test_other_cells_are_errors_with_the_way_out(tmp_path: Path, cell: str, multilabel: bool, said: str) -> None:
    with pytest.raises(DataError) as caught:
        labels_of(tmp_path, ["joy", cell], multilabel=multilabel)
    assert "a.csv, line 3" in str(caught.value)
    assert said in str(caught.value)


def test_a_name_in_brackets_is_a_name_where_one_label_is_read(tmp_path: Path) -> None:
    assert labels_of(tmp_path, ["[laughs]", "(other)"]) == [("[laughs]",), ("(other)",)]
