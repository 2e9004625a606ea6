"""How good predictions are where a text may have any number of labels; the counterpart of `metrics`.

Metrics come from scikit-learn and torchmetrics; the true labels come first.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.stats import bootstrap
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, precision_recall_fscore_support
from torchmetrics.functional.classification import binary_calibration_error

from fusion_classifier.evaluation.metrics import CONFIDENCE, ECE_BINS, RESAMPLES, summary_of

MULTILABEL_METRICS = ("macro_f1", "micro_f1", "weighted_f1", "map", "subset_accuracy", "nll", "ece")


def score(labels: np.ndarray, probabilities: np.ndarray, answers: np.ndarray) -> dict[str, float]:
    """Every metric of `MULTILABEL_METRICS` for one set of predictions.

    Args:
        labels: true labels, (N, C) of 0 and 1.
        probabilities: (N, C).
        answers: given labels, (N, C) of 0 and 1.

    Returns:
        macro, micro and weighted F1; map, the mean over labels of the average precision (labels that no text
        has are left out; 0 where all are); subset_accuracy, the share of texts of which every label is right;
        nll in nats, the mean over texts and labels; ece over all pairs of text and label, with 15 bins.
    """
    present = labels.any(0)
    p = np.clip(probabilities.astype(np.float64), 1e-15, 1 - 1e-15)
    below_one = np.clip(probabilities.astype(np.float32), 0, np.nextafter(np.float32(1), np.float32(0)))
    return {
        "macro_f1": float(f1_score(labels, answers, average="macro", zero_division=0)),
        "micro_f1": float(f1_score(labels, answers, average="micro", zero_division=0)),
        "weighted_f1": float(f1_score(labels, answers, average="weighted", zero_division=0)),
        "map": _mean_average_precision(labels[:, present], probabilities[:, present]),
        "subset_accuracy": float(accuracy_score(labels, answers)),
        "nll": float(-np.where(labels == 1, np.log(p), np.log(1 - p)).mean()),
        "ece": float(
            binary_calibration_error(
                torch.from_numpy(below_one.ravel()), torch.from_numpy(labels.ravel()), n_bins=ECE_BINS, norm="l1"
            )
        ),
    }


def _mean_average_precision(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Over the columns, each a label that some text has; 0 where there is none."""
    return float(average_precision_score(labels, probabilities, average="macro")) if labels.size else 0.0


def summarize(
    labels: np.ndarray, by_seed: Sequence[np.ndarray], answers: Sequence[np.ndarray]
) -> dict[str, dict[str, object]]:
    """Each metric over several seeds, as `metrics.summarize`; the three F1 with a bootstrap interval."""
    scores = [score(labels, p, given) for p, given in zip(by_seed, answers, strict=True)]
    return summary_of(scores, MULTILABEL_METRICS, intervals(labels, answers))


def intervals(labels: np.ndarray, answers: Sequence[np.ndarray]) -> dict[str, list[float]]:
    """Percentile bootstrap intervals over texts, the same resample for all seeds: macro, micro, weighted F1."""
    n = len(labels)
    if n < 2:
        return {}
    # (N, C) each: hits, and what F1 divides by. A resample is a weight a text, its sums one matrix product.
    hits = [(labels & given).astype(np.float32) for given in answers]
    given_or_true = [(labels + given).astype(np.float32) for given in answers]
    truth = labels.astype(np.float32)

    def statistic(average: Callable[[np.ndarray, np.ndarray, np.ndarray], float]) -> Callable[[np.ndarray], float]:
        def of_rows(rows: np.ndarray) -> float:
            weights = np.bincount(rows, minlength=n).astype(np.float32)
            support = weights @ truth
            values = [
                average(2 * (weights @ hit), weights @ both, support)
                for hit, both in zip(hits, given_or_true, strict=True)
            ]
            return float(np.mean(values))

        return of_rows

    result = {}
    for name, average in F1_AVERAGES.items():
        found = bootstrap(
            (np.arange(n),),
            statistic(average),
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            vectorized=False,
            rng=np.random.default_rng(0),
        )
        result[name] = [float(found.confidence_interval.low), float(found.confidence_interval.high)]
    return result


def _by_label(twice_hits: np.ndarray, both: np.ndarray) -> np.ndarray:
    f1: np.ndarray = twice_hits / np.maximum(both, 1)
    return f1


# Average F1 from sums by label, (C,): twice the hits, true and given labels together, true labels.
F1_AVERAGES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], float]] = {
    "macro_f1": lambda hits, both, _: float(_by_label(hits, both).mean()),
    "micro_f1": lambda hits, both, _: float(hits.sum() / max(both.sum(), 1)),
    "weighted_f1": lambda hits, both, support: float((_by_label(hits, both) * support).sum() / max(support.sum(), 1)),
}


def per_class(labels: np.ndarray, answers: Sequence[np.ndarray], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 (means over seeds) and support of each label."""
    tables = [precision_recall_fscore_support(labels, given, zero_division=0) for given in answers]
    precision, recall, f1, support = np.mean(np.asarray(tables, dtype=np.float64), axis=0)
    return {
        name: {
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "support": int(support[i]),
        }
        for i, name in enumerate(names)
    }
