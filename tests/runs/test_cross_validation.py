"""A task whose rows all train, and are judged out of fold."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusion_classifier.classifier.folder import load_model
from fusion_classifier.config import RunConfig, TaskConfig
from fusion_classifier.encoders.spec import parse_encoders
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.evaluation.predictions import read_predictions
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.registry import parse_head
from fusion_classifier.runs.context import Workspace
from fusion_classifier.runs.evaluate import evaluate_saved
from fusion_classifier.runs.pipeline import run
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.training.defaults import recipe

pytestmark = pytest.mark.slow  # many commands or trainings

LABELS = ("joy", "anger", "fear")
WORDS = {"joy": "lovely happy win", "anger": "hate broke liar", "fear": "dark scared afraid"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    order = np.random.default_rng(0)
    path = tmp_path / "moods.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for i in range(60):
            label = LABELS[i % 3]
            writer.writerow([f"{order.choice(WORDS[label].split())} thing number {i}", label])
    return path


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    import torch

    return Workspace(FeatureStore(tmp_path / "store"), torch.device("cpu"), QUIET)


def run_config(file: Path, encoder: Path, head: str = "linear", **task: Any) -> RunConfig:
    return RunConfig(
        task=TaskConfig(name=str(file), cross_validate=True, **task),
        encoders=parse_encoders([str(encoder)], features="pooled"),
        head=parse_head(head),
        training=recipe("default", head),
        seeds=(0, 1),
    )


def metrics_of(config: RunConfig, out: Path, work: Workspace) -> dict[str, Any]:
    return run(config, load_task(config.task), out, work).metrics


def test_every_row_trains_and_every_row_is_judged(
    file: Path, bert_folder: Path, tmp_path: Path, work: Workspace
) -> None:
    out = tmp_path / "run"
    metrics = metrics_of(run_config(file, bert_folder), out, work)
    part = read_predictions(out / "predictions.parquet", multilabel=True)["valid"]
    assert metrics["cross_validated"]
    assert metrics["test"] is None
    assert metrics["rows"]["train"] == metrics["rows"]["valid"] == len(part.labels) == 60
    assert set(metrics["baselines"]) == {"logistic_regression", "majority_class"}


def test_a_row_is_judged_by_heads_that_did_not_see_it(
    file: Path, bert_folder: Path, tmp_path: Path, work: Workspace
) -> None:
    """Labels that are random can be learned by heart, but not predicted out of fold."""
    rows = list(csv.reader(file.open()))
    order = np.random.default_rng(1)
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([rows[0], *([text, str(order.choice(LABELS))] for text, _ in rows[1:])])
    config = run_config(file, bert_folder)
    metrics = metrics_of(config.model_copy(update={"head": parse_head("linear", c=1000.0)}), tmp_path / "run", work)
    assert metrics["valid"]["accuracy"]["mean"] < 0.6


def test_a_second_run_takes_up_the_out_of_fold_logits(
    file: Path, bert_folder: Path, tmp_path: Path, work: Workspace
) -> None:
    out, config = tmp_path / "run", run_config(file, bert_folder)
    first = metrics_of(config, out, work)
    stored = json.loads((out / "seeds" / "0" / "out_of_fold.json").read_text())
    assert np.shape(stored) == (60, 3)
    again = metrics_of(config, out, work)
    assert again["valid"]["accuracy"] == first["valid"]["accuracy"]
    assert load_model(out / "model").config.labels == sorted(LABELS)
    assert not (out / "model" / "out_of_fold.json").exists()


def test_it_is_not_evaluated_on_rows_that_it_was_trained_on(
    file: Path, bert_folder: Path, tmp_path: Path, work: Workspace
) -> None:
    config = run_config(file, bert_folder)
    metrics_of(config, tmp_path / "run", work)
    with pytest.raises(UsageError, match="cross_validate"):
        evaluate_saved(tmp_path / "run", "valid", config.task, {}, work)


def test_a_head_that_needs_validation_rows_is_refused(
    file: Path, bert_folder: Path, tmp_path: Path, work: Workspace
) -> None:
    with pytest.raises(UsageError, match="llmembed"):
        metrics_of(run_config(file, bert_folder, head="llmembed"), tmp_path / "run", work)
    assert not (tmp_path / "run").exists()


def test_the_test_split_of_a_folder_stays_apart(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("train.csv", "test.csv"):
        (folder / name).write_text(file.read_text())
    task = load_task(TaskConfig(name=str(folder), cross_validate=True))
    assert task.cross_validated
    assert set(task.splits) == {"train", "valid", "test"}
    (folder / "valid.csv").write_text(file.read_text())
    assert not load_task(TaskConfig(name=str(folder), cross_validate=True)).cross_validated


def test_paraphrases_and_named_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="augment_column"):
        TaskConfig(name="x.csv", cross_validate=True, augment_column="more")
    with pytest.raises((UsageError, DataError), match="cross_validate"):
        load_task(TaskConfig(name="demo", cross_validate=True))
