"""Pictures of a run: its figures as PNG files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fusion_classifier.errors import UsageError
from fusion_classifier.evaluation.figures.charts import f1_ranking, risk_chart
from fusion_classifier.evaluation.figures.confusion import confusion_matrix, label_order
from fusion_classifier.evaluation.figures.png import save
from fusion_classifier.evaluation.figures.values import Figure
from fusion_classifier.evaluation.metrics import per_class
from fusion_classifier.evaluation.predictions import SplitPredictions
from fusion_classifier.support.extras import require
from fusion_classifier.support.files import atomic_file

TRAINING_CURVES = "training_curves.png"
CONFUSION_MATRIX = "confusion_matrix.png"
RISK_COVERAGE = "risk_coverage.png"
F1_BY_LABEL = "f1_by_label.png"


def prediction_pictures(
    part: SplitPredictions, names: Sequence[str], label_tree: Sequence[tuple[str, str]] = ()
) -> dict[str, Figure]:
    """Return confusion matrix and accuracy by coverage, or F1 by label of a multi-label task, by file name."""
    if part.labels.ndim == 2:
        return {F1_BY_LABEL: f1_ranking(per_class(part, names))}
    matrix = confusion_matrix(part, names, label_order(part, names, label_tree))
    return {CONFUSION_MATRIX: matrix, RISK_COVERAGE: [risk_chart(part)]}


def write_pictures(folder: Path, figures: Mapping[str, Figure], report: Callable[[str], None]) -> None:
    """Write figures to a folder. Without matplotlib (extra `report`), only `report` how to install it."""
    try:
        require("drawing pictures", "report", "matplotlib")
    except UsageError as error:
        report(str(error))
        return
    for name, figure in figures.items():
        with atomic_file(folder / name) as path:
            save(figure, path)
