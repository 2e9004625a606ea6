"""From logits to answers: calibrated probabilities, and for a multi-label task a threshold a label.

All of it is fitted on the validation split after training and kept with the model.

    one label a text    softmax(z / T), answer: the most probable label
    any number          sigmoid(z / T), answer: every label c whose probability reaches t_c

The temperature T changes no order of labels within a text, so neither accuracy nor top-3 accuracy.

Source: Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017,
https://arxiv.org/abs/1706.04599, section 4.2.
"""

from collections.abc import Callable

import numpy as np
import torch
from pydantic import Field
from scipy.optimize import minimize_scalar
from sklearn.metrics import precision_recall_curve
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from fusion_classifier.config import FrozenModel

MOST_LOG_TEMPERATURE = 5.0  # e⁵ ≈ 148: beyond it probabilities are as good as equal


class Decision(FrozenModel):
    """How a model's logits become probabilities and labels."""

    temperature: float = Field(default=1.0, gt=0)
    """What logits are divided by."""
    thresholds: tuple[float, ...] | None = None
    """Smallest probability at which a label is given, by label; null where a text has exactly one label."""

    @property
    def multilabel(self) -> bool:
        """Whether a text may have any number of labels."""
        return self.thresholds is not None

    def probabilities(self, logits: Tensor) -> np.ndarray:
        """Calibrated probabilities of logits (N, C): (N, C), float32; rows sum to 1 unless multi-label."""
        scaled = logits.float() / self.temperature
        probabilities: np.ndarray = (torch.sigmoid(scaled) if self.multilabel else torch.softmax(scaled, 1)).numpy()
        return probabilities

    def labels(self, probabilities: np.ndarray) -> np.ndarray:
        """The answers: label indices (N,), int64, or multi-label (N, C) of 0 and 1, int64."""
        if self.thresholds is None:
            best: np.ndarray = probabilities.argmax(1)
            return best
        return (probabilities >= np.asarray(self.thresholds, dtype=np.float32)).astype(np.int64)


def loss_of(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy in nats of logits (N, C): softmax for targets (N,), sigmoid a label for (N, C).

    `smoothing`: share of the target spread over all labels (multi-label: moved towards 1/2).
    """
    if targets.ndim == 1:
        return cross_entropy(logits, targets, label_smoothing=smoothing)
    soft = targets.to(logits.dtype) * (1 - smoothing) + smoothing / 2
    return binary_cross_entropy_with_logits(logits, soft)


def fit_decision(logits: Tensor, targets: np.ndarray, *, calibrate: bool = True) -> Decision:
    """The temperature with the lowest loss on these texts, then each label's threshold with the highest F1.

    Args:
        logits: (N, C), of the validation texts.
        targets: (N,), int64, or multi-label (N, C) of 0 and 1.
        calibrate: else the temperature stays 1.
    """
    temperature = 1.0
    if calibrate:
        temperature = fit_temperature(lambda t: float(loss_of(logits.double() / t, torch.from_numpy(targets))))
    if targets.ndim == 1:
        return Decision(temperature=temperature)
    probabilities = torch.sigmoid(logits.float() / temperature).numpy()
    return Decision(temperature=temperature, thresholds=best_thresholds(probabilities, targets))


def fit_temperature(loss: Callable[[float], float]) -> float:
    """The temperature at which this loss is lowest."""
    found = minimize_scalar(
        lambda log_temperature: loss(float(np.exp(log_temperature))),
        bounds=(-MOST_LOG_TEMPERATURE, MOST_LOG_TEMPERATURE),
        method="bounded",
    )
    return float(np.exp(found.x))


def best_thresholds(probabilities: np.ndarray, targets: np.ndarray) -> tuple[float, ...]:
    """For each label the threshold with the highest F1; 0.5 for a label that no text has.

    A threshold lies midway between the probability it lets in and the next below, as far from both as it can.

    Args:
        probabilities: (N, C).
        targets: (N, C) of 0 and 1.
    """
    thresholds = []
    for column, truth in zip(probabilities.T, targets.T, strict=True):
        if not truth.any():
            thresholds.append(0.5)
            continue
        precision, recall, cuts = precision_recall_curve(truth, column)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = int(f1[:-1].argmax())
        below = cuts[best - 1] if best else cuts[best]
        thresholds.append(float((cuts[best] + below) / 2))
    return tuple(thresholds)
