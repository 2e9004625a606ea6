"""Selective prediction: accuracy if the model predicts only when it is confident.

Source: Geifman and El-Yaniv: Selective Classification for Deep Neural Networks, NeurIPS 2017,
https://arxiv.org/abs/1705.08500.
"""

import math
from dataclasses import dataclass

import numpy as np

from fusion_classifier.evaluation.metrics import hits_and_confidence
from fusion_classifier.evaluation.predictions import SplitPredictions

COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


@dataclass(frozen=True)
class RiskCoverage:
    """Risk by coverage, in descending order of confidence.

    One point per distinct confidence, K in total: texts with the same confidence are answered together or not at all.
    """

    coverage: np.ndarray
    """Share of the texts answered, (K,)."""
    risk: np.ndarray
    """Share of wrong answers among them, (K,)."""

    @property
    def area(self) -> float:
        """Area under the risk–coverage curve (AURC), in [0, 1]; lower is better."""
        return float((self.risk * np.diff(self.coverage, prepend=0.0)).sum())


def risk_coverage(labels: np.ndarray, probabilities: np.ndarray, answers: np.ndarray) -> RiskCoverage:
    """Compute the curve of labels (N,), int64, probabilities (N, C) and predicted labels (N,), int64."""
    right, confidence = hits_and_confidence(labels, probabilities, answers)
    order = np.argsort(-confidence, kind="stable")
    confidence, wrong = confidence[order], ~right[order]
    last = np.flatnonzero(np.append(confidence[1:] != confidence[:-1], True))  # of each group of equal confidences
    answered = last + 1
    return RiskCoverage(answered / len(labels), np.cumsum(wrong)[last] / answered)


def at_coverages(part: SplitPredictions, held_out: SplitPredictions) -> list[dict[str, float | None]]:
    """Compute coverage, accuracy on the answered texts, and threshold for each of `COVERAGES`, means over seeds.

    Thresholds are chosen on texts other than the measured ones: thresholds chosen on `part` would be optimistic.

    Args:
        part: Predictions to measure.
        held_out: Validation or out-of-fold predictions with the same seeds: each threshold answers the requested
            share of these, or the largest possible share below it; the threshold for all of them is 0.

    Returns:
        One row per requested coverage. Accuracy is None if a seed answers no text.
    """
    of_seeds = []
    for seed, probabilities in part.by_seed.items():
        thresholds = _thresholds(
            hits_and_confidence(held_out.labels, held_out.by_seed[seed], held_out.answers[seed])[1]
        )
        right, confidence = hits_and_confidence(part.labels, probabilities, part.answers[seed])
        answered = confidence >= thresholds[:, None]  # (K, N)
        count = answered.sum(1)
        with np.errstate(invalid="ignore"):
            accuracy = (answered & right).sum(1) / count
        of_seeds.append(np.stack([count / len(right), accuracy, thresholds]))
    rows = np.mean(of_seeds, axis=0).T.tolist()
    return [
        {"coverage": coverage, "accuracy": None if math.isnan(accuracy) else accuracy, "threshold": threshold}
        for coverage, accuracy, threshold in rows
    ]


def _thresholds(confidence: np.ndarray) -> np.ndarray:
    """Confidence threshold for each of `COVERAGES` on texts answered with this confidence, (K,)."""
    values, counts = np.unique(-confidence.astype(np.float64), return_counts=True)
    coverage = np.cumsum(counts) / len(confidence)
    places = [max(int(np.searchsorted(coverage, asked + 1e-12, side="right")) - 1, 0) for asked in COVERAGES]
    return np.array([0.0 if asked == 1 else -values[i] for asked, i in zip(COVERAGES, places, strict=True)])
