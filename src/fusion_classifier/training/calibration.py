"""Fits calibration, thresholds and mixture weights on held-out texts after training.

The formulas are in decision.py. Here logits are (N, C) of the validation texts; targets are label numbers (N,),
int64, or for a multi-label task (N, C) of 0 and 1; sample weights are (N,), mean 1; None is uniform.
"""

# ruff: noqa: PLC0415  # prediction imports neither scipy.optimize nor sklearn.metrics

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fusion_classifier.fusion.folds import fold_numbers
from fusion_classifier.fusion.loss import MAX_LOG_SCALE, fit_scale, loss_of
from fusion_classifier.training.decision import Decision, log_calibrated
from fusion_classifier.training.offsets import fit_offsets

MIN_WEIGHT = 1e-6  # minimum sum of the weights: below, no part is better than chance
PRIOR_TEXTS = 10.0  # strength of the prior of an ensemble's weights; chosen on validation (docs/decisions.md)
BETA_LIMITS = (-5.0, 0.95)


def fit_mixture(parts: Tensor, targets: np.ndarray, start: Tensor, weights: np.ndarray | None = None) -> Tensor:
    """Weights a ≥ 0 (P,), float32, of a head's parts (P, N, C) with the lowest loss of Σ a_p parts_p.

    The scale is left to the temperature: a has the sum of `start` (P,), the weights in training, which are returned
    if the fit fails.
    """
    mixture = _lowest_loss(parts, targets, start, weights, strength=0)
    return start if mixture is None else (mixture * (start.sum() / mixture.sum())).float()


def fit_weights(parts: Tensor, targets: np.ndarray, prior: Tensor, weights: np.ndarray | None = None) -> Tensor:
    """Weights a ≥ 0 (P,), float32, of the members' logits (P, N, C): those with the lowest

        loss(Σ a_p parts_p) + PRIOR_TEXTS / N · ‖a − prior‖²,

    so that a few texts change the `prior` (P,) little.
    """
    mixture = _lowest_loss(parts, targets, prior, weights, strength=PRIOR_TEXTS / max(len(targets), 1))
    return (prior if mixture is None else mixture).float()


def _lowest_loss(
    parts: Tensor, targets: np.ndarray, start: Tensor, weights: np.ndarray | None, *, strength: float
) -> Tensor | None:
    """a ≥ 0 (P,), float64, with the lowest loss(Σ a_p parts_p) + strength · ‖a − start‖²; None if the fit fails."""
    from scipy.optimize import minimize

    logits, truth, of_texts = parts.double(), torch.from_numpy(targets), as_tensor(weights)

    def loss(of_parts: np.ndarray) -> tuple[float, np.ndarray]:
        a = torch.from_numpy(of_parts).requires_grad_()
        value = loss_of(torch.einsum("p,pnc->nc", a, logits), truth, weights=of_texts)
        value = value + strength * (a - start).square().sum()
        value.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
        assert a.grad is not None
        return value.item(), a.grad.numpy()

    optimum = minimize(loss, start.double().numpy(), jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(start))
    mixture = torch.from_numpy(optimum.x)
    return mixture if torch.isfinite(mixture).all() and mixture.sum() > MIN_WEIGHT else None


def as_tensor(weights: np.ndarray | None) -> Tensor | None:
    """Sample weights as a tensor, for `loss_of`."""
    return None if weights is None else torch.from_numpy(weights)


def fit_decision(
    logits: Tensor,
    targets: np.ndarray,
    *,
    calibrate: bool = True,
    weights: np.ndarray | None = None,
    metric: str = "weighted_f1",
) -> Decision:
    """Fit the calibration with the lowest loss, then each label's threshold with the highest F1 (multi-label).

    Without `calibrate` the temperature is 1 and beta 0. One label per text and `metric` macro_f1: also offsets.
    """
    if targets.ndim == 1:
        exact = logits.double().numpy()
        decision = _fit_calibration(exact, targets, weights) if calibrate else Decision()
        if metric != "macro_f1":
            return decision
        log_p = log_calibrated(exact, decision.temperature, decision.beta)
        return decision.model_copy(update={"offsets": fit_offsets(log_p, targets, weights)})
    truth = torch.from_numpy(targets)
    temperature = 1 / fit_scale(logits.double(), truth, as_tensor(weights))[0] if calibrate else 1.0
    probabilities = torch.sigmoid(logits.float() / temperature).numpy()
    return Decision(temperature=temperature, thresholds=best_thresholds(probabilities, targets, weights))


class Decided(NamedTuple):
    """Calibrated probabilities (N, C), float32, and predicted labels, (N,) or multi-label (N, C), int64."""

    probabilities: np.ndarray
    answers: np.ndarray


def cross_fitted(
    logits: Tensor,
    targets: np.ndarray,
    *,
    calibrate: bool = True,
    weights: np.ndarray | None = None,
    metric: str = "weighted_f1",
    groups: np.ndarray | None = None,
) -> Decided:
    """Predictions for each text by a decision fitted on the texts of the other folds.

    Scores on the texts that a decision was fitted on are optimistic, above all those of thresholds on few texts.
    Arguments as in `fit_decision`; `groups` as in `fold_numbers`.
    """
    folds = fold_numbers(np.arange(len(targets))[:, None], targets, seed=0, groups=groups)
    probabilities, answers = np.empty(logits.shape, np.float32), np.empty(targets.shape, np.int64)
    for fold in np.unique(folds):
        held = folds == fold
        of_others = None if weights is None else weights[~held]
        decision = fit_decision(
            logits[torch.from_numpy(~held)], targets[~held], calibrate=calibrate, weights=of_others, metric=metric
        )
        probabilities[held] = decision.probabilities(logits[torch.from_numpy(held)])
        answers[held] = decision.labels(probabilities[held])
    return Decided(probabilities, answers)


def _fit_calibration(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> Decision:
    """Temperature and β with the lowest mean cross-entropy of logits (N, C), float64, on labels (N,).

    The target of the true label is (N + 1) / (N + 2), not 1, and the others share the rest: the posterior mean after
    N correct predictions (Platt 1999, Probabilistic Outputs for Support Vector Machines, section 2.2). Otherwise a
    head that is right on a few validation texts would always be certain.
    """
    from scipy.optimize import minimize

    rows, doubt = np.arange(len(labels)), 1 / (len(labels) + 2)
    others = max(logits.shape[1] - 1, 1)

    def loss(parameters: np.ndarray) -> float:
        log_p = log_calibrated(logits, np.exp(parameters[0]), parameters[1])
        true = log_p[rows, labels]
        return -float(np.average((1 - doubt) * true + doubt / others * (log_p.sum(1) - true), weights=weights))

    limits = [(-MAX_LOG_SCALE, MAX_LOG_SCALE), BETA_LIMITS]
    # An explicit simplex: from 0 alone the search would start with steps of 1/4000 and could stop there.
    start = np.array([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]])
    optimum = minimize(loss, start[0], method="Nelder-Mead", bounds=limits, options={"initial_simplex": start})
    return Decision(temperature=float(np.exp(optimum.x[0])), beta=float(optimum.x[1]))


def best_thresholds(
    probabilities: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
) -> tuple[float, ...]:
    """For each label the threshold with the highest F1; 0.5 for a label without texts.

    A threshold is midway between the lowest probability above it and the highest below it.
    """
    from sklearn.metrics import precision_recall_curve

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
