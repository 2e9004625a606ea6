"""How good predictions are.

Metrics come from scikit-learn and torchmetrics; only what neither has in this form is computed here. In all
of them the true labels come first: swapping the two adds points to weighted F1.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from scipy.stats import bootstrap
from sklearn.metrics import accuracy_score, f1_score, log_loss, precision_recall_fscore_support
from torchmetrics.functional.classification import multiclass_calibration_error

METRICS = ("accuracy", "weighted_f1", "macro_f1", "top3_accuracy", "nll", "ece")
CONFIDENCE = 0.95
RESAMPLES = 1000
ECE_BINS = 15


def score(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Every metric of `METRICS` for one set of predictions.

    Args:
        labels: true labels, (N,), int64.
        probabilities: (N, C), rows that sum to 1.

    Returns:
        accuracy, weighted_f1, macro_f1, top3_accuracy in [0, 1]; nll in nats; ece in [0, 1] with 15 bins.
        F1 counts a class that is neither in the labels nor predicted out.
    """
    predicted = probabilities.argmax(1)
    top3 = np.argsort(-probabilities, axis=1, kind="stable")[:, :3]
    classes = np.arange(probabilities.shape[1])
    clipped = np.clip(probabilities.astype(np.float64), 1e-15, 1)
    return {
        "accuracy": float(accuracy_score(labels, predicted)),
        "weighted_f1": float(f1_score(labels, predicted, average="weighted", zero_division=0)),
        "macro_f1": float(f1_score(labels, predicted, average="macro", zero_division=0)),
        "top3_accuracy": float((top3 == labels[:, None]).any(1).mean()),
        "nll": float(log_loss(labels, clipped / clipped.sum(1, keepdims=True), labels=classes)),
        "ece": expected_calibration_error(labels, probabilities),
    }


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean gap between confidence and accuracy over 15 bins of confidence, in [0, 1]."""
    # torchmetrics puts a confidence of exactly 1 into a bin of its own, and takes anything above for logits.
    below_one = np.clip(probabilities.astype(np.float32), 0, np.nextafter(np.float32(1), np.float32(0)))
    error = multiclass_calibration_error(
        torch.from_numpy(below_one),
        torch.from_numpy(labels),
        num_classes=probabilities.shape[1],
        n_bins=ECE_BINS,
        norm="l1",
    )
    return float(error)


def reliability(hits: np.ndarray, confidence: np.ndarray) -> list[dict[str, float]]:
    """What the calibration error sums up: how often predictions come true, by the probability given to them.

    Args:
        hits: whether each prediction is right, (N,), bool.
        confidence: its probability, (N,).

    Returns:
        For each of the 15 bins `low`, `high`, `count`, and where it has predictions their `accuracy` and mean
        `confidence`, else NaN.
    """
    edges = np.linspace(0, 1, ECE_BINS + 1)
    count = np.histogram(confidence, edges)[0]
    with np.errstate(invalid="ignore"):
        accuracy = np.histogram(confidence, edges, weights=hits.astype(np.float64))[0] / count
        mean = np.histogram(confidence, edges, weights=confidence.astype(np.float64))[0] / count
    return [
        {
            "low": float(edges[i]),
            "high": float(edges[i + 1]),
            "count": int(count[i]),
            "accuracy": float(accuracy[i]),
            "confidence": float(mean[i]),
        }
        for i in range(ECE_BINS)
    ]


def summarize(labels: np.ndarray, by_seed: Sequence[np.ndarray]) -> dict[str, dict[str, object]]:
    """Each metric over several seeds: mean, standard deviation (n − 1), the values, a bootstrap interval.

    Args:
        labels: (N,), int64.
        by_seed: probabilities (N, C) of each seed.

    Returns:
        By metric `{"mean", "std", "values"}`; accuracy and both F1 also have `ci95`, the percentile bootstrap
        interval over texts of the mean over seeds.
    """
    scores = [score(labels, probabilities) for probabilities in by_seed]
    predicted = [probabilities.argmax(1) for probabilities in by_seed]
    return summary_of(scores, METRICS, intervals(labels, predicted, by_seed[0].shape[1]))


def summary_of(
    scores: Sequence[Mapping[str, float]], metrics: Sequence[str], found: Mapping[str, list[float]]
) -> dict[str, dict[str, object]]:
    """Scores of several seeds as `{"mean", "std", "values"}` by metric, with `ci95` where an interval is given."""
    summary: dict[str, dict[str, object]] = {}
    for metric in metrics:
        values = [one[metric] for one in scores]
        std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        summary[metric] = {"mean": float(np.mean(values)), "std": std, "values": values}
        if metric in found:
            summary[metric]["ci95"] = found[metric]
    return summary


def intervals(labels: np.ndarray, by_seed: Sequence[np.ndarray], n_classes: int) -> dict[str, list[float]]:
    """Percentile bootstrap intervals over texts, the same resample for all seeds: accuracy and both F1.

    Source: Efron and Tibshirani: An Introduction to the Bootstrap, 1993, chapter 13.
    """
    cells = [labels * n_classes + predicted for predicted in by_seed]

    def statistic(metric: Callable[[np.ndarray], float]) -> Callable[[np.ndarray], float]:
        def of_rows(rows: np.ndarray) -> float:
            counts = [np.bincount(cell[rows], minlength=n_classes**2) for cell in cells]
            return float(np.mean([metric(count.reshape(n_classes, n_classes)) for count in counts]))

        return of_rows

    result: dict[str, list[float]] = {}
    if len(labels) < 2:
        return result  # one text says nothing of the spread
    for name, metric in CONFUSION_METRICS.items():
        found = bootstrap(
            (np.arange(len(labels)),),
            statistic(metric),
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            vectorized=False,
            rng=np.random.default_rng(0),
        )
        result[name] = [float(found.confidence_interval.low), float(found.confidence_interval.high)]
    return result


def _f1_by_class(confusion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F1 and support of each class from a confusion matrix with true labels in rows."""
    hits, support, predicted = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    return f1, support


def _macro_f1(confusion: np.ndarray) -> float:
    f1, support = _f1_by_class(confusion)
    present = (support + confusion.sum(0)) > 0
    return float(f1[present].mean())


def _weighted_f1(confusion: np.ndarray) -> float:
    f1, support = _f1_by_class(confusion)
    return float((f1 * support).sum() / support.sum())


# A resample's metrics from its confusion matrix: scikit-learn's own functions take a hundred times longer.
CONFUSION_METRICS: dict[str, Callable[[np.ndarray], float]] = {
    "accuracy": lambda confusion: float(confusion.trace() / confusion.sum()),
    "weighted_f1": _weighted_f1,
    "macro_f1": _macro_f1,
}


def per_class(labels: np.ndarray, by_seed: Sequence[np.ndarray], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 (means over seeds) and support of each class, by label."""
    tables = [
        precision_recall_fscore_support(
            labels, probabilities.argmax(1), labels=np.arange(len(names)), zero_division=0
        )
        for probabilities in by_seed
    ]
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
