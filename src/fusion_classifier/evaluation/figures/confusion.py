"""Confusion matrix of a run, and the order of its labels."""

from collections.abc import Sequence

import numpy as np

from fusion_classifier.evaluation.figures.label_order import LabelOrder, by_similarity, by_tree
from fusion_classifier.evaluation.figures.values import Matrix
from fusion_classifier.evaluation.predictions import SplitPredictions


def confusion_counts(part: SplitPredictions, n_classes: int) -> np.ndarray:
    """Count texts by true and predicted label, mean over seeds: (C, C), true labels in rows."""
    cells = [part.labels * n_classes + answers for answers in part.answers.values()]
    counts: np.ndarray = np.bincount(np.concatenate(cells), minlength=n_classes**2) / len(cells)
    return counts.reshape(n_classes, n_classes)


def label_order(part: SplitPredictions, names: Sequence[str], tree: Sequence[tuple[str, str]] = ()) -> LabelOrder:
    """Order labels by their tree if they have one, otherwise by confusion or, multi-label, by co-prediction."""
    found = by_tree(names, tree) if tree else None
    if found is not None:
        return found
    if part.labels.ndim == 1:
        counts = confusion_counts(part, len(names))
        return by_similarity(counts / np.maximum(counts.sum(1, keepdims=True), 1))
    mean = np.mean(list(part.by_seed.values()), axis=0)
    together = mean.T @ mean
    norm = np.sqrt(np.maximum(together.diagonal(), 1e-12))
    return by_similarity(np.clip(together / np.outer(norm, norm), 0, 1))


def confusion_matrix(part: SplitPredictions, names: Sequence[str], order: LabelOrder) -> Matrix:
    """Return the confusion matrix with the labels in this order."""
    counts = confusion_counts(part, len(names))[np.ix_(order.order, order.order)]
    groups = [order.groups[label] for label in order.order]
    edges = tuple(i for i in range(1, len(groups)) if groups[i] != groups[i - 1])
    seeds = len(part.by_seed)
    return Matrix(
        "Share of each true label, %" + (f", mean of {seeds} seeds" if seeds > 1 else ""),
        tuple(names[label] for label in order.order),
        counts,
        edges if len(edges) < len(groups) - 1 else (),
    )
