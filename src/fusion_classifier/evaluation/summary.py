"""All metrics of a split, whether a text has one label or several."""

from collections.abc import Sequence

from fusion_classifier.evaluation import metrics, multilabel
from fusion_classifier.evaluation.predictions import SplitPredictions


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
