"""Whoever measures or calibrates on texts that an encoder was tuned on is warned."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch

from fusion_classifier import FusionClassifier
from fusion_classifier.classifier.tuned import TUNING_FILE, tuned_on, write_tuned_texts
from fusion_classifier.commands.audit import find_label_errors
from fusion_classifier.commands.distill import distill_model
from fusion_classifier.commands.optimize import optimize_model
from fusion_classifier.config import TaskConfig
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.runs.context import RunContext
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.registry import load_task

LABELS = ["joy", "anger", "fear"] * 12
TEXTS = [f"{word} {i}" for i in range(12) for word in ("we won", "he broke it", "it is dark")]
WARNING = r"tuned on {} of the {} .*scores and probabilities are too high"


class SaidError(Exception):
    """Stops the work at its first warning."""


def stop_at(message: str) -> None:
    if message.startswith("Warning"):
        raise SaidError(message)


@pytest.fixture(scope="module")
def tuned_folder(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder that was tuned on the first twelve texts, as far as its folder says."""
    folder = tmp_path_factory.mktemp("tuned") / "bert"
    shutil.copytree(bert_folder, folder)
    (folder / TUNING_FILE).write_text("{}")
    write_tuned_texts(TEXTS[:12], folder)
    return folder


@pytest.fixture(scope="module")
def model(tuned_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    classifier = FusionClassifier([f"{tuned_folder}?dtype=float32"], head="linear", store=place / "store")
    with pytest.warns(UserWarning, match=WARNING.format(12, 36)) as caught:
        classifier.fit(TEXTS, LABELS)
    assert [one.filename for one in caught] == [__file__]  # the line of the user, not one of the package
    classifier.save_pretrained(place / "model")
    return place / "model"


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS, LABELS, strict=True)]
    (tmp_path / "a.json").write_text(json.dumps(rows), "utf-8")
    return tmp_path / "a.json"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunContext:
    monkeypatch.setattr(RunContext, "say", lambda _, message: stop_at(message))
    return RunContext(FeatureStore(tmp_path / "store"), torch.device("cpu"), QUIET)


def identity_of(folder: Path) -> EncoderIdentity:
    return identify(parse_encoder(f"{folder}?dtype=float32"), torch.device("cpu"))


def test_only_texts_that_it_was_tuned_on_are_counted(tuned_folder: Path, bert_folder: Path) -> None:
    (warning,) = tuned_on([identity_of(bert_folder), identity_of(tuned_folder)], TEXTS[10:14], "texts here")
    assert "was tuned on 2 of the 4 texts here" in warning
    assert not tuned_on([identity_of(tuned_folder)], TEXTS[12:], "texts here")


def test_fit_is_silent_where_it_is_calibrated_on_other_texts(tuned_folder: Path, tmp_path: Path) -> None:
    classifier = FusionClassifier([f"{tuned_folder}?dtype=float32"], head="linear", store=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier.fit(TEXTS, LABELS, X_valid=TEXTS[12:], y_valid=LABELS[12:])


def test_distill_optimize_and_audit_say_it(
    model: Path, tuned_folder: Path, labelled: Path, tmp_path: Path, work: RunContext
) -> None:
    with pytest.raises(SaidError, match="validation texts that are measured here"):
        distill_model(str(model), str(tuned_folder), tmp_path / "student", work, task=str(labelled))
    with pytest.raises(SaidError, match=WARNING.format(12, 36)):
        optimize_model(str(model), tmp_path / "fast", task=str(labelled), progress=QUIET, say=stop_at)
    pytest.importorskip("cleanlab")
    encoders = [identity_of(tuned_folder).config]
    with pytest.raises(SaidError, match="texts whose labels are checked here"):
        find_label_errors(load_task(TaskConfig(name=str(labelled))), encoders, work)
