"""The predictions of a run as a table that can be graded again from itself."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fusion_classifier.evaluation.metrics import score
from fusion_classifier.evaluation.predictions import SplitPredictions, write_predictions

NAMES = ["joy", "very sad", "Ärger, 😀"]


def probabilities(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(3), n).astype(np.float32)


def part(split: str, n: int, seeds: tuple[int, ...]) -> SplitPredictions:
    labels = np.arange(n, dtype=np.int64) % 3
    hashes = [f"{number:032x}" for number in range(n)]
    by_seed = {seed: probabilities(seed + n, n) for seed in seeds}
    return SplitPredictions(split, hashes, labels, by_seed, {seed: p.argmax(1) for seed, p in by_seed.items()})


def test_table_has_a_row_for_each_text_and_seed_of_each_split(tmp_path: Path) -> None:
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


def test_columns_have_their_types_and_the_metadata_the_label_order(tmp_path: Path) -> None:
    write_predictions([part("test", 2, (0,))], NAMES, tmp_path / "p.parquet")
    schema = pq.read_schema(tmp_path / "p.parquet")
    assert {field.name: field.type for field in schema} == {
        "split": pa.string(),
        "seed": pa.int64(),
        "row": pa.int64(),
        "text_hash": pa.string(),
        "label": pa.string(),
        "predicted": pa.string(),
        "probabilities": pa.list_(pa.float32(), 3),
    }
    assert json.loads(schema.metadata[b"labels"]) == NAMES


def test_probabilities_of_another_layout_or_precision_are_written_alike(tmp_path: Path) -> None:
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
