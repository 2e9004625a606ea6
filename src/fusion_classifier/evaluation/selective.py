"""Selective prediction: what accuracy is left if the model answers only where it is confident.

Source: Geifman and El-Yaniv: Selective Classification for Deep Neural Networks, NeurIPS 2017,
https://arxiv.org/abs/1705.08500.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


@dataclass(frozen=True)
class RiskCoverage:
    """By number of texts answered, the most confident first.

    `coverage`, `risk` (share of wrong answers) and `threshold` (the lowest confidence answered): (K,) each.
    K is the number of different confidences: texts of the same confidence are answered together or not at all.
    """

    coverage: np.ndarray
    risk: np.ndarray
    threshold: np.ndarray

    @property
    def area(self) -> float:
        """Area under the risk–coverage curve (AURC), in [0, 1]; lower is better."""
        steps = np.diff(self.coverage, prepend=0.0)
        return float((self.risk * steps).sum())


def risk_coverage(labels: np.ndarray, probabilities: np.ndarray) -> RiskCoverage:
    """The curve of one set of predictions.

    Args:
        labels: true labels, (N,), int64.
        probabilities: (N, C).
    """
    confidence = probabilities.max(1)
    wrong = probabilities.argmax(1) != labels
    order = np.argsort(-confidence, kind="stable")
    confidence, wrong = confidence[order], wrong[order]
    last = np.flatnonzero(np.append(confidence[1:] != confidence[:-1], True))  # of each group of equals
    answered = last + 1
    return RiskCoverage(answered / len(labels), np.cumsum(wrong)[last] / answered, confidence[last])


def at_coverages(labels: np.ndarray, by_seed: Sequence[np.ndarray]) -> list[dict[str, float]]:
    """For each of `COVERAGES` the accuracy on the texts answered and the threshold (`--abstain`) that gives it.

    Means over seeds; the coverage is the largest that the confidences allow up to the one asked for.
    """
    curves = [risk_coverage(labels, probabilities) for probabilities in by_seed]
    rows = []
    for asked in COVERAGES:
        at = [max(int(np.searchsorted(curve.coverage, asked + 1e-12)) - 1, 0) for curve in curves]
        rows.append(
            {
                "coverage": float(np.mean([curve.coverage[i] for curve, i in zip(curves, at, strict=True)])),
                "accuracy": float(np.mean([1 - curve.risk[i] for curve, i in zip(curves, at, strict=True)])),
                "threshold": float(np.mean([curve.threshold[i] for curve, i in zip(curves, at, strict=True)])),
            }
        )
    return rows
