"""Metrics of predictions, for tasks with one label per text and for multi-label tasks.

True labels come first in every function: swapping true and predicted labels changes weighted F1. With one label per
text both are (N,), int64; in a multi-label task they are (N, C) of 0 and 1.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fusion_classifier.evaluation.predictions import SplitPredictions

METRICS = ("accuracy", "weighted_f1", "macro_f1", "top3_accuracy", "nll", "ece")
MULTILABEL_METRICS = ("macro_f1", "micro_f1", "weighted_f1", "map", "subset_accuracy", "nll", "ece")
CONFIDENCE = 0.95
RESAMPLES = 1000
RESAMPLES_AT_ONCE = 100
ECE_BINS = 15


def summarize(part: SplitPredictions) -> dict[str, dict[str, object]]:
    """Summarize every metric of a split over its seeds.

    Returns:
        By metric `mean`, `std` (n − 1) and `values`. Accuracy and F1 also have `ci95`, the percentile bootstrap
        interval over texts of the mean over seeds, unless there is a single text.
    """
    answers = list(part.answers.values())
    scores = [score(part.labels, p, given) for p, given in zip(part.by_seed.values(), answers, strict=True)]
    n_classes = next(iter(part.by_seed.values())).shape[1]
    resamples = bootstrap_scores(part.labels, answers, n_classes, RESAMPLES) if len(part.labels) > 1 else {}
    summary = over_seeds(scores)
    for metric in summary.keys() & resamples.keys():
        summary[metric]["ci95"] = percentile_interval(resamples[metric].mean(1))
    return summary


def over_seeds(figures: Sequence[Mapping[str, float]]) -> dict[str, dict[str, object]]:
    """Each figure's `mean`, `std` (n − 1) and `values` over seeds."""
    found: dict[str, dict[str, object]] = {}
    for name in figures[0]:
        values = [one[name] for one in figures]
        std = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        found[name] = {"mean": float(np.mean(values)), "std": std, "values": values}
    return found


def per_class(part: SplitPredictions, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Compute precision, recall, F1 (means over seeds) and number of texts of each label."""
    hits, given, support = label_counts(part.labels, list(part.answers.values()), len(names))
    precision, recall = hits / np.maximum(given, 1), hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(given + support, 1)
    return {
        name: {
            "precision": float(precision[0, :, i].mean()),
            "recall": float(recall[0, :, i].mean()),
            "f1": float(f1[0, :, i].mean()),
            "support": int(support[0, 0, i]),
        }
        for i, name in enumerate(names)
    }


def score(labels: np.ndarray, probabilities: np.ndarray, answers: np.ndarray | None = None) -> dict[str, float]:
    """Compute every metric of `METRICS`, or `MULTILABEL_METRICS` for labels (N, C), for one set of predictions.

    Args:
        labels: True labels.
        probabilities: (N, C). With one label per text rows sum to 1.
        answers: Predicted labels. Default: the most probable label; required for multi-label tasks.

    Returns:
        All in [0, 1] except nll, which is in nats. Macro F1 ignores labels that neither occur nor are predicted, for
        which F1 is undefined; a label that is predicted but has no texts counts as 0. Top-3 accuracy is that
        of the predicted label and the two most probable others. Multi-label: map is the mean average precision over
        the labels with texts, subset_accuracy the share of texts with all labels right; nll and ece are over all
        pairs of text and label.
    """
    exact = probabilities.astype(np.float64)
    if labels.ndim == 1:
        answers = probabilities.argmax(1) if answers is None else answers
        first = np.arange(probabilities.shape[1]) == answers[:, None]
        top3 = np.argsort(-np.where(first, np.inf, probabilities), axis=1, kind="stable")[:, :3]
        exact = np.clip(exact, 1e-15, 1)
        others = {
            "top3_accuracy": (top3 == labels[:, None]).any(1).mean(),
            "nll": -np.log(exact[np.arange(len(labels)), labels] / exact.sum(1)).mean(),
        }
    else:
        from sklearn.metrics import average_precision_score  # noqa: PLC0415 - slow to import, rarely used

        assert answers is not None, "a multi-label task has thresholds, which decide the answers"
        present = labels.any(0)
        exact = np.clip(exact, 1e-15, 1 - 1e-15)
        others = {
            "map": average_precision_score(labels[:, present], probabilities[:, present]) if present.any() else 0.0,
            "subset_accuracy": (labels == answers).all(1).mean(),
            "nll": -np.where(labels == 1, np.log(exact), np.log(1 - exact)).mean(),
        }
    of_answers = answer_scores(labels, [answers], probabilities.shape[1])
    found = {name: values.item() for name, values in of_answers.items()} | others
    found["ece"] = expected_calibration_error(labels, probabilities, answers if labels.ndim == 1 else None)
    return {name: float(value) for name, value in found.items()}


def label_counts(
    labels: np.ndarray, answers: Sequence[np.ndarray], n_classes: int, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count correct predictions, predictions and texts of each label.

    Args:
        labels: True labels.
        answers: Predicted labels of each of S seeds.
        n_classes: Number of labels C.
        weights: How often each text counts, (R, N). Default: once, with R = 1.

    Returns:
        Correct predictions (R, S, C), predictions (R, S, C) and texts (R, 1, C).
    """
    from scipy.sparse import csr_array, hstack  # noqa: PLC0415 - slow to import, rarely used

    def indicator(values: np.ndarray) -> csr_array:  # (N, C) of 0 and 1
        if values.ndim == 2:
            return csr_array(values, dtype=np.float64)
        n = len(values)
        return csr_array((np.ones(n), values, np.arange(n + 1)), (n, n_classes))

    truth, given = indicator(labels), [indicator(one) for one in answers]
    everything = hstack([truth, *(truth.multiply(one) for one in given), *given], format="csr")
    weights = np.ones((1, len(labels))) if weights is None else weights
    counts = (everything.T @ weights.T).T.reshape(len(weights), 1 + 2 * len(given), n_classes)
    return counts[:, 1 : 1 + len(given)], counts[:, 1 + len(given) :], counts[:, :1]


def answer_scores(
    labels: np.ndarray, answers: Sequence[np.ndarray], n_classes: int, weights: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Compute accuracy, weighted and macro F1; for multi-label tasks macro, micro and weighted F1.

    Args:
        labels, answers, n_classes, weights: See `label_counts`.

    Returns:
        By metric (R, S).
    """
    hits, given, support = label_counts(labels, answers, n_classes, weights)
    both = given + support
    f1 = 2 * hits / np.maximum(both, 1)
    micro = 2 * hits.sum(2) / np.maximum(both.sum(2), 1)  # equals accuracy with one label per text
    weighted = (f1 * support).sum(2) / np.maximum(support.sum(2), 1)
    macro = f1.sum(2) / np.maximum((both > 0).sum(2), 1)
    if labels.ndim == 2:
        return {"macro_f1": macro, "micro_f1": micro, "weighted_f1": weighted}
    return {"accuracy": micro, "weighted_f1": weighted, "macro_f1": macro}


def bootstrap_scores(
    labels: np.ndarray, answers: Sequence[np.ndarray], n_classes: int, n_resamples: int
) -> dict[str, np.ndarray]:
    """Compute `answer_scores` of bootstrap resamples of the texts, (n_resamples, S) by metric.

    All seeds, and all calls with the same number of texts, use the same resamples, so that scores can be paired.

    Source: Efron and Tibshirani: An Introduction to the Bootstrap, 1993, chapter 13.
    """
    batches = [answer_scores(labels, answers, n_classes, weights) for weights in _resamples(len(labels), n_resamples)]
    return {metric: np.concatenate([batch[metric] for batch in batches]) for metric in batches[0]}


def _resamples(n_texts: int, n_resamples: int) -> Iterator[np.ndarray]:
    """Draw texts with replacement, in batches: how often each text was drawn, (R, N)."""
    rng = np.random.default_rng(0)
    for start in range(0, n_resamples, RESAMPLES_AT_ONCE):
        drawn = rng.integers(0, n_texts, (min(RESAMPLES_AT_ONCE, n_resamples - start), n_texts))
        yield np.stack([np.bincount(rows, minlength=n_texts) for rows in drawn])


def percentile_interval(resampled: np.ndarray) -> list[float]:
    """Compute the 95% interval of a bootstrapped statistic (R,)."""
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(resampled, [tail, 100 - tail])
    return [float(low), float(high)]


def hits_and_confidence(
    labels: np.ndarray, probabilities: np.ndarray, answers: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return whether predictions are correct, bool, and their probabilities: (N,), in a multi-label task (N·C,).

    Args:
        labels: True labels.
        probabilities: (N, C).
        answers: Predicted labels, (N,). Default: the most probable ones. Not used in a multi-label task, where every
            probability is judged.
    """
    if labels.ndim == 2:
        return labels.ravel() == 1, probabilities.ravel()
    answers = probabilities.argmax(1) if answers is None else answers
    return answers == labels, probabilities[np.arange(len(labels)), answers]


def expected_calibration_error(
    labels: np.ndarray, probabilities: np.ndarray, answers: np.ndarray | None = None
) -> float:
    """Compute the mean gap between confidence and accuracy over 15 bins of equal width, in [0, 1].

    Confidence is the probability of the predicted label; arguments as in `hits_and_confidence`.

    Source: Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017,
    https://arxiv.org/abs/1706.04599, section 2.
    """
    count, accuracy, confidence = reliability(*hits_and_confidence(labels, probabilities, answers))
    used = count > 0
    return float((count * np.abs(accuracy - confidence))[used].sum() / count.sum())


def reliability(hits: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compare predictions with their confidence in 15 bins of equal width.

    Args:
        hits: Whether each prediction is correct, (N,), bool.
        confidence: Its probability, (N,).

    Returns:
        Per bin, the number of predictions, their accuracy and their mean confidence; NaN for empty bins.
    """
    exact = confidence.astype(np.float64)
    bins = np.minimum((exact * ECE_BINS).astype(np.int64), ECE_BINS - 1)  # rounding may produce confidences above 1
    count = np.bincount(bins, minlength=ECE_BINS)
    with np.errstate(invalid="ignore"):
        accuracy, mean = (np.bincount(bins, weights, ECE_BINS) / count for weights in (hits, exact))
    return count, accuracy, mean
