"""From logits to answers: calibrated probabilities, and for a multi-label task a threshold a label.

All of it is fitted on the validation split after training and kept with the model; and so are the weights with
which a head mixes the logits of its parts.

    one label a text    q = softmax(z / T),  p ∝ q · (1 − q)^β,   answer: the most probable label
    any number          p = sigmoid(z / T),  answer: every label c whose probability reaches t_c

The temperature T scales all logits alike. That is not enough where a classifier is too sure of its sure answers but
not sure enough of its doubtful ones: β takes from the former alone. With β < 1 neither changes the order of labels
within a text, so neither accuracy nor top-3 accuracy: for q₁ > q₂ the ratio p₁ / p₂ is at least (q₁ / q₂)^(1−β).

Sources: Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017,
https://arxiv.org/abs/1706.04599, section 4.2; Kull, Silva Filho, Flach: Beta calibration, AISTATS 2017,
https://proceedings.mlr.press/v54/kull17a.html, whose map for two labels is p^a / (1 − p)^b; here β is −b.
"""

import numpy as np
import torch
from pydantic import Field
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.metrics import precision_recall_curve
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from fusion_classifier.config import FrozenModel

MOST_LOG_TEMPERATURE = 5.0  # e⁵ ≈ 148: beyond it probabilities are as good as equal
LEAST_WEIGHT = 1e-6  # of all parts together: below, none of them knows anything
BETA_LIMITS = (-5.0, 0.95)
LEAST_LOG_REST = -30.0  # the other labels' share below which probabilities are 1 to all digits


class Decision(FrozenModel):
    """How a model's logits become probabilities and labels."""

    temperature: float = Field(default=1.0, gt=0)
    """What logits are divided by."""
    beta: float = Field(default=0.0, lt=1)
    """Exponent β of the other labels' share; 0 is temperature scaling alone, and so is any multi-label task."""
    thresholds: tuple[float, ...] | None = None
    """Smallest probability at which a label is given, by label; null where a text has exactly one label."""

    @property
    def multilabel(self) -> bool:
        """Whether a text may have any number of labels."""
        return self.thresholds is not None

    def probabilities(self, logits: Tensor) -> np.ndarray:
        """Calibrated probabilities of logits (N, C): (N, C), float32; rows sum to 1 unless multi-label."""
        if self.multilabel:
            several: np.ndarray = torch.sigmoid(logits.float() / self.temperature).numpy()
            return several
        one: np.ndarray = np.exp(log_calibrated(logits.double().numpy(), self.temperature, self.beta))
        return one.astype(np.float32)

    def log_odds(self, logits: Tensor) -> np.ndarray:
        """ln p − ln(1 − p) of the calibrated probabilities of logits (N, C): (N, C), float64.

        One label a text: at most 30. They still tell apart what in probabilities rounds to 1.
        """
        if self.multilabel:
            several: np.ndarray = logits.double().numpy() / self.temperature
            return several
        log_p = log_calibrated(logits.double().numpy(), self.temperature, self.beta)
        return np.asarray(log_p - log_rest(log_p))

    def labels(self, probabilities: np.ndarray) -> np.ndarray:
        """The answers: label indices (N,), int64, or multi-label (N, C) of 0 and 1, int64."""
        if self.thresholds is None:
            best: np.ndarray = probabilities.argmax(1)
            return best
        return (probabilities >= np.asarray(self.thresholds, dtype=np.float32)).astype(np.int64)


def loss_of(logits: Tensor, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy in nats of logits (N, C): softmax for targets (N,), sigmoid a label for (N, C).

    `smoothing`: share of the target spread over all labels (multi-label: moved towards 1/2); `weights` (N,): what
    each text's loss is multiplied by.
    """
    reduction = "mean" if weights is None else "none"
    if targets.ndim == 1:
        losses = cross_entropy(logits, targets, label_smoothing=smoothing, reduction=reduction)
    else:
        soft = targets.to(logits.dtype) * (1 - smoothing) + smoothing / 2
        losses = binary_cross_entropy_with_logits(logits, soft, reduction=reduction)
    if weights is None:
        return losses
    return ((losses if targets.ndim == 1 else losses.mean(1)) * weights).mean()


def log_calibrated(logits: np.ndarray, temperature: float, beta: float) -> np.ndarray:
    """Logarithms of the calibrated probabilities of logits (N, C), one label a text: (N, C), float64."""
    log_q = log_softmax(logits / temperature, axis=1)
    if beta == 0 or logits.shape[1] == 1:
        return np.asarray(log_q)
    return np.asarray(log_softmax(log_q + beta * log_rest(log_q), axis=1))


def log_rest(log_q: np.ndarray) -> np.ndarray:
    """log(1 − q) from log q, which of a q that rounds to 1 would be minus infinity."""
    return np.asarray(np.log(-np.expm1(np.minimum(log_q, -np.exp(LEAST_LOG_REST)))))


def fit_mixture(parts: Tensor, targets: np.ndarray, start: Tensor, weights: np.ndarray | None = None) -> Tensor:
    """Weights a ≥ 0 of the parts with the lowest loss of Σ a_p parts_p, scaled to the sum of `start`: (P,), float32.

    The loss is convex in a. Scale is the temperature's business.

    Args:
        parts: logits (P, N, C), of the validation texts.
        targets: (N,), int64, or multi-label (N, C) of 0 and 1.
        start: the weights in training (P,), which stay where no others are better.
        weights: how much each text counts, (N,), mean 1; all alike unless given.
    """
    logits, truth, of_texts = parts.double(), torch.from_numpy(targets), as_tensor(weights)

    def loss(of_parts: np.ndarray) -> tuple[float, np.ndarray]:
        a = torch.from_numpy(of_parts).requires_grad_()
        value = loss_of((a[:, None, None] * logits).sum(0), truth, weights=of_texts)
        value.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
        assert a.grad is not None
        return value.item(), a.grad.numpy()

    found = minimize(loss, start.double().numpy(), jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(start))
    mixture = torch.from_numpy(found.x)
    if not torch.isfinite(mixture).all() or mixture.sum() < LEAST_WEIGHT:
        return start
    return (mixture * (start.sum() / mixture.sum())).float()


def as_tensor(weights: np.ndarray | None) -> Tensor | None:
    """Weights of texts as `loss_of` takes them."""
    return None if weights is None else torch.from_numpy(weights)


def fit_decision(
    logits: Tensor, targets: np.ndarray, *, calibrate: bool = True, weights: np.ndarray | None = None
) -> Decision:
    """The calibration with the lowest loss on these texts, then each label's threshold with the highest F1.

    Args:
        logits: (N, C), of the validation texts.
        targets: (N,), int64, or multi-label (N, C) of 0 and 1.
        calibrate: else the temperature stays 1 and beta 0.
        weights: how much each text counts, (N,), mean 1; all alike unless given.
    """
    if targets.ndim == 1:
        return fit_calibration(logits.double().numpy(), targets, weights) if calibrate else Decision()
    truth = torch.from_numpy(targets)
    temperature = fit_temperature(logits.double(), truth, as_tensor(weights)) if calibrate else 1.0
    probabilities = torch.sigmoid(logits.float() / temperature).numpy()
    return Decision(temperature=temperature, thresholds=best_thresholds(probabilities, targets, weights))


def fit_calibration(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Decision:
    """Temperature and β with the lowest mean cross-entropy of logits (N, C), float64, on labels (N,).

    The target of the true label is (N + 1) / (N + 2), not 1, the rest is the others': what N texts without a mistake
    say of the next one (Platt 1999, Probabilistic Outputs for Support Vector Machines, section 2.2). Else a head that
    is right on a few validation texts would be certain of everything.
    """
    rows, doubt = np.arange(len(labels)), 1 / (len(labels) + 2)
    others = max(logits.shape[1] - 1, 1)

    def loss(parameters: np.ndarray) -> float:
        log_p = log_calibrated(logits, np.exp(parameters[0]), parameters[1])
        true = log_p[rows, labels]
        return -float(np.average((1 - doubt) * true + doubt / others * (log_p.sum(1) - true), weights=weights))

    limits = [(-MOST_LOG_TEMPERATURE, MOST_LOG_TEMPERATURE), BETA_LIMITS]
    # Steps of size: from 0 alone the search would begin with steps of 1/4000 and may stop there.
    start = np.array([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]])
    found = minimize(loss, start[0], method="Nelder-Mead", bounds=limits, options={"initial_simplex": start})
    return Decision(temperature=float(np.exp(found.x[0])), beta=float(found.x[1]))


def fit_temperature(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> float:
    """The temperature with the lowest loss, of a multi-label task; targets as in `fit_calibration`."""
    limits = [(-MOST_LOG_TEMPERATURE, MOST_LOG_TEMPERATURE)]
    found = minimize(
        lambda x: float(loss_of(logits / float(np.exp(x[0])), targets, 2 / (len(targets) + 2), weights)),
        [0.0],
        method="Nelder-Mead",
        bounds=limits,
        options={"initial_simplex": [[0.0], [0.5]]},
    )
    return float(np.exp(found.x[0]))


def best_thresholds(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> tuple[float, ...]:
    """For each label the threshold with the highest F1; 0.5 for a label that no text has.

    A threshold lies midway between the probability it lets in and the next below, as far from both as it can.

    Args:
        probabilities: (N, C).
        targets: (N, C) of 0 and 1.
        weights: how much each text counts, (N,); all alike unless given.
    """
    thresholds = []
    for column, truth in zip(probabilities.T, targets.T, strict=True):
        if not truth.any():
            thresholds.append(0.5)
            continue
        precision, recall, cuts = precision_recall_curve(truth, column, sample_weight=weights)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = int(f1[:-1].argmax())
        below = cuts[best - 1] if best else cuts[best]
        thresholds.append(float((cuts[best] + below) / 2))
    return tuple(thresholds)
