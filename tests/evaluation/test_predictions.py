"""The predictions of a run as a table that can be graded again from itself."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.evaluation.metrics import score
from fusion_classifier.evaluation.predictions import SplitPredictions, read_predictions, write_predictions
from fusion_classifier.tasks.loaded import RowPlace

NAMES = ["joy", "very sad", "Ärger, 😀"]


def probabilities(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(3), n).astype(np.float32)


def part(split: str, n: int, seeds: tuple[int, ...]) -> SplitPredictions:
    labels = np.arange(n, dtype=np.int64) % 3
    hashes = [f"{number:032x}" for number in range(n)]
    by_seed = {seed: probabilities(seed + n, n) for seed in seeds}
    return SplitPredictions(split, hashes, labels, by_seed, {seed: p.argmax(1) for seed, p in by_seed.items()})


def test_table_has_one_row_per_text_and_seed(tmp_path: Path) -> None:
    write_predictions([part("valid", 4, (0, 7)), part("test", 5, (0, 7))], NAMES, tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet")
    found = [(row["split"], row["seed"], row["row"], row["text_hash"]) for row in table.to_pylist()]
    assert found == [
        (split, seed, row, f"{row:032x}")
        for split, n in (("valid", 4), ("test", 5))
        for seed in (0, 7)
        for row in range(n)
    ]


def test_names_and_probabilities_are_those_of_the_run(tmp_path: Path) -> None:
    one = part("test", 6, (3,))
    write_predictions([one], NAMES, tmp_path / "p.parquet")
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert [row["label"] for row in rows] == [NAMES[label] for label in one.labels]
    assert [row["predicted"] for row in rows] == [NAMES[best] for best in one.by_seed[3].argmax(1)]
    assert np.array_equal(np.array([row["probabilities"] for row in rows], dtype=np.float32), one.by_seed[3])


def test_columns_have_their_types_and_label_order(tmp_path: Path) -> None:
    write_predictions([part("test", 2, (0,))], NAMES, tmp_path / "p.parquet")
    schema = pq.read_schema(tmp_path / "p.parquet")
    assert {field.name: field.type for field in schema} == {
        "split": pa.string(),
        "seed": pa.int64(),
        "file": pa.string(),
        "row": pa.int64(),
        "line": pa.int64(),
        "text_hash": pa.string(),
        "label": pa.string(),
        "predicted": pa.string(),
        "probabilities": pa.list_(pa.float32(), 3),
    }
    assert json.loads(schema.metadata[b"labels"]) == NAMES


def test_layout_and_precision_do_not_matter(tmp_path: Path) -> None:
    """Columns first in memory, float64: as a head may give them."""
    one = part("test", 5, (0,))
    turned = SplitPredictions(
        "test", one.hashes, one.labels, {0: np.asfortranarray(one.by_seed[0].astype(np.float64))}, one.answers
    )
    write_predictions([one], NAMES, tmp_path / "a.parquet")
    write_predictions([turned], NAMES, tmp_path / "b.parquet")
    assert pq.read_table(tmp_path / "a.parquet").equals(pq.read_table(tmp_path / "b.parquet"))


def test_scores_can_be_had_again_from_the_table(tmp_path: Path) -> None:
    one = part("test", 30, (0, 1))
    write_predictions([one], NAMES, tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet")
    order = json.loads(table.schema.metadata[b"labels"])
    for seed in (0, 1):
        rows = [row for row in table.to_pylist() if row["seed"] == seed]
        labels = np.array([order.index(row["label"]) for row in rows], dtype=np.int64)
        again = np.array([row["probabilities"] for row in rows], dtype=np.float32)
        assert score(labels, again) == score(one.labels, one.by_seed[seed])


# Read again.


def written(tmp_path: Path) -> Path:
    path = tmp_path / "p.parquet"
    write_predictions([part("valid", 4, (0, 7)), part("test", 5, (0, 7))], NAMES, path)
    return path


def test_reading_is_the_inverse_of_writing(tmp_path: Path) -> None:
    found = read_predictions(written(tmp_path))
    assert list(found) == ["valid", "test"]
    for name, n in (("valid", 4), ("test", 5)):
        expected, one = part(name, n, (0, 7)), found[name]
        assert one.names == tuple(NAMES)
        assert list(one.hashes) == list(expected.hashes)
        assert np.array_equal(one.labels, expected.labels)
        for seed in (0, 7):
            assert np.array_equal(one.by_seed[seed], expected.by_seed[seed])
            assert np.array_equal(one.answers[seed], expected.by_seed[seed].argmax(1))


def test_more_columns_and_the_order_of_rows_do_not_matter(tmp_path: Path) -> None:
    expected = read_predictions(written(tmp_path))["test"]
    table = pq.read_table(tmp_path / "p.parquet")
    shuffled = table.take(np.random.default_rng(3).permutation(len(table)))
    pq.write_table(shuffled.append_column("more", pa.array(["x"] * len(table))), tmp_path / "p.parquet")
    found = read_predictions(tmp_path / "p.parquet")["test"]
    assert found.hashes == expected.hashes
    assert np.array_equal(found.by_seed[7], expected.by_seed[7])


def replaced(table: pa.Table, name: str, values: object) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["predicted"]), "no column 'predicted'"),
        (lambda t: t.replace_schema_metadata({}), "metadata field `labels`"),
        (lambda t: t.replace_schema_metadata({"labels": "{"}), "metadata field `labels`"),
        (lambda t: t.replace_schema_metadata({"labels": '["a", "a"]'}), "metadata field `labels`"),
        (lambda t: t.replace_schema_metadata({"labels": '["joy", "Ärger, 😀"]'}), "'very sad' is not among"),
        (lambda t: replaced(t, "seed", pa.array(["x"] * len(t))), "column 'seed' is string, not int64"),
        (lambda t: replaced(t, "label", pa.array([None, *["joy"] * (len(t) - 1)])), "row 0: label is empty"),
        (lambda t: replaced(t, "row", pa.array([0] * len(t))), "a row of a file is duplicated"),
        (lambda t: replaced(t, "probabilities", pa.array([[0.5, 0.5]] * len(t))), "expected 3 probabilities"),
        (
            lambda t: replaced(t, "probabilities", pa.array([[0.5, float("nan"), 0.5]] * len(t))),
            "NaN or infinity among the probabilities",
        ),
        (lambda t: t.slice(0, len(t) - 1), "seed 7 has different texts"),
        (lambda t: t.slice(0, 0), "has no rows"),
    ],
)
def test_odd_tables_are_refused_by_name(change: object, message: str, tmp_path: Path) -> None:
    assert callable(change)
    path = written(tmp_path)
    pq.write_table(change(pq.read_table(path)), path)
    with pytest.raises(DataError, match=f"p.parquet.*{message}"):
        read_predictions(path)


def test_multilabel_predictions_are_read_where_accepted(tmp_path: Path) -> None:
    labels = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    by_seed = {seed: probabilities(seed, 3) for seed in (0, 4)}
    answers = {seed: (p > 0.3).astype(np.int64) for seed, p in by_seed.items()}
    written = SplitPredictions("test", [f"{i:032x}" for i in range(3)], labels, by_seed, answers)
    write_predictions([written], NAMES, tmp_path / "p.parquet")
    found = read_predictions(tmp_path / "p.parquet", multilabel=True)["test"]
    assert np.array_equal(found.labels, labels)
    for seed in (0, 4):
        assert np.array_equal(found.answers[seed], answers[seed])
        assert np.array_equal(found.by_seed[seed], by_seed[seed])


def test_multilabel_predictions_are_refused_elsewhere(tmp_path: Path) -> None:
    path = written(tmp_path)
    table = pq.read_table(path)
    lists = pa.array([["joy", "very sad"]] * len(table))
    pq.write_table(replaced(replaced(table, "label", lists), "predicted", lists), path)
    with pytest.raises(UsageError, match="several labels"):
        read_predictions(path)


def test_missing_and_truncated_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_predictions(tmp_path / "none.parquet")
    path = written(tmp_path)
    content = path.read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"can't be read"):
            read_predictions(path)


def test_places_of_the_texts_are_kept(tmp_path: Path) -> None:
    places = tuple(RowPlace("a.csv", row, row + 2) for row in (3, 8, 9))
    one = part("test", 3, (0, 1))
    write_predictions([replace(one, places=places)], NAMES, tmp_path / "p.parquet")
    assert read_predictions(tmp_path / "p.parquet")["test"].places == places
