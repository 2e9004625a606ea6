"""Evaluation on data of the user's own: whole, with a subset of the labels, unknown labels named or left out."""

import csv
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from fusion_classifier.cli.tables import print_evaluation
from fusion_classifier.config import RunConfig
from fusion_classifier.encoders.spec import parse_encoders
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.registry import parse_head
from fusion_classifier.runs.context import RunContext
from fusion_classifier.runs.evaluate import evaluate_saved, evaluated_task
from fusion_classifier.runs.pipeline import run
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.training.defaults import recipe

WORDS = {"joy": "we won", "anger": "he broke it", "fear": "it is dark"}


def write(path: Path, labels: list[str], *, text: str = "comment", label: str = "mood") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", text, label])
        rows.writerows([i, f"{WORDS.get(name, 'so what')} {path.stem} {i}", name] for i, name in enumerate(labels))
    return path


@pytest.fixture(scope="module")
def finished(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, RunContext]:
    """A run on a single file with columns of its own, and the file."""
    place = tmp_path_factory.mktemp("evaluate")
    data = write(place / "moods.csv", [*WORDS] * 20)
    work = RunContext(FeatureStore(place / "store"), torch.device("cpu"), QUIET)
    config = RunConfig.model_validate(
        {
            "task": {"name": str(data), "text_column": "comment", "label_column": "mood"},
            "encoders": parse_encoders([f"{bert_folder}?dtype=float32"], {}, features="pooled"),
            "head": parse_head("linear"),
            "training": recipe("default", "linear"),
            "seeds": (0,),
        }
    )
    run(config, load_task(config.task), place / "run", work)
    return place / "run", data, work


def evaluated(finished: tuple[Path, Path, RunContext], task: Path | None, **given: Any) -> dict[str, Any]:
    folder, _, work = finished
    config = evaluated_task(folder, None if task is None else str(task), given)
    figures: dict[str, Any] = evaluate_saved(folder, "test", config, {}, work)["test"]
    return figures


def test_a_file_is_evaluated_whole_with_the_columns_of_the_run(
    finished: tuple[Path, Path, RunContext], tmp_path: Path
) -> None:
    found = evaluated(finished, write(tmp_path / "new.csv", [*WORDS] * 50))
    assert found["rows"] == 150
    assert {name: one["support"] for name, one in found["per_class"].items()} == dict.fromkeys(sorted(WORDS), 50)


def test_the_file_of_the_training_keeps_its_split(finished: tuple[Path, Path, RunContext]) -> None:
    """Whole, it would be judged on the rows that were trained on."""
    own = evaluated(finished, None)
    assert own["rows"] == 6
    assert evaluated(finished, finished[1])["metrics"] == own["metrics"]


def test_a_model_folder_takes_a_file_whole(finished: tuple[Path, Path, RunContext], tmp_path: Path) -> None:
    folder, _, work = finished
    path = write(tmp_path / "new.csv", ["joy", "fear"] * 10, text="text", label="label")
    config = evaluated_task(folder / "model", str(path), {"text_column": "text"})
    found = evaluate_saved(folder / "model", "test", config, {}, work)["test"]
    assert (found["rows"], found["per_class"]["anger"]["support"]) == (20, 0)


def test_a_subset_of_the_labels_is_enough(
    finished: tuple[Path, Path, RunContext], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _, work = finished
    config = evaluated_task(folder, str(write(tmp_path / "new.csv", ["fear"] * 12)), {})
    figures = evaluate_saved(folder, "test", config, {}, work)
    counts = {name: one["support"] for name, one in figures["test"]["per_class"].items()}
    assert counts == {"anger": 0, "fear": 12, "joy": 0}
    print_evaluation(figures)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "anger" in line]
    assert [cell.strip() for cell in line.split("│")[2:6]] == ["–", "–", "–", "0"]  # no score, not one of 0


def test_unknown_labels_are_named_or_left_out(finished: tuple[Path, Path, RunContext], tmp_path: Path) -> None:
    path = write(tmp_path / "new.csv", ["joy", "pride", "envy", "fear", "pride"])
    with pytest.raises(DataError) as caught:
        evaluated(finished, path)
    assert f"{path}, line 3: unknown label 'pride'; 3 rows have such a label: 'pride' (2), 'envy' (1)" in str(
        caught.value
    )
    assert "(the 3 known ones: anger, fear, joy)" in str(caught.value)
    assert evaluated(finished, path, unknown_labels="skip")["rows"] == 2


def test_a_model_of_a_file_needs_to_be_told_what_to_evaluate_on(finished: tuple[Path, Path, RunContext]) -> None:
    with pytest.raises(UsageError, match="set `task`"):
        evaluated_task(finished[0] / "model", None, {})


def test_predictions_say_where_a_text_stands(finished: tuple[Path, Path, RunContext]) -> None:
    folder, data, _ = finished
    with data.open(encoding="utf-8", newline="") as file:
        given = list(csv.DictReader(file))
    rows = pq.read_table(folder / "predictions.parquet").to_pylist()
    assert {row["split"] for row in rows} == {"valid", "test"}
    for row in rows:
        assert row["file"] == str(data)
        assert given[row["row"]]["mood"] == row["label"]
        assert row["line"] == row["row"] + 2
