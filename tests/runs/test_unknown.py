"""`fec run --unknown`: figures of unknown texts, and what is refused before any work."""

from pathlib import Path
from typing import Any

import pytest
import torch

from fusion_classifier import FusionClassifier
from fusion_classifier.commands.report import write_report
from fusion_classifier.config import RunConfig, TaskConfig
from fusion_classifier.encoders.spec import parse_encoders
from fusion_classifier.errors import DataError, FecError, UsageError
from fusion_classifier.evaluation.unknown import unknown_figures
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.registry import parse_head
from fusion_classifier.runs.context import RunContext
from fusion_classifier.runs.pipeline import run
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.known import KNOWN_FILE

WORDS = {"joy": "we won", "anger": "he broke it", "fear": "it is dark"}
NONE = ["Q17: 1/2 + 3/4 = 5/4; see [9]", "%%%% #### @@@@ ////", "000 111 222 333 444 555"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "moods.csv"
    rows = [f"{text} {i},{label}" for i in range(50) for label, text in WORDS.items()]
    path.write_text("\n".join(["text,label", *rows]) + "\n", "utf-8")
    (tmp_path / "none.txt").write_text("\n".join(NONE) + "\n", "utf-8")
    return path


def run_with(data: Path, encoder: Path, unknown: Path, task: dict[str, Any] | None = None, **training: Any) -> Any:
    config = RunConfig(
        task=TaskConfig(name=str(data), **(task or {})),
        encoders=parse_encoders([f"{encoder}?dtype=float32"]),
        head=parse_head("linear"),
        training=recipe("default", "linear", max_epochs=10, **training),
        seeds=(0, 1),
    )
    work = RunContext(FeatureStore(data.parent / "store"), torch.device("cpu"), QUIET)
    return run(config, load_task(config.task), data.parent / "run", work, unknown=unknown).metrics


def test_a_run_tells_how_well_texts_of_no_class_are_told(data: Path, bert_folder: Path) -> None:
    found = run_with(data, bert_folder, data.parent / "none.txt")["unknown"]
    task = load_task(TaskConfig(name=str(data)))
    for position, seed in enumerate((0, 1)):
        model = FusionClassifier.from_pretrained(data.parent / "run" / "seeds" / str(seed))
        known, unknown = (model.unknown_score(texts) for texts in (task.split("test").texts, NONE))
        for name, value in unknown_figures(known, unknown, model.unknown_threshold()).items():
            assert found["metrics"][name]["values"][position] == pytest.approx(value, abs=0.05)
    assert found["metrics"]["auroc"]["mean"] > 0.9
    assert (found["texts"], found["known_texts"], found["split"]) == (3, 15, "test")
    assert found["least_rate"] == 1 / 16
    assert (data.parent / "run" / "model" / KNOWN_FILE).is_file()
    write_report(data.parent / "run", task=task)
    page = (data.parent / "run" / "report.html").read_text("utf-8")
    assert "3 texts that belong to none of the labels" in page


def test_what_can_not_be_told_is_refused_before_any_work(data: Path, bert_folder: Path) -> None:
    unknown = data.parent / "none.txt"
    empty = data.parent / "empty.csv"
    empty.write_text("text\n")
    refused: dict[str, dict[str, Any]] = {
        "no text": {"unknown": empty},
        "no such file": {"unknown": data.parent / "nowhere.csv"},
        "`known_texts`": {"unknown": unknown, "known_texts": False},
        "several labels": {"unknown": unknown, "task": {"multilabel": True}},
    }
    for message, arguments in refused.items():
        with pytest.raises((UsageError, DataError), match=message):
            run_with(data, bert_folder, **arguments)
        assert not (data.parent / "run").exists()


def test_seeds_without_known_texts_are_named(data: Path, bert_folder: Path) -> None:
    run_with(data, bert_folder, data.parent / "none.txt")
    for path in data.parent.glob(f"run/seeds/*/{KNOWN_FILE}"):
        path.unlink()
    with pytest.raises(FecError, match="seed 0 has no data on its training texts"):
        run_with(data, bert_folder, data.parent / "none.txt")
