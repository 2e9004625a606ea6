"""The one entry of training: which head needs which data, and what calibrates it."""

import numpy as np
import pytest
import torch

from fusion_classifier.config import EnsembleConfig, FusionConfig, HeadConfig, LinearConfig, LlmEmbedConfig
from fusion_classifier.errors import DataError
from fusion_classifier.features.arrays import PooledFeatures
from fusion_classifier.support.progress import QUIET
from fusion_classifier.training.calibration import fit_decision
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.inference import predict_logits
from fusion_classifier.training.result import Epoch, TrainingResult
from fusion_classifier.training.train import train

CPU = torch.device("cpu")
ENSEMBLE = EnsembleConfig(attention=FusionConfig(width=8), repeats=1)
CONFIG = recipe("default", "ensemble", max_epochs=2)


def rows(count: int, seed: int = 0, names: int = 0) -> LabelledFeatures:
    generator = np.random.default_rng(seed)
    labels = np.arange(count + names) % 3
    values = np.random.default_rng(9).standard_normal((3, 6))[labels] + generator.standard_normal((len(labels), 6))
    return LabelledFeatures({"a": PooledFeatures(values.astype(np.float32))}, labels, n_label_names=names)


def fit(head: HeadConfig, train_data: LabelledFeatures, valid_data: LabelledFeatures | None = None) -> TrainingResult:
    return train(head, CONFIG, train_data, valid_data, 3, 0, CPU, QUIET)


@pytest.mark.parametrize("head", [FusionConfig(width=8), LlmEmbedConfig(width=8)])
def test_a_head_with_epochs_needs_validation_texts(head: HeadConfig) -> None:
    with pytest.raises(DataError, match="validation split is required"):
        fit(head, rows(60))
    assert fit(head, rows(60), rows(30, 1)).out_of_fold is None


def test_an_ensemble_of_many_rows_needs_validation_texts() -> None:
    with pytest.raises(DataError, match="validation split is required"):
        fit(ENSEMBLE, rows(5001))


def test_linear_never_needs_validation_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusion_classifier.fusion.linear.MAX_CROSS_VALIDATED", 50)
    one = fit(LinearConfig(), rows(90, names=3))
    assert one.out_of_fold is not None
    judged, logits = one.out_of_fold
    assert logits.shape == (50, 3)
    labels = rows(90).labels[judged]
    assert one.decision == fit_decision(logits, labels)
    assert one.best.valid_accuracy == pytest.approx(float((logits.argmax(1).numpy() == labels).mean()))


def test_label_names_do_not_count_towards_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EnsembleConfig, "cross_validated_rows", 60)
    one = fit(ENSEMBLE, rows(60, names=3))
    assert one.out_of_fold is not None
    assert one.out_of_fold.logits.shape == (60, 3)
    with pytest.raises(DataError, match="validation split is required"):
        fit(ENSEMBLE, rows(61))


@pytest.mark.parametrize("head", [LinearConfig(), ENSEMBLE])
@pytest.mark.parametrize("valid", [None, rows(30, 1)])
def test_it_is_calibrated_out_of_fold(head: HeadConfig, valid: LabelledFeatures | None) -> None:
    data = rows(90, names=3)
    one = fit(head, data, valid)
    assert one.out_of_fold is not None
    assert one.decision == fit_decision(one.out_of_fold.logits, data.labels[:90])
    judges, logits = data.texts, one.out_of_fold.logits
    if valid is not None:
        judges, logits = valid, predict_logits(one.head, valid.features, 30, CPU)
    assert one.best.valid_accuracy == pytest.approx(float((logits.argmax(1).numpy() == judges.labels).mean()))


@pytest.mark.parametrize("head", [LinearConfig(), ENSEMBLE, FusionConfig(width=8)])
def test_the_one_who_asks_is_told_of_every_epoch(head: HeadConfig) -> None:
    seen: list[Epoch] = []
    one = train(head, CONFIG, rows(60), rows(30, 1), 3, 0, CPU, QUIET, seen.append)
    assert tuple(seen) == one.history
    assert len(seen) == (2 if isinstance(head, FusionConfig) else 1)


@pytest.mark.parametrize("head", [LinearConfig(), ENSEMBLE])
def test_an_empty_split_is_named(head: HeadConfig) -> None:
    with pytest.raises(DataError, match="training split is empty"):
        fit(head, rows(0))
    with pytest.raises(DataError, match="validation split is empty"):
        fit(head, rows(30), rows(0))
