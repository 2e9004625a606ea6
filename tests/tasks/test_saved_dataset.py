"""Folders of `save_to_disk`, and classes by the names that `datasets` keeps for them."""

import json
from pathlib import Path
from typing import Any

import pytest

from fusion_classifier.config import TaskConfig
from fusion_classifier.errors import DataError
from fusion_classifier.tasks.labels import read_labelled
from fusion_classifier.tasks.readers import given_columns, given_rows, texts_of
from fusion_classifier.tasks.table import load_table

datasets = pytest.importorskip("datasets")
CLASSES = ["1", "0", "other"]  # names that are numbers, too, must not be taken for them


def data_set(count: int = 30) -> Any:
    label = datasets.ClassLabel(names=CLASSES)
    features = {"text": datasets.Value("string"), "label": label, "tags": datasets.List(label)}
    rows = {
        "text": [f"text {i}" for i in range(count)],
        "label": [i % 3 for i in range(count)],
        "tags": [[i % 3, (i + 1) % 3] if i % 2 else [] for i in range(count)],
    }
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


def test_a_saved_data_set_is_one_table(tmp_path: Path) -> None:
    """All shards, of a filtered data set only what is left, and the names of the classes."""
    kept = data_set().filter(lambda row: row["text"] != "text 1")
    kept.save_to_disk(tmp_path / "saved", num_shards=2)
    rows = read_labelled(tmp_path / "saved", TaskConfig(name="saved")).rows
    assert [row.text for row in rows] == list(kept["text"])
    assert [row.label for row in rows[:3]] == ["1", "other", "1"]
    assert (rows[-1].place.row, rows[-1].place.file) == (28, str(tmp_path / "saved"))
    assert list(texts_of(tmp_path / "saved", "text")) == list(kept["text"])
    task = load_table(tmp_path / "saved", TaskConfig(name="saved", label_column="tags", multilabel=True))
    assert (task.labels, list(task.splits)) == (("0", "1", "other"), ["train", "valid", "test"])


def test_prediction_keeps_its_rows_as_they_are_stored(tmp_path: Path) -> None:
    data_set(3).save_to_disk(tmp_path)
    assert [values["label"] for values, _ in given_rows(tmp_path, "text")] == [0, 1, 2]
    assert str(given_columns(tmp_path, "text")["label"]) == "int64"


def test_saved_splits_keep_their_names(tmp_path: Path) -> None:
    parts = {"train": data_set(12), "validation": data_set(6), "unsupervised": data_set(3)}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "all")
    task = load_table(tmp_path / "all")
    assert {name: len(part) for name, part in task.splits.items()} == {"train": 12, "valid": 6}
    with pytest.raises(DataError, match=r"has the splits train, validation, unsupervised; choose one of them"):
        list(given_rows(tmp_path / "all", "text"))
    datasets.DatasetDict({"train": data_set()}).save_to_disk(tmp_path / "one")
    assert set(load_table(tmp_path / "one").splits) == {"train", "valid", "test"}


def test_a_missing_class_is_a_missing_label(tmp_path: Path) -> None:
    rows = data_set(3).to_dict() | {"label": [0, -1, 2]}
    datasets.Dataset.from_dict(rows, features=data_set().features).save_to_disk(tmp_path)
    with pytest.raises(DataError, match="row 1: the label is None"):
        read_labelled(tmp_path, TaskConfig(name="saved"))


def test_parquet_has_the_names_too(tmp_path: Path) -> None:
    data_set(3).to_parquet(tmp_path / "a.parquet")
    rows = read_labelled(tmp_path / "a.parquet", TaskConfig(name="a")).rows
    assert [row.label for row in rows] == CLASSES


def test_a_damaged_folder_is_an_error(tmp_path: Path) -> None:
    data_set(3).save_to_disk(tmp_path)
    (shard,) = tmp_path.glob("*.arrow")
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(DataError, match="save the data set again"):
        list(texts_of(tmp_path, "text"))
    (tmp_path / "state.json").write_text(json.dumps([]), "utf-8")
    with pytest.raises(DataError, match=r"state\.json: not in the format of `save_to_disk`"):
        list(texts_of(tmp_path, "text"))
