"""Metrics for the detection of unknown texts by a score that is higher for less typical texts."""

import numpy as np

# Titles of the figures: AUROC and AUPR over all thresholds, the others at one threshold; unknown texts are
# positive.
UNKNOWN_TITLES = {
    "auroc": "AUROC",
    "aupr": "AUPR",
    "f1": "F1",
    "recall": "rejected, unknown",
    "false_alarms": "rejected, known",
}


def unknown_figures(known: np.ndarray, unknown: np.ndarray, threshold: float) -> dict[str, float]:
    """The figures of `UNKNOWN_TITLES`, all in [0, 1].

    Args:
        known: Scores of known texts (N,).
        unknown: Scores of unknown texts (M,).
        threshold: Score above which a text is rejected.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score  # noqa: PLC0415  # slow to import

    scores, truth = np.concatenate([known, unknown]), np.repeat([0, 1], [len(known), len(unknown)])
    rejected = scores > threshold
    hits = float((rejected & (truth == 1)).sum())
    return {
        "auroc": float(roc_auc_score(truth, scores)),
        "aupr": float(average_precision_score(truth, scores)),
        "f1": 2 * hits / float(rejected.sum() + len(unknown)),
        "recall": hits / len(unknown),
        "false_alarms": float((known > threshold).mean()),
    }
