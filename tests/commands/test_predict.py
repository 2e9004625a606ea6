"""Predictions as lines and as files: one shape, all given columns, rows in order."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_classifier.commands.answers import Answers, beside
from fusion_classifier.commands.predict import Predictions
from fusion_classifier.commands.prediction_file import writer
from fusion_classifier.errors import DataError
from fusion_classifier.support.progress import QUIET
from fusion_classifier.training.decision import Decision

NAMES = ("anger", "fear", "joy")


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), abstain=st.floats(0, 1), top_k=st.sampled_from([None, 1, 2, 5]))
def test_below_the_confidence_asked_for_the_label_is_null(seed: int, abstain: float, top_k: int | None) -> None:
    row = np.random.default_rng(seed).dirichlet(np.ones(3)).astype(np.float32)
    found = Answers(NAMES, Decision(), top_k, abstain).of(row)
    given_up = bool(row.max() < abstain)
    best = None if given_up else NAMES[row.argmax()]
    if top_k is None:
        assert found == {"label": best, "score": float(row.max())}
        return
    assert list(found) == [f"{what}_{k}" for k in range(1, min(top_k, 3) + 1) for what in ("label", "score")]
    assert (found["label_1"], found["score_1"]) == (best, float(row.max()))
    scores = [found[name] for name in found if name.startswith("score")]
    assert scores[1:] == [None] * (len(scores) - 1) if given_up else scores == sorted(scores, reverse=True)


def test_labels_over_their_thresholds_are_given_best_first() -> None:
    decision = Decision(thresholds=(0.5, 0.1, 0.9))
    answers = Answers(NAMES, decision)
    assert answers.of(np.array([0.6, 0.7, 0.8], np.float32))["labels"] == ["fear", "anger"]
    assert answers.of(np.array([0.1, 0.0, 0.1], np.float32)) == {"labels": [], "scores": []}


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), score=st.floats(-3, 3), top_k=st.sampled_from([None, 1, 2]))
def test_a_text_of_no_class_has_no_label_and_says_so(seed: int, score: float, top_k: int | None) -> None:
    row = np.random.default_rng(seed).dirichlet(np.ones(3)).astype(np.float32)
    plain = Answers(NAMES, Decision(), top_k).of(row, score)
    rejecting = Answers(NAMES, Decision(), top_k, threshold=1.0)
    found = rejecting.of(row, score)
    if score > 1:
        plain = dict.fromkeys(plain) | {"score" if top_k is None else "score_1": float(row.max())}
    assert found == plain | {"unknown": score > 1, "unknown_score": score}
    assert list(found) == list(rejecting.columns()) == list(rejecting.missing())


def test_offsets_decide_the_answer_and_leave_its_probability() -> None:
    row = np.array([0.6, 0.3, 0.1], dtype=np.float32)
    decision = Decision(offsets=(0.0, 0.0, 2.0))
    assert Answers(NAMES, decision).of(row) == {"label": NAMES[2], "score": pytest.approx(0.1)}
    ranked = Answers(NAMES, decision, 3).of(row)
    assert [ranked[f"label_{k}"] for k in (1, 2, 3)] == [NAMES[2], NAMES[0], NAMES[1]]


def test_a_column_that_is_there_is_never_overwritten() -> None:
    assert beside(["label", "score"], ["text", "id"]) == {"label": "label", "score": "score"}
    assert beside(["label", "score"], ["text", "label"]) == {"label": "predicted_label", "score": "predicted_score"}
    taken = ["label", "predicted_score"]
    assert beside(["label", "score"], taken)["label"] == "predicted_predicted_label"


def test_true_false_and_lists_in_a_csv_are_those_of_json(tmp_path: Path) -> None:
    with writer(tmp_path / "a.csv", {"text": None}, {"labels": "list<string>", "unknown": "bool"}) as write:
        write(
            [{"text": "a", "labels": ["x", "y, z"], "unknown": True}, {"text": "b", "labels": None, "unknown": None}]
        )
    rows = list(csv.DictReader((tmp_path / "a.csv").open(encoding="utf-8", newline="")))
    assert rows == [
        {"text": "a", "labels": '["x", "y, z"]', "unknown": "true"},
        {"text": "b", "labels": "", "unknown": ""},
    ]


def test_a_column_of_several_types_does_not_fit_into_parquet(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match=r"write to a \.jsonl file"),
        writer(tmp_path / "a.parquet", {"id": None}, {"label": "string"}) as write,
    ):
        write([{"id": 1, "label": "x"}, {"id": "b", "label": "y"}])


ROWS = [
    {"id": "7", "comment": "we won 3", "label": "joy"},
    {"id": "8", "comment": "  ", "label": ""},
    {"id": "9", "comment": "it is dark 4", "label": "fear"},
    {"id": "10", "comment": "", "label": "fear"},
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "new.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.DictWriter(file, list(ROWS[0]))
        rows.writeheader()
        rows.writerows(ROWS)
    return path


@pytest.mark.parametrize("top_k", [None, 2])
def test_all_columns_and_rows_are_kept_in_every_form(
    saved_model: Path, table: Path, tmp_path: Path, top_k: int | None
) -> None:
    """A line on standard output, JSONL, CSV and Parquet say the same; a missing text has null."""
    said: list[str] = []
    predictions = Predictions(saved_model, top_k=top_k, text_column="comment", say=said.append)
    lines = [json.loads(line) for line in predictions.lines([], table)]
    ranks = [""] if top_k is None else ["_1", "_2"]
    # The file has a column `label` itself; of label_1 it has none.
    prefix = "predicted_" if top_k is None else ""
    answers = [f"{prefix}{what}{rank}" for rank in ranks for what in ("label", "score")]
    assert [list(line) for line in lines] == [[*ROWS[0], *answers]] * 4
    assert [{name: line[name] for name in ROWS[0]} for line in lines] == ROWS
    assert [line[answers[0]] for line in lines] == ["joy", None, "fear", None]
    assert "2 rows without a text; their answers are null" in said[0]
    assert any("already has label; the answers are in predicted_label" in one for one in said) == (top_k is None)
    for ending in ("jsonl", "csv", "parquet"):
        out = tmp_path / f"out.{ending}"
        assert predictions.to_file(table, out, QUIET) == 4
        if ending == "jsonl":
            assert [json.loads(line) for line in out.read_text("utf-8").splitlines()] == lines
        elif ending == "parquet":
            rows = pq.read_table(out).to_pylist()
            assert [{k: v for k, v in row.items() if "score" not in k} for row in rows] == [
                {k: v for k, v in line.items() if "score" not in k} for line in lines
            ]
        else:
            with out.open(encoding="utf-8", newline="") as file:
                assert [row[answers[0]] for row in csv.DictReader(file)] == ["joy", "", "fear", ""]


def test_columns_of_parquet_keep_their_types(saved_model: Path, tmp_path: Path) -> None:
    given = pa.table({"id": pa.array([1, 2], pa.int32()), "text": ["we won", None], "tags": [["a"], []]})
    pq.write_table(given, tmp_path / "new.parquet")
    Predictions(saved_model).to_file(tmp_path / "new.parquet", tmp_path / "out.parquet", QUIET)
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.select(given.column_names).equals(given)
    assert found["label"].to_pylist() == ["joy", None]


def test_lines_of_different_keys_make_one_table(saved_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.jsonl"
    path.write_text('{"text": "we won"}\n{"text": "it is dark", "id": 3}\n', "utf-8")
    Predictions(saved_model).to_file(path, tmp_path / "out.csv", QUIET)
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["", "3"]


def test_a_model_remembers_the_columns_that_it_was_trained_on(saved_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved_model, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"text_column": ["subject", "body"]}), "utf-8")
    path = tmp_path / "new.jsonl"
    path.write_text('{"subject": "we won", "body": "the cup"}\n{"subject": null, "body": "a noise"}\n', "utf-8")
    lines = [json.loads(line) for line in Predictions(folder).lines([], path)]
    same = [json.loads(line) for line in Predictions(folder).lines(["we won\nthe cup", "a noise"])]
    assert [line["score"] for line in lines] == pytest.approx([line["score"] for line in same], abs=1e-4)
    only = [json.loads(line) for line in Predictions(folder, text_column=("subject",)).lines([], path)]
    assert [line["label"] is None for line in only] == [False, True]
