"""`fec distill`: a student learns from its teacher what the labels do not say, and is an ordinary model."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from fusion_classifier import FusionClassifier
from fusion_classifier.classifier.folder import load_config, load_model
from fusion_classifier.classifier.pipeline import Rows
from fusion_classifier.cli.main import app
from fusion_classifier.commands import distill as module
from fusion_classifier.commands.distill import Distilled, distill_model
from fusion_classifier.config import EncoderConfig, LinearConfig, RunConfig, TaskConfig
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.features.extract import extract_features
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.runs.context import RunContext
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.training.defaults import changed

LABELLED = [
    (f"{text} {i}", label) for i in range(15) for text, label in (("we won", "joy"), ("he broke it", "anger"))
]
FURTHER = [f"it is dark {i}" for i in range(40)]  # fear, which the labelled texts lack


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> RunContext:
    return RunContext(FeatureStore(tmp_path_factory.mktemp("store")), torch.device("cpu"), QUIET)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Labelled texts of two of the teacher's three labels, and further texts, one of them labelled."""
    place = tmp_path_factory.mktemp("texts")
    with (place / "labelled.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *LABELLED])
    (place / "further.txt").write_text("\n".join([*FURTHER, LABELLED[0][0], FURTHER[0]]), "utf-8")
    return place / "labelled.csv", place / "further.txt"


@pytest.fixture(scope="module")
def student(saved_model: Path, bert_folder: Path, files: tuple[Path, Path], work: RunContext) -> Distilled:
    task, texts = files
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TRAINING", changed(module.TRAINING, {"min_steps": 150, "batch_size": 32}))
        return distill_model(
            str(saved_model),
            f"{bert_folder}?dtype=float32",
            saved_model.parent / "student",
            work,
            texts=texts,
            task=str(task),
        )


def test_a_label_is_learned_from_the_teacher_alone(student: Distilled) -> None:
    found = FusionClassifier.from_pretrained(student.folder)
    assert found.predict(["it is dark 99", "we won 99", "he broke it 99"]).tolist() == ["fear", "joy", "anger"]


def test_folder_and_card_say_what_it_was_distilled_from(student: Distilled, saved_model: Path) -> None:
    figures = student.figures
    assert load_config(student.folder).distilled == figures
    assert (figures.head, figures.encoders) == (
        "linear",
        tuple(saved.config.name for saved in load_config(saved_model).encoders),
    )
    assert figures.labelled_texts + figures.valid_texts == len(LABELLED)
    assert figures.further_texts == len(FURTHER)  # without the one that is labelled, and the one given twice
    assert figures.teacher_knew
    card = (student.folder / "README.md").read_text("utf-8")
    assert "Distilled from a model with the head `linear`" in card
    assert f"| same answer as the teacher | {100 * figures.agreement:.1f} |" in card


def test_targets_are_half_label_half_teacher(
    saved_model: Path, bert_folder: Path, files: tuple[Path, Path], work: RunContext
) -> None:
    given = module.Texts(Rows(["we won"], np.array([2])), ["it is dark"], Rows(["he broke it"], np.array([0])))
    identity = module._identified(f"{bert_folder}?dtype=float32", work.device)
    extract_features(given.all, identity, work.store, work.device, QUIET)
    probabilities = np.array([[0.2, 0.2, 0.6], [0.1, 0.7, 0.2]], np.float32)
    train, valid = module._data(given, load_model(saved_model), probabilities, identity, work)
    assert train.soft is not None
    np.testing.assert_allclose(train.soft, [[0.1, 0.1, 0.8], [0.1, 0.7, 0.2]], atol=1e-6)
    assert train.labels.tolist() == [2, 1]
    assert valid.soft is None


def test_what_the_teacher_knew_follows_from_its_data(saved_model: Path, tmp_path: Path) -> None:
    """Its own texts chose its epoch even where they are a validation split; another file may contain some of them."""

    def write(name: str, texts: list[str]) -> str:
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *((text, "ab"[i % 2]) for i, text in enumerate(texts))])
        return str(tmp_path / name)

    own = TaskConfig(name=write("own.csv", [f"text {i}" for i in range(40)]))
    other = TaskConfig(name=write("other.csv", [f"new {i}" for i in range(10)]))
    run = tmp_path / "run"
    run.mkdir()
    config = RunConfig(
        task=own,
        encoders=(EncoderConfig(name="a", model="a"),),
        head=LinearConfig(),
        training=module.TRAINING,
        seeds=(0,),
    )
    (run / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")), "utf-8")
    valid = load_task(own).split("valid").texts
    assert module._teacher_knew(run, own, valid)
    assert not module._teacher_knew(run, other, ["new 1", "new 2"])
    assert module._teacher_knew(run, other, ["new 1", valid[0].upper()])
    assert module._teacher_knew(saved_model, other, ["new 1"]), "its texts are not in the folder"
    Path(own.name).unlink()
    assert module._teacher_knew(run, other, ["new 1"]), "its texts are no longer there"


def test_errors_come_before_anything_is_written(
    saved_model: Path, bert_folder: Path, files: tuple[Path, Path], work: RunContext, tmp_path: Path
) -> None:
    task, _ = files
    into, out = f"{bert_folder}?dtype=float32", tmp_path / "out"
    with pytest.raises(UsageError, match=r"out.*is the teacher"):
        distill_model(str(saved_model), into, saved_model, work, task=str(task))
    with pytest.raises(UsageError, match=r"`out`.*contains further\.txt"):
        distill_model(str(saved_model), into, task.parent, work, task=str(task))
    with pytest.raises(UsageError, match=r"set `task`"):
        distill_model(str(saved_model), into, out, work)
    empty = tmp_path / "empty.csv"
    empty.write_text("text\n", "utf-8")
    with pytest.raises(DataError, match=r"empty\.csv"):
        distill_model(str(saved_model), into, out, work, texts=empty, task=str(task))
    done = CliRunner().invoke(
        app, ["distill", str(saved_model), "--into", into, "--out", str(out), "--task", "no.csv"]
    )
    assert isinstance(done.exception, UsageError)
    assert not out.exists()
