"""Multi-label tasks through all stations: run, evaluate, predict, Python."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from fusion_classifier import FusionClassifier
from fusion_classifier.classifier.folder import load_model
from fusion_classifier.commands.predict import Predictions
from fusion_classifier.config import RunConfig, TaskConfig
from fusion_classifier.encoders.spec import parse_encoders
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.evaluation.metrics import MULTILABEL_METRICS
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.registry import parse_head
from fusion_classifier.runs.context import RunContext
from fusion_classifier.runs.evaluate import evaluate_saved
from fusion_classifier.runs.pipeline import run
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.training.defaults import recipe

pytestmark = pytest.mark.usefixtures("few_penalties")
WORDS = {"joy": "we won", "anger": "he broke it", "fear": "it is dark"}
SETS = [("joy",), ("anger",), ("fear",), ("anger", "joy"), ("anger", "fear"), ()]


def rows(count: int) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for i in range(count):
        labels = SETS[i % len(SETS)]
        text = " and ".join(WORDS[label] for label in labels) or "nothing to say"
        found.append({"text": f"{text} {i}", "label": list(labels)})
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path) -> tuple[Path, RunContext, TaskConfig]:
    folder = tmp_path_factory.mktemp("several")
    (folder / "moods.jsonl").write_text("\n".join(json.dumps(row) for row in rows(240)), "utf-8")
    task_config = TaskConfig(name=str(folder / "moods.jsonl"), multilabel=True)
    work = RunContext(FeatureStore(folder / "store"), torch.device("cpu"), QUIET)
    config = RunConfig(
        task=task_config,
        encoders=parse_encoders([f"{bert_folder}?dtype=float32"], features="tokens"),
        head=parse_head("fusion", width=64),
        training=recipe("default", "fusion", max_epochs=12, batch_size=16),
        seeds=(0, 1),
    )
    run(config, load_task(task_config), folder / "run", work)
    return folder / "run", work, task_config


def test_a_run_has_multilabel_metrics_and_learns(finished: tuple[Path, RunContext, TaskConfig]) -> None:
    metrics = json.loads((finished[0] / "metrics.json").read_text())
    for split in ("valid", "test"):
        assert tuple(metrics[split]) == MULTILABEL_METRICS
        assert metrics[split]["micro_f1"]["mean"] > 0.8
    assert (finished[0] / "f1_by_label.png").is_file()
    assert not (finished[0] / "confusion_matrix.png").exists()


def test_baselines_of_several_labels(finished: tuple[Path, RunContext, TaskConfig]) -> None:
    """No label is on more than half of the texts: the majority gives none. Logistic regression learns these words."""
    found = json.loads((finished[0] / "metrics.json").read_text())["baselines"]
    assert found["majority_class"]["test"]["weighted_f1"] == 0
    assert found["logistic_regression"]["test"]["weighted_f1"] > 0.5
    assert set(found["logistic_regression"]["test"]) == {"subset_accuracy", "weighted_f1", "macro_f1"}


def test_predictions_hold_lists_that_agree_with_the_thresholds(finished: tuple[Path, RunContext, TaskConfig]) -> None:
    table = pq.read_table(finished[0] / "predictions.parquet").to_pylist()
    record = json.loads((finished[0] / "seeds" / "1" / "config.json").read_text())
    thresholds = np.array(record["decision"]["thresholds"], dtype=np.float32)
    labels = ("anger", "fear", "joy")
    for row in (row for row in table if row["seed"] == 1):
        given = np.array(row["probabilities"], dtype=np.float32) >= thresholds
        assert row["predicted"] == [label for label, yes in zip(labels, given, strict=True) if yes]


def test_evaluated_again_it_comes_out_the_same(finished: tuple[Path, RunContext, TaskConfig]) -> None:
    out, work, task_config = finished
    metrics = json.loads((out / "metrics.json").read_text())
    assert evaluate_saved(out, "test", task_config, {}, work)["test"]["metrics"] == metrics["test"]


def test_predict_answers_with_every_label_given(finished: tuple[Path, RunContext, TaskConfig]) -> None:
    texts = ["he broke it and we won 3", "nothing to say 5"]
    both, none = (json.loads(line) for line in Predictions(finished[0]).lines(texts))
    assert set(both["labels"]) == {"joy", "anger"}
    assert both["scores"] == sorted(both["scores"], reverse=True)
    assert (none["labels"], none["scores"]) == ([], [])
    (three,) = (json.loads(line) for line in Predictions(finished[0], top_k=3).lines(texts[:1]))
    assert len({three[f"label_{k}"] for k in (1, 2, 3)}) == 3
    with pytest.raises(UsageError, match="abstain"):
        list(Predictions(finished[0], abstain=0.5).lines(texts))


def test_several_labels_are_not_evaluated_on_single_ones(
    finished: tuple[Path, RunContext, TaskConfig], tmp_path: Path
) -> None:
    lines = ["text,label", *(f"{WORDS[label]} {i},{label}" for i in range(20) for label in WORDS)]
    (tmp_path / "single.csv").write_text("\n".join(lines), "utf-8")
    with pytest.raises(DataError, match="one label"):
        evaluate_saved(finished[0], "test", TaskConfig(name=str(tmp_path / "single.csv")), {}, finished[1])


@pytest.mark.parametrize("kind", ["lists", "matrix"])
def test_python_takes_lists_and_matrices(bert_folder: Path, tmp_path: Path, kind: str) -> None:
    texts = [str(row["text"]) for row in rows(90)]
    lists = [list(SETS[i % len(SETS)]) for i in range(90)]
    names = ["anger", "fear", "joy"]
    matrix = np.array([[name in row for name in names] for row in lists]).astype(int)
    classifier = FusionClassifier(
        encoders=[f"{bert_folder}?dtype=float32"],
        store=tmp_path / "store",
        training={"max_epochs": 12, "batch_size": 16},
    ).fit(texts, lists if kind == "lists" else matrix)
    assert classifier.classes_.tolist() == (names if kind == "lists" else [0, 1, 2])
    found = classifier.predict(texts)
    assert found.shape == (90, 3)
    assert (found == matrix).mean() > 0.8
    classifier.save_pretrained(tmp_path / "model")
    assert load_model(tmp_path / "model").config.decision.multilabel
    loaded = FusionClassifier.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(texts), found)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        ([["joy"], ["anger"]], "2 labels for 3"),
        (np.array([[0, 2], [1, 0], [0, 1]]), "only 0 and 1"),
        ([["joy"], [3], ["anger"]], "lists of strings"),
        ([["joy"], ["joy"], []], "at least two different labels"),
    ],
)
def test_labels_that_can_not_be_are_refused(y: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        FusionClassifier(encoders=["minilm-l6"]).fit(["a", "b", "c"], y)  # type: ignore[arg-type]
