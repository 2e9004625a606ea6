"""Evaluation: metrics, intervals, overlap, predictions, selective prediction, pictures."""

from collections.abc import Sequence

from fusion_classifier.evaluation import metrics, multilabel
from fusion_classifier.evaluation.metrics import METRICS
from fusion_classifier.evaluation.multilabel import MULTILABEL_METRICS
from fusion_classifier.evaluation.overlap import overlap
from fusion_classifier.evaluation.predictions import SplitPredictions, write_predictions
from fusion_classifier.evaluation.selective import at_coverages

__all__ = [
    "METRICS",
    "MULTILABEL_METRICS",
    "SplitPredictions",
    "at_coverages",
    "overlap",
    "per_class",
    "summarize",
    "write_predictions",
]


def summarize(part: SplitPredictions) -> dict[str, dict[str, object]]:
    """Each metric of a split over seeds; see `metrics.summarize` and `multilabel.summarize`."""
    probabilities = list(part.by_seed.values())
    if part.labels.ndim == 1:
        return metrics.summarize(part.labels, probabilities)
    return multilabel.summarize(part.labels, probabilities, list(part.answers.values()))


def per_class(part: SplitPredictions, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Precision, recall, F1 (means over seeds) and support of each label."""
    if part.labels.ndim == 1:
        return metrics.per_class(part.labels, list(part.by_seed.values()), names)
    return multilabel.per_class(part.labels, list(part.answers.values()), names)
