"""Offsets of the labels' log-probabilities for macro F1: rare labels are predicted more often.

Predicting the most probable label is optimal for accuracy. For macro F1, where a label with ten texts counts as much
as one with ten thousand, it is not: a rare label is rarely the most probable one. Two families are fitted to held-out
texts:

    prior       o_c = −τ ln π_c with one number τ; π_c is the label's share of the texts
    by_label    starting there, each o_c separately, in steps

With few texts the fit could be due to chance: each family is cross-validated on the same texts, and the better one is
used if its gain in macro F1 exceeds the standard error (paired bootstrap).

Source of `prior`: Menon et al.: Long-tail learning via logit adjustment, ICLR 2021, https://arxiv.org/abs/2007.07314.
"""

import numpy as np

from fusion_classifier.fusion.folds import FOLDS, stratified_folds
from fusion_classifier.training.scores import scores

TAUS = np.linspace(0, 1.5, 16)
STEPS = (-1.0, -0.5, -0.25, 0.25, 0.5, 1.0)
ROUNDS = 3
RESAMPLES = 200
MIN_LOG = -30.0


def fit_offsets(log_p: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, ...] | None:
    """Offsets (C,) to add to log-probabilities (N, C) for the best macro F1 on labels (N,); None if no offsets are
    better."""
    log_p = np.maximum(log_p, MIN_LOG)
    fold = stratified_folds(labels, seed=0)
    plain = log_p.argmax(1)
    best, chosen = 0.0, None
    for fit in (prior_offsets, label_offsets):
        answers = plain.copy()
        for number in range(FOLDS):
            held, rest = fold == number, fold != number
            if held.any() and rest.any():
                offsets = fit(log_p[rest], labels[rest], None if weights is None else weights[rest])
                answers[held] = (log_p[held] + offsets).argmax(1)
        gain, error = _gain(labels, plain, answers, weights)
        if gain > max(error, best):
            best, chosen = gain, fit
    return None if chosen is None else tuple(map(float, chosen(log_p, labels, weights)))


def prior_offsets(log_p: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The offsets −τ ln π_c with the best macro F1: (C,)."""
    counts = np.bincount(labels, weights, log_p.shape[1]) + 1
    rare = -np.log(counts / counts.max())
    reached = [scores(labels, (log_p + tau * rare).argmax(1), weights).macro_f1 for tau in TAUS]
    return np.asarray(TAUS[int(np.argmax(reached))] * rare)


def label_offsets(log_p: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The offsets with the best macro F1 found by coordinate search from `prior_offsets`: (C,)."""
    offsets = prior_offsets(log_p, labels, weights)
    best = scores(labels, (log_p + offsets).argmax(1), weights).macro_f1
    for _ in range(ROUNDS):
        before = best
        for label in range(len(offsets)):
            others = log_p + offsets
            own, others[:, label] = others[:, label].copy(), -np.inf
            second = others.argmax(1)
            least = others[np.arange(len(labels)), second]
            best_step = 0.0
            for step in STEPS:
                reached = scores(labels, np.where(own + step > least, label, second), weights).macro_f1
                if reached > best:
                    best, best_step = reached, step
            offsets[label] += best_step
        if best == before:
            break
    return offsets


def _gain(
    labels: np.ndarray, before: np.ndarray, after: np.ndarray, weights: np.ndarray | None
) -> tuple[float, float]:
    """Gain in macro F1, and its standard error over resamples of the texts."""
    each = np.ones(len(labels)) if weights is None else weights
    gain = scores(labels, after, each).macro_f1 - scores(labels, before, each).macro_f1
    rng, gains = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        drawn = each * np.bincount(rng.integers(0, len(labels), len(labels)), minlength=len(labels))
        gains.append(scores(labels, after, drawn).macro_f1 - scores(labels, before, drawn).macro_f1)
    return gain, float(np.std(gains))
