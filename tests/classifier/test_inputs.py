"""Texts, labels and weights as `fit` takes them."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fusion_classifier import FusionClassifier, FusionHeadClassifier
from fusion_classifier.classifier.inputs import (
    check_texts,
    encode_labels,
    normalized,
    row_weights,
    used_rows,
    validation_rows,
)
from fusion_classifier.errors import DataError, UsageError


class Frame:
    """As much of a table of pandas or polars as is asked of it."""

    def __init__(self, columns: dict[Any, list[Any]]) -> None:
        self.columns = list(columns)
        self._of = columns
        self._values = np.array(list(columns.values())).T

    def to_numpy(self) -> np.ndarray:
        return self._values

    def __getitem__(self, name: Any) -> list[Any]:
        return self._of[name]


@pytest.mark.parametrize(
    ("labels", "classes", "kind"),
    [
        (["b", "a", "b"], ["a", "b"], "U"),
        (np.array(["b", "a", "b"], dtype=object), ["a", "b"], "U"),
        ([3, 1, 3], [1, 3], "i"),
        (np.array([3, 1, 3], dtype=np.uint8), [1, 3], "u"),
        ([2.0, 1.0, 2.0], [1.0, 2.0], "f"),
        ([0.25, 1, 0.25], [0.25, 1.0], "f"),
        ([True, False, True], [False, True], "b"),
        (np.array([True, False, True]), [False, True], "b"),
    ],
)
def test_one_label_per_row(labels: Any, classes: list[Any], kind: str) -> None:
    found, targets = encode_labels(labels, "y", 3)
    assert found.tolist() == classes
    assert found.dtype.kind == kind
    assert [found[i] for i in targets] == list(labels)
    again, _ = encode_labels(labels, "y_valid", 3, found)
    assert again is found


def test_the_dtype_of_an_array_is_kept() -> None:
    assert encode_labels(np.array([3, 1], dtype=np.int16), "y", 2)[0].dtype == np.int16
    assert encode_labels(np.array([0.5, 1], dtype=np.float32), "y", 2)[0].dtype == np.float32


@pytest.mark.parametrize("missing", [None, float("nan"), np.float64("nan")])
def test_missing_values_are_named_with_their_index(missing: object) -> None:
    with pytest.raises(DataError, match=r"y\[17\]` is missing"):
        encode_labels([*["a", "b"] * 8, "a", missing, "b"], "y", 19)
    with pytest.raises(DataError, match=r"y\[1\]"):
        encode_labels(np.array([1.0, np.nan if missing is None else missing]), "y", 2)
    with pytest.raises(DataError, match=r"X\[3\]` is missing"):
        check_texts(["a", "b", "c", missing], "X")
    with pytest.raises(DataError, match=r"X\[1027\]"):
        check_texts(["a", "b", "c", missing], "X", 1024)


def test_all_rows_that_cannot_be_used_are_in_one_message() -> None:
    texts: list[object] = ["a", None, "b", " ", 3, "c"]
    with pytest.raises(
        DataError, match=r"X\[1\]` is missing \(None\); 3 rows can't be used: 1, 3, 4; leave them out"
    ):
        check_texts(texts, "X")
    with pytest.raises(DataError, match=r"y\[0\]` is missing .*; 30 rows can't be used: 0, 2, .*, 38, …; leave"):
        encode_labels([None, "b"] * 30, "y", 60)


def test_missing_values_of_pandas_are_named() -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(DataError, match=r"y\[1\]` is missing"):
        encode_labels(pandas.Series(["a", None, "b"], dtype="string"), "y", 3)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", 1, "b"], r"y\[1\]`: 1 is an integer; expected a string"),
        ([True, 1, False], r"y\[1\]`: 1 is an integer; expected a bool"),
        (["a", b"\xff", "c"], r"y\[1\]`: .*bytes"),
        (["a", "b"], "2 labels for 3 rows"),
        (["a", "a", "a"], "two different labels"),
        ([["a"], "b", ["c"]], r"y\[1\]`: 'b' is not a list"),
        ([["a"], [1], ["c"]], r"y\[1\]"),
        (np.array([[0, 1], [1, 0], [2, 0]]), r"y\[2\]`: 2 in column 0"),
        (np.array([[0, 1], [1, np.nan], [1, 0]]), r"y\[1\]`: nan in column 1"),
        (Frame({"joy": [0, 1, 1], "fear": [0, 5, 1]}), r"y\[1\]`: 5 in column fear"),
        (Frame({"joy": [1, 1, 1]}), "two different labels"),
    ],
)
def test_labels_that_can_not_be_used(labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        encode_labels(labels, "y", 3)


def test_several_labels_per_row() -> None:
    expected = [[0, 1], [1, 0], [0, 0]]
    for labels in (expected, np.array(expected), np.array(expected, dtype=bool), np.array(expected, dtype=float)):
        classes, targets = encode_labels(labels, "y", 3)
        assert classes.tolist() == [0, 1]
        assert targets.tolist() == expected
    classes, targets = encode_labels([["joy"], ("fear",), set()], "y", 3)
    assert classes.tolist() == ["fear", "joy"]
    assert targets.tolist() == expected


def test_a_table_keeps_its_column_names_in_their_order() -> None:
    classes, targets = encode_labels(Frame({"joy": [0, 1, 1], "fear": [1, 0, 1]}), "y", 3)
    assert classes.tolist() == ["joy", "fear"]
    assert targets.tolist() == [[0, 1], [1, 0], [1, 1]]
    turned = Frame({"fear": [1, 0, 1], "joy": [0, 1, 1]})
    assert encode_labels(turned, "y_valid", 3, classes)[1].tolist() == targets.tolist()
    with pytest.raises(DataError, match="columns"):
        encode_labels(Frame({"fear": [1, 0, 1], "love": [0, 1, 1]}), "y_valid", 3, classes)
    with pytest.raises(DataError, match="same name"):
        encode_labels(Frame({1: [0, 1, 1], "1": [1, 0, 1]}), "y", 3)


def test_an_unknown_label_is_named_with_its_index() -> None:
    classes, _ = encode_labels(["a", "b"], "y", 2)
    with pytest.raises(DataError, match=r"y_valid\[1\]`: label 'c'"):
        encode_labels(["a", "c"], "y_valid", 2, classes)


def test_class_weights_multiply_those_of_rows() -> None:
    classes, targets = np.array(["a", "b", "c"]), np.array([0, 0, 0, 1])
    assert row_weights(None, None, classes, targets).tolist() == [1, 1, 1, 1]
    assert row_weights([1, 2, 0, 3], {"b": 5}, classes, targets).tolist() == [1, 2, 0, 15]
    balanced = row_weights(None, "balanced", classes, targets)
    assert balanced.tolist() == pytest.approx([2 / 3] * 3 + [2])
    assert row_weights(None, {"a": 2, "b": 3, "c": 4, "d": 5}, classes, targets).tolist() == [2, 2, 2, 3]
    weighted = row_weights([1, 2, 0, 3], "balanced", classes, targets)
    assert weighted[:3].sum() == pytest.approx(weighted[3:].sum())


@pytest.mark.parametrize(
    ("weights", "message"),
    [([1, -1], r"sample_weight\[1\]"), ([np.nan, 1], r"sample_weight\[0\]"), ([0, 0], "zero"), ([1], "shape")],
)
def test_weights_that_can_not_be_used(weights: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        row_weights(weights, None, np.array(["a", "b"]), np.array([0, 1]))


@pytest.mark.parametrize(
    ("given", "message"),
    [({"c": 1}, "'c' does not occur"), ({"a": -1}, "'a'"), ("even", "balanced"), (3, "balanced")],
)
def test_class_weights_that_can_not_be_used(given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"class_weight.*{message}"):
        row_weights(None, given, np.array(["a", "b"]), np.array([0, 1]))
    with pytest.raises(UsageError, match="sample_weight"):
        row_weights(None, "balanced", np.array(["a", "b"]), np.array([[0, 1], [1, 0]]))


def test_rows_without_weight_are_left_out() -> None:
    assert used_rows(np.array([0, 1, 1]), np.array([1, 0.5, 0])).tolist() == [True, True, False]
    with pytest.raises(DataError, match="two different"):
        used_rows(np.array([0, 1, 1]), np.array([1, 0, 0]))
    assert normalized(np.array([2.0, 2.0])) is None
    scaled = normalized(np.array([1.0, 3.0]))
    assert scaled is not None
    assert scaled.tolist() == [0.5, 1.5]


def test_validation_rows_are_stratified_equal_rows_together() -> None:
    rows = [i // 2 for i in range(80)]
    targets = np.array([(i // 2) % 4 for i in range(80)])
    held = validation_rows(rows, targets, seed=3)
    assert set(targets[held]) == {0, 1, 2, 3}
    assert held[::2].tolist() == held[1::2].tolist()
    several = np.stack([targets == 0, targets < 3], axis=1).astype(int)
    assert 0 < validation_rows(rows, several, seed=3).sum() < 40
    assert not validation_rows([1, 2], np.array([0, 1]), seed=0).any()


def test_a_list_written_as_a_string_is_no_label() -> None:
    with pytest.raises(DataError, match=r"`y\[1\]`.*is a list written as a string"):
        encode_labels(["joy", "['joy', 'calm']"], "y", 2)


TEXTS, NAMES = ["one", "two", "three"], ["b", "a", "b"]


@pytest.mark.parametrize(
    "given",
    [
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        np.array(TEXTS, dtype="S"),
        np.array(TEXTS)[:, None],
        [text.encode() for text in TEXTS],
        {"text": TEXTS},
        Frame({0: TEXTS}),
        pa.array(TEXTS),
        pa.array(TEXTS, pa.large_string()),
        pa.array(TEXTS).dictionary_encode(),
        pa.chunked_array([TEXTS[:1], TEXTS[1:]]),
        pa.table({"text": TEXTS}),
    ],
)
def test_texts_and_labels_as_libraries_have_them(given: Any) -> None:
    assert check_texts(given, "X") == TEXTS
    classes, targets = encode_labels(given, "y", 3)
    assert [classes[i] for i in targets] == TEXTS


def test_labels_of_arrow() -> None:
    assert encode_labels(pa.array([True, False, True]), "y", 3)[1].tolist() == [1, 0, 1]
    classes, targets = encode_labels(pa.table({"joy": [0, 1, 1], "calm": [1, 0, 0]}), "y", 3)
    assert (classes.tolist(), targets.tolist()) == (["joy", "calm"], [[0, 1], [1, 0], [1, 0]])
    assert encode_labels(pa.array([["b"], [], ["a", "b"]]), "y", 3)[1].tolist() == [[0, 1], [0, 0], [1, 1]]
    with pytest.raises(DataError, match=r"y\[1\]` is missing"):
        encode_labels(pa.array([1, None, 2]), "y", 3)
    with pytest.raises(DataError, match=r"X\[1\]` is missing"):
        check_texts(pa.array(["a", None]), "X")


def test_pandas_and_datasets() -> None:
    pandas, datasets = pytest.importorskip("pandas"), pytest.importorskip("datasets")
    table = pandas.DataFrame({"text": TEXTS, "label": NAMES})
    for kind in ("object", "string", "category"):
        assert check_texts(table["text"].astype(kind), "X") == TEXTS
        assert encode_labels(table[["label"]].astype(kind), "y", 3)[1].tolist() == [1, 0, 1]
    rows = datasets.Dataset.from_pandas(table)
    for given in (rows["text"], rows.select_columns("text"), rows.with_format("numpy")["text"]):
        assert check_texts(given, "X") == TEXTS
    for several in (table, rows, pa.table({"text": TEXTS, "label": NAMES})):
        with pytest.raises(DataError, match=r"one column of texts, as X\['text'\], not a table with 'text', 'label'"):
            check_texts(several, "X")


def test_what_is_no_text_is_named() -> None:
    with pytest.raises(DataError, match=r"X\[1\]`: bytes that are not UTF-8"):
        check_texts([b"a", b"\xff"], "X")
    with pytest.raises(DataError, match="not one string"):
        check_texts(b"abc", "X")


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, None, "0"])
def test_a_seed_out_of_range_is_refused_at_once(seed: Any) -> None:
    classifiers: tuple[Any, ...] = (
        FusionClassifier(["no-such-folder/at-all"], seed=seed),
        FusionHeadClassifier(seed=seed),
    )
    for classifier in classifiers:
        with pytest.raises(UsageError, match=rf"`seed`: {seed!r} is not a whole number from 0 to 4,294,967,295"):
            classifier.fit([[]], [])
