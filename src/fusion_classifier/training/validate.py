"""Metrics of an epoch: loss and scores on the validation texts."""

import time

import torch
from torch import Tensor

from fusion_classifier.errors import NonFiniteError
from fusion_classifier.fusion.head import Head
from fusion_classifier.fusion.loss import loss_of
from fusion_classifier.training.calibration import as_tensor, fit_decision
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.inference import predict_logits
from fusion_classifier.training.result import Epoch
from fusion_classifier.training.scores import scores


def validate(
    head: Head, data: LabelledFeatures, epoch: int, train_loss: float, started: float, device: torch.device
) -> Epoch:
    logits = predict_logits(head, data.features, len(data), device)
    if not torch.isfinite(logits).all():
        raise NonFiniteError(
            f"training diverged (epoch {epoch}: NaN or infinity for a validation text); use a lower "
            "`learning_rate`, and check that the features are finite (fec store verify)"
        )
    return epoch_of(logits, data, epoch, train_loss, started)


def epoch_of(logits: Tensor, data: LabelledFeatures, epoch: int, train_loss: float, started: float) -> Epoch:
    """Metrics of an epoch, from the logits (N, C) of the validation texts."""
    decision = fit_decision(logits, data.labels, calibrate=False, weights=data.weights)
    answers = decision.labels(decision.probabilities(logits))
    reached = scores(data.labels, answers, data.weights)
    return Epoch(
        epoch=epoch,
        train_loss=train_loss,
        valid_loss=float(loss_of(logits, torch.from_numpy(data.labels), weights=as_tensor(data.weights))),
        valid_accuracy=reached.accuracy,
        valid_weighted_f1=reached.weighted_f1,
        seconds=time.perf_counter() - started,
        valid_macro_f1=reached.macro_f1,
    )
