"""Selective prediction: accuracy if the model answers only where it is confident.

Source: Geifman and El-Yaniv: Selective Classification for Deep Neural Networks, NeurIPS 2017,
https://arxiv.org/abs/1705.08500.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


@dataclass(frozen=True)
class RiskCoverage:
    """Risk by coverage, the most confident texts first.

    One point for each of K distinct confidences: texts of the same confidence are answered together or not at all.
    """

    coverage: np.ndarray
    """Share of the texts answered, (K,)."""
    risk: np.ndarray
    """Share of wrong answers among them, (K,)."""
    threshold: np.ndarray
    """Lowest confidence answered, (K,)."""

    @property
    def area(self) -> float:
        """Area under the risk–coverage curve (AURC), in [0, 1]; lower is better."""
        return float((self.risk * np.diff(self.coverage, prepend=0.0)).sum())


def risk_coverage(labels: np.ndarray, probabilities: np.ndarray) -> RiskCoverage:
    """Compute the curve of labels (N,), int64, and probabilities (N, C)."""
    confidence = probabilities.max(1)
    wrong = probabilities.argmax(1) != labels
    order = np.argsort(-confidence, kind="stable")
    confidence, wrong = confidence[order], wrong[order]
    last = np.flatnonzero(np.append(confidence[1:] != confidence[:-1], True))  # of each group of equals
    answered = last + 1
    return RiskCoverage(answered / len(labels), np.cumsum(wrong)[last] / answered, confidence[last])


def at_coverages(labels: np.ndarray, by_seed: Sequence[np.ndarray]) -> list[dict[str, float]]:
    """Compute coverage, accuracy on the texts answered, and threshold at each of `COVERAGES`, means over seeds.

    The coverage is the largest that the confidences allow up to the one asked for.
    """
    curves = [risk_coverage(labels, probabilities) for probabilities in by_seed]
    rows = []
    for asked in COVERAGES:
        points = []
        for curve in curves:
            i = max(int(np.searchsorted(curve.coverage, asked + 1e-12)) - 1, 0)
            points.append((curve.coverage[i], 1 - curve.risk[i], curve.threshold[i]))
        coverage, accuracy, threshold = np.asarray(points, dtype=np.float64).mean(0)
        rows.append({"coverage": float(coverage), "accuracy": float(accuracy), "threshold": float(threshold)})
    return rows
