"""Metrics and sizes as text, for tables, model cards and reports."""

from collections.abc import Mapping
from statistics import stdev
from typing import Any, NamedTuple

METRIC_TITLES = {
    "accuracy": "accuracy",
    "weighted_f1": "weighted F1",
    "macro_f1": "macro F1",
    "top3_accuracy": "top-3 accuracy",
    "nll": "negative log-likelihood",
    "micro_f1": "micro F1",
    "map": "mean average precision",
    "subset_accuracy": "all labels right",
    "ece": "calibration error (ECE)",
}
NOT_PERCENT = ("nll",)
BASELINE_TITLES = {"logistic_regression": "logistic regression", "majority_class": "majority class"}
BASELINE_METRICS = ("accuracy", "subset_accuracy", "weighted_f1", "macro_f1")  # those of the task


class FormattedMetric(NamedTuple):
    """A metric as text; `str()` returns all parts, such as "60.44 ± 0.47 [58.7, 62.2]"."""

    mean: str
    """Mean over seeds."""
    std: str | None = None
    """Standard deviation over seeds. None with a single seed."""
    interval: tuple[str, str] | None = None
    """Bounds of the 95% interval. None for metrics without one."""

    def __str__(self) -> str:
        std = "" if self.std is None else f" ± {self.std}"
        interval = "" if self.interval is None else f" [{', '.join(self.interval)}]"
        return self.mean + std + interval


def format_metric(metric: str, summary: Mapping[str, Any]) -> FormattedMetric:
    """Format a metric in percent with two digits, the log-likelihood in nats with three.

    Args:
        metric: Key of `METRIC_TITLES`.
        summary: `mean` and, if any, `values` (one per seed) and `ci95`, as in metrics.json.
    """
    scale, digits = (1, 3) if metric in NOT_PERCENT else (100, 2)
    values, interval = summary.get("values", ()), summary.get("ci95")
    return FormattedMetric(
        f"{scale * summary['mean']:.{digits}f}",
        f"{scale * stdev(values):.{digits}f}" if len(values) > 1 else None,
        None if interval is None else (f"{scale * interval[0]:.1f}", f"{scale * interval[1]:.1f}"),
    )
