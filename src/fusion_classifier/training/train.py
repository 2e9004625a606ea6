"""Trains and calibrates a head of any kind: the single entry point from features to a trained head.

gradient heads   steps, the best epoch by validation (loop.py)
solved heads     fitted once: logistic regression, scikit-learn's
ensemble         both, weighted by out-of-fold predictions (ensemble.py)
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from fusion_classifier.config import TrainingConfig
from fusion_classifier.errors import DataError
from fusion_classifier.fusion.ensemble import EnsembleHead
from fusion_classifier.fusion.head import SolvedHead
from fusion_classifier.fusion.loss import loss_of
from fusion_classifier.fusion.registry import build_head
from fusion_classifier.support.progress import Progress
from fusion_classifier.training.calibration import as_tensor, fit_decision, fit_mixture
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.decision import Decision
from fusion_classifier.training.ensemble import fit_ensemble
from fusion_classifier.training.inference import predict_each, predict_logits, solved_features
from fusion_classifier.training.loop import deterministic, fit
from fusion_classifier.training.result import Epoch, TrainingResult
from fusion_classifier.training.validate import epoch_of, validate

logger = logging.getLogger(__name__)


def train(
    head: object,
    config: TrainingConfig,
    train_data: LabelledFeatures,
    valid_data: LabelledFeatures | None,
    n_classes: int,
    seed: int,
    device: torch.device,
    progress: Progress,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    upper_layers: Mapping[str, Tensor] | None = None,
    *,
    every_text: bool = False,
) -> TrainingResult:
    """Train one head.

    Args:
        head: Name, configuration or object, as in `head_config`. An object is copied.
        config: Hyper-parameters.
        train_data: Features and labels to train on.
        valid_data: Features and labels for early stopping and calibration. None: a head that cross-validates uses
            out-of-fold predictions for its choices and calibration.
        n_classes: Number of labels C.
        seed: Random seed.
        device: Device of the head.
        progress: Progress bar.
        on_epoch: Called after each epoch.
        upper_layers: Initial weights, by name, of the upper layers in the head `ensemble`, if it has any. Default:
            those of the head.
        every_text: Whether the head `ensemble` predicts every training text out of fold, even if fewer are enough for
            its choices. Default: False.

    Raises:
        DataError: A split is empty, or there is no validation split and the head needs one.
        NonFiniteError: The loss or a logit became NaN or infinite.
        UsageError: The head can't be built, or scikit-learn can't fit it.
    """
    for name, data in (("training", train_data), ("validation", valid_data)):
        if data is not None and not len(data):
            raise DataError(f"the {name} split is empty")
    with deterministic(seed):
        built = build_head(head, train_data.shapes, n_classes).to(device)
        if valid_data is None and train_data.n_texts > built.config.cross_validated_rows:
            raise DataError("a validation split is required; hold out some of the training texts")
        if isinstance(built, EnsembleHead):
            trained = fit_ensemble(
                built, config, train_data, valid_data, seed, device, progress, upper_layers, every_text=every_text
            )
            on_epoch(trained.best)
        elif isinstance(built, SolvedHead):
            trained = _solve(built, train_data, valid_data, seed, device, progress)
            on_epoch(trained.best)
        else:
            assert valid_data is not None
            best_epoch, history = fit(built, config, train_data.texts, valid_data, seed, device, progress, on_epoch)
            trained = TrainingResult(built, Decision(), seed, best_epoch, tuple(history))
            if len(built.mixture) > 1:
                parts = predict_each(built, built.parts, valid_data.features, len(valid_data), device)
                built.mixture.copy_(fit_mixture(parts, valid_data.labels, built.mixture.cpu(), valid_data.weights))
    decision = _decision(trained, config, train_data, valid_data, device)
    logger.info(
        "trained seed %d",
        seed,
        extra={
            "best_epoch": trained.best_epoch,
            "epochs": len(trained.history),
            "temperature": decision.temperature,
        },
    )
    return replace(trained, decision=decision)


def _decision(
    trained: TrainingResult,
    config: TrainingConfig,
    train_data: LabelledFeatures,
    valid_data: LabelledFeatures | None,
    device: torch.device,
) -> Decision:
    """Fit the decision on out-of-fold logits if there are any: they outnumber the validation texts."""
    if trained.out_of_fold is not None:
        rows, logits = trained.out_of_fold
        labels, weights = train_data.labels[rows], train_data.weights_of(rows)
    else:
        assert valid_data is not None
        logits = predict_logits(trained.head, valid_data.features, len(valid_data), device)
        labels, weights = valid_data.labels, valid_data.weights
    return fit_decision(logits, labels, calibrate=config.calibrate, weights=weights, metric=config.metric)


def _solve(
    head: SolvedHead,
    train_data: LabelledFeatures,
    valid_data: LabelledFeatures | None,
    seed: int,
    device: torch.device,
    progress: Progress,
) -> TrainingResult:
    """Fit in one step on all training texts, in memory as float32 (N, D); the history has one epoch."""
    started = time.perf_counter()
    with progress.bar(f"training seed {seed}", total=None):
        x = solved_features(head, train_data, device)
        data = train_data
        out_of_fold = head.cpu().solve(x, data.labels, data.weights, seed, data.n_label_names, data.groups)
        head.to(device)
        texts = train_data.texts
        logits = predict_logits(head, texts.features, len(texts), device)
        loss = float(loss_of(logits, torch.from_numpy(texts.labels), weights=as_tensor(texts.weights)))
        if valid_data is not None:
            epoch = validate(head, valid_data, 1, loss, started, device)
        else:
            assert out_of_fold is not None
            epoch = epoch_of(out_of_fold.logits, texts.take(out_of_fold.rows), 1, loss, started)
    return TrainingResult(head, Decision(), seed, 1, (epoch,), out_of_fold=out_of_fold)
