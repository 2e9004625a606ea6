"""Writes the figures of a run as PNG files. They need matplotlib, of the extra `report`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fusion_classifier.errors import UsageError
from fusion_classifier.evaluation.figures.charts import ablation_ranking, f1_ranking, risk_chart, training_charts
from fusion_classifier.evaluation.figures.confusion import confusion_matrix, label_order
from fusion_classifier.evaluation.figures.png import save_charts, save_matrix, save_ranking
from fusion_classifier.evaluation.metrics import per_class
from fusion_classifier.evaluation.predictions import SplitPredictions
from fusion_classifier.support.extras import require
from fusion_classifier.support.files import atomic_file

TRAINING_CURVES = "training_curves.png"
CONFUSION_MATRIX = "confusion_matrix.png"
RISK_COVERAGE = "risk_coverage.png"
F1_BY_LABEL = "f1_by_label.png"
ABLATION = "ablation.png"


def write_training_curves(folder: Path, records: Mapping[int, Mapping[str, Any]]) -> None:
    """Write training_curves.png into a run folder; `records` by seed as in training.json.

    Raises:
        UsageError: matplotlib is missing.
    """
    with _picture(folder / TRAINING_CURVES) as path:
        save_charts(training_charts(records), path)


def write_pictures(
    folder: Path, part: SplitPredictions, names: Sequence[str], label_tree: Sequence[tuple[str, str]] = ()
) -> None:
    """Write confusion_matrix.png and risk_coverage.png, or f1_by_label.png of a multi-label task, into a run folder.

    Raises:
        UsageError: matplotlib is missing.
    """
    if part.labels.ndim == 2:
        with _picture(folder / F1_BY_LABEL) as path:
            save_ranking(f1_ranking(per_class(part, names)), path)
        return
    with _picture(folder / CONFUSION_MATRIX) as path:
        save_matrix(confusion_matrix(part, names, label_order(part, names, label_tree)), path)
    with _picture(folder / RISK_COVERAGE) as path:
        save_charts([risk_chart(part)], path)


def write_ablation(folder: Path, result: Mapping[str, Any]) -> None:
    """Write ablation.png; `result` as in ablation.json.

    Raises:
        UsageError: matplotlib is missing.
    """
    with _picture(folder / ABLATION) as path:
        save_ranking(ablation_ranking(result), path)


@contextmanager
def optional_pictures(report: Callable[[str], None]) -> Iterator[None]:
    """Go on without the pictures if matplotlib is missing, after reporting it."""
    try:
        yield
    except UsageError as error:
        report(str(error))


@contextmanager
def _picture(path: Path) -> Iterator[Path]:
    require("drawing pictures", "report", "matplotlib")
    with atomic_file(path) as temporary:
        yield temporary
