"""Confused pairs of labels and confident mistakes of a run."""

from dataclasses import replace
from pathlib import PurePath
from typing import Any

import numpy as np

from fusion_classifier.evaluation.figures.confusion import confusion_counts
from fusion_classifier.evaluation.report.record import RunRecord

PAIRS, EXAMPLES, MISTAKES = 12, 2, 12  # number shown of confused pairs, texts per pair, confident mistakes


def confused_pairs(run: RunRecord) -> list[dict[str, Any]]:
    """Return the pairs of true and predicted label with the most texts (mean over seeds), and example texts."""
    counts = confusion_counts(run.part, len(run.names))
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    answers = np.stack(list(run.part.answers.values()))  # (S, N)
    found = []
    for cell in np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]:
        true, predicted = np.unravel_index(cell, wrong.shape)
        if not wrong[true, predicted]:
            break
        rows = np.flatnonzero((run.part.labels == true) & (answers == predicted).any(0))
        examples: dict[str, float] = {}  # distinct texts: a text may be duplicated
        for row in rows[np.argsort(-run.mean[rows, predicted], kind="stable")]:
            text = run.text(row)
            if text is not None and len(examples) < EXAMPLES:
                examples.setdefault(text, float(run.mean[row, predicted]))
        found.append(
            {
                "true": run.names[true],
                "predicted": run.names[predicted],
                "count": float(counts[true, predicted]),
                "support": float(counts[true].sum()),
                "back": float(counts[predicted, true]),
                "examples": examples,
            }
        )
    return found


def confident_mistakes(run: RunRecord) -> list[dict[str, Any]]:
    """Return the texts with the most confident wrong predictions of the seeds together.

    Confidence is the mean of their probabilities of the predicted label. In a multi-label task, the wrong label of
    each text whose probability is farthest from the truth.
    """
    mean, labels, every = run.mean, run.part.labels, np.arange(len(run.part.labels))
    answers = run.part.ensemble()
    if run.multilabel:
        gaps = np.where(answers == labels, -1, np.abs(mean - labels))
        predicted = gaps.argmax(1)
        confidence = gaps[every, predicted]
        wrong = np.flatnonzero((answers != labels).any(1))
    else:
        predicted = answers
        confidence = mean[every, predicted]
        wrong = np.flatnonzero(predicted != labels)
    found = []
    for row in wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES].tolist():
        place = run.part.places[row]
        given_up = run.multilabel and labels[row, predicted[row]]
        found.append(
            {
                "place": str(replace(place, file=PurePath(place.file).name)),  # a whole path would not fit
                "text": run.text(row),
                "true": run.labels_text(labels[row]),
                "predicted": ("not " if given_up else "") + run.names[predicted[row]],
                "p": float(confidence[row]),
                "p_true": None if run.multilabel else float(mean[row, labels[row]]),
            }
        )
    return found
