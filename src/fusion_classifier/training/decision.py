"""From logits to predictions: calibrated probabilities and, for a multi-label task, a threshold per label.

    one label per text    q = softmax(z / T),  p ∝ q · (1 − q)^β,   answer: the label with the largest ln p_c + o_c
    several labels        p = sigmoid(z / T),  answer: every label c whose probability reaches t_c

The temperature T scales all logits equally. That is not enough if a classifier is overconfident in its confident
predictions but underconfident in the others: β reduces only the former. With β < 1 neither changes the order of
labels within a text, and so neither accuracy nor top-3 accuracy: for q₁ > q₂ the ratio p₁ / p₂ is at least (q₁ /
q₂)^(1−β).

The offsets o are 0 unless macro F1 is optimized (offsets.py). They affect only the predicted label, not the
probabilities, so the predicted label need not be the most probable one.

All parameters are fitted after training (calibration.py) and saved with the model.

Sources: Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017,
https://arxiv.org/abs/1706.04599, section 4.2; Kull, Silva Filho, Flach: Beta calibration, AISTATS 2017,
https://proceedings.mlr.press/v54/kull17a.html, whose map for two labels is p^a / (1 − p)^b; here β is −b.
"""

from typing import TYPE_CHECKING, Union

import numpy as np
from pydantic import Field

from fusion_classifier.config import FrozenModel

if TYPE_CHECKING:
    from torch import Tensor

Logits = Union["Tensor", np.ndarray]  # a tensor on the CPU, or an array

MIN_PROBABILITY = 1e-13  # e⁻³⁰, as in offsets.py: 0 has no logarithm
MIN_LOG_REST = -30.0  # log of the other labels' share below which a probability rounds to 1


class Member(FrozenModel):
    """A member of the head `ensemble`, with its scores on texts that it was not trained on."""

    name: str
    """Name."""
    weight: float
    """Weight of its logits."""
    accuracy: float
    """Accuracy, from 0 to 1."""
    weighted_f1: float
    """Weighted F1, from 0 to 1."""


class Decision(FrozenModel):
    """Conversion of a model's logits to probabilities and labels."""

    temperature: float = Field(default=1.0, gt=0)
    """Divisor of the logits."""
    beta: float = Field(default=0.0, lt=1)
    """Exponent β of the other labels' share; 0 is temperature scaling alone, as in every multi-label task."""
    offsets: tuple[float, ...] | None = None
    """Offsets added to the logarithm of each label's probability before labels are ranked. Default: none."""
    thresholds: tuple[float, ...] | None = None
    """Minimum probability for predicting a label, per label; null if a text has exactly one label."""

    @property
    def multilabel(self) -> bool:
        """Whether a text may have several labels."""
        return self.thresholds is not None

    def probabilities(self, logits: Logits) -> np.ndarray:
        """Calibrated probabilities (N, C), float32, of logits (N, C); rows sum to 1 unless multi-label."""
        z = np.asarray(logits, dtype=np.float64)
        if self.multilabel:
            below = np.exp(-np.abs(z / self.temperature))  # never overflows
            several: np.ndarray = np.where(z < 0, below, 1) / (1 + below)
            return several.astype(np.float32)
        one: np.ndarray = np.exp(log_calibrated(z, self.temperature, self.beta))
        return one.astype(np.float32)

    def log_odds(self, logits: Logits) -> np.ndarray:
        """ln p − ln(1 − p) of the calibrated probabilities of logits (N, C): (N, C), float64.

        One label per text: at most 30. They distinguish probabilities that round to 1.
        """
        z = np.asarray(logits, dtype=np.float64)
        if self.multilabel:
            return np.asarray(z / self.temperature)
        log_p = log_calibrated(z, self.temperature, self.beta)
        return np.asarray(log_p - log_rest(log_p))

    def labels(self, probabilities: np.ndarray) -> np.ndarray:
        """Label numbers (N,), int64, or multi-label (N, C) of 0 and 1, int64."""
        if self.thresholds is None:
            best: np.ndarray = self.ranks_by(probabilities).argmax(1)
            return best
        return (probabilities >= np.asarray(self.thresholds, dtype=np.float32)).astype(np.int64)

    def ranks_by(self, probabilities: np.ndarray) -> np.ndarray:
        """Ranking scores of the labels, higher is better, for probabilities (…, C)."""
        if self.offsets is None:
            return probabilities
        return np.asarray(np.log(np.maximum(probabilities, MIN_PROBABILITY), dtype=np.float64) + self.offsets)


def log_calibrated(logits: np.ndarray, temperature: float, beta: float) -> np.ndarray:
    """Logarithms of the calibrated probabilities of logits (N, C), one label per text: (N, C), float64."""
    log_q = _log_softmax(logits / temperature)
    if beta == 0 or logits.shape[1] == 1:
        return log_q
    return _log_softmax(log_q + beta * log_rest(log_q))


def log_rest(log_q: np.ndarray) -> np.ndarray:
    """log(1 − q) from log q; at least −30, since it would be minus infinity for a q that rounds to 1."""
    return np.asarray(np.log(-np.expm1(np.minimum(log_q, -np.exp(MIN_LOG_REST)))))


def _log_softmax(x: np.ndarray) -> np.ndarray:
    # As scipy.special.log_softmax, without importing scipy for a prediction.
    x = x - x.max(1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(1, keepdims=True)))
