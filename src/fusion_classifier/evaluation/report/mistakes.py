"""Confusion matrix, confused pairs and confident mistakes of a run."""

import math
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from fusion_classifier.evaluation.report.label_order import LabelOrder, by_confusion, by_tree
from fusion_classifier.evaluation.report.record import EXAMPLES, LABELLED_CELLS, MISTAKES, PAIRS, RunRecord


def counts_of(run: RunRecord) -> np.ndarray:
    """The confusion matrix, true labels in rows, mean over seeds: (C, C)."""
    classes = np.arange(len(run.names))
    found: np.ndarray = np.mean(
        [confusion_matrix(run.part.labels, one, labels=classes) for one in run.part.answers.values()], axis=0
    )
    return found


def shares_of(counts: np.ndarray) -> np.ndarray:
    """The same as shares of each true label; a label without a text has a row of zeros."""
    shares: np.ndarray = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return shares


def order_of(run: RunRecord) -> LabelOrder:
    """The labels by their tree where there is one, else by what is confused or, multi-label, predicted together."""
    found = by_tree(run.names, run.label_tree) if run.label_tree else None
    if found is not None:
        return found
    if not run.multilabel:
        return by_confusion(shares_of(counts_of(run)))
    together = run.mean.T @ run.mean
    norm = np.sqrt(np.maximum(together.diagonal(), 1e-12))
    return by_confusion(np.clip(together / np.outer(norm, norm), 0, 1))


def confusion(run: RunRecord, order: LabelOrder) -> dict[str, Any]:
    """The confusion matrix to draw: cells with a share above zero, labels in order, lines between groups."""
    counts, n = counts_of(run), len(run.names)
    shares = shares_of(counts)
    cell = 34 if n <= 14 else 22 if n <= 40 else 12 if n <= 80 else 6
    position = {label: place for place, label in enumerate(order.order)}
    cells = []
    for true, predicted in zip(*np.nonzero(counts), strict=True):
        share = float(shares[true, predicted])
        cells.append(
            {
                "row": position[int(true)],
                "column": position[int(predicted)],
                "hit": bool(true == predicted),
                # The root, so that a few per cent can be seen.
                "opacity": round(math.sqrt(share), 2),
                "number": f"{100 * share:.0f}" if share >= LABELLED_CELLS and cell >= 22 else "",
                "true": run.names[int(true)],
                "predicted": run.names[int(predicted)],
                "share": share,
                "count": float(counts[true, predicted]),
            }
        )
    names = [run.names[i] for i in order.order]
    groups = [order.groups[i] for i in order.order]
    edges = [place for place in range(1, n) if groups[place] != groups[place - 1]]
    return {
        "cells": cells,
        "names": [name if len(name) <= 18 else name[:17] + "…" for name in names],
        "full": names,
        "support": [float(counts[i].sum()) for i in order.order],
        "edges": edges if len(edges) < n - 1 else [],
        "cell": cell,
        "side": n * cell,
        "margin": min(16 + int(6.6 * min(max(map(len, names)), 18)), 140),
        "fewest": LABELLED_CELLS,
    }


def confused_pairs(run: RunRecord) -> list[dict[str, Any]]:
    """The pairs of true and predicted label with the most texts (mean over seeds), with the clearest examples."""
    counts, mean = counts_of(run), run.mean
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    flat = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    given = np.stack(list(run.part.answers.values()))  # (S, N)
    found = []
    for true, predicted in (np.unravel_index(one, wrong.shape) for one in flat):
        if not wrong[true, predicted]:
            break
        rows = np.flatnonzero((run.part.labels == true) & (given == predicted).any(0))
        rows = rows[np.argsort(-mean[rows, predicted], kind="stable")]
        # A text may stand there more than once.
        distinct: dict[str, float] = {}
        for row in rows:
            text = run.text(int(row))
            if text is not None and len(distinct) < EXAMPLES:
                distinct.setdefault(text, float(mean[row, predicted]))
        found.append(
            {
                "true": run.names[true],
                "predicted": run.names[predicted],
                "count": float(counts[true, predicted]),
                "support": float(counts[true].sum()),
                "share": float(counts[true, predicted] / counts[true].sum()),
                "back": float(counts[predicted, true]),
                "examples": [{"text": text, "p": p} for text, p in distinct.items()],
            }
        )
    return found


def confident_mistakes(run: RunRecord) -> list[dict[str, Any]]:
    """The texts on which the mean of the seeds' probabilities is wrong and surest of it.

    In a multi-label task: pairs of text and label whose probability is farthest from the truth.
    """
    mean, labels = run.mean, run.part.labels
    found: list[dict[str, Any]] = []
    if run.multilabel:
        gap = np.abs(mean - labels)
        seen: set[int] = set()
        for flat in np.argsort(-gap, axis=None, kind="stable"):
            row, label = (int(i) for i in np.unravel_index(flat, gap.shape))
            if len(found) == MISTAKES or gap[row, label] < 0.5:
                break
            if row in seen:
                continue
            seen.add(row)
            true = [run.names[int(i)] for i in np.flatnonzero(labels[row])]
            found.append(
                {
                    "text": run.text(row),
                    "true": ", ".join(true) or "no label",
                    "predicted": ("" if not labels[row, label] else "not ") + run.names[label],
                    "p": float(mean[row, label] if not labels[row, label] else 1 - mean[row, label]),
                    "p_true": None,
                    "row": row,
                }
            )
        return found
    answers = mean.argmax(1)
    wrong = np.flatnonzero(answers != labels)
    for row in wrong[np.argsort(-mean[wrong, answers[wrong]], kind="stable")][:MISTAKES]:
        found.append(
            {
                "text": run.text(int(row)),
                "true": run.names[int(labels[row])],
                "predicted": run.names[int(answers[row])],
                "p": float(mean[row, answers[row]]),
                "p_true": float(mean[row, labels[row]]),
                "row": int(row),
            }
        )
    return found
