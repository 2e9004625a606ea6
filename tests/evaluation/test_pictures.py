"""Pictures of a run as PNG files."""

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest

from fusion_classifier.evaluation.figures.charts import ablation_ranking, training_charts
from fusion_classifier.evaluation.figures.png import fonts
from fusion_classifier.evaluation.pictures import (
    TRAINING_CURVES,
    prediction_pictures,
    write_pictures,
)
from fusion_classifier.evaluation.predictions import SplitPredictions

EPOCH = {"epoch": 1, "train_loss": 1.0, "valid_loss": 1.0, "valid_weighted_f1": 0.5}
ONE, SEVERAL = np.array([0, 1, 1]), np.array([[0, 1], [1, 1]])


def part(labels: np.ndarray) -> SplitPredictions:
    by_seed = {0: np.full((len(labels), 2), 0.5)}
    return SplitPredictions("test", [""] * len(labels), labels, by_seed, {0: labels})


def fail(message: str) -> None:
    raise AssertionError(message)


def test_every_picture_is_a_png(tmp_path: Path) -> None:
    combination = {"head": "linear", "encoders": ["a"], "metrics": {"accuracy": {"mean": 1, "ci95": [0.9, 1]}}}
    for figures in (
        prediction_pictures(part(ONE), ("a", "b")),
        prediction_pictures(part(SEVERAL), ("a", "b")),
        {TRAINING_CURVES: training_charts({0: {"history": [EPOCH, EPOCH], "best_epoch": 1}})},
        {"ablation.png": ablation_ranking({"split": "test", "combinations": [combination]})},
    ):
        write_pictures(tmp_path, figures, fail)
    assert {path.name for path in tmp_path.iterdir() if path.read_bytes().startswith(b"\x89PNG")} == {
        "confusion_matrix.png",
        "risk_coverage.png",
        "f1_by_label.png",
        "training_curves.png",
        "ablation.png",
    }


@pytest.mark.parametrize("name", ["\x00", "a" * 15_000])
def test_label_that_cannot_be_drawn_is_no_warning(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_pictures(tmp_path, prediction_pictures(part(ONE), (name, "joy")), fail)
    assert (tmp_path / "confusion_matrix.png").stat().st_size


def test_missing_matplotlib_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    reports: list[str] = []
    write_pictures(tmp_path, prediction_pictures(part(ONE), ("a", "b")), reports.append)
    assert "matplotlib" in reports[0]
    assert "[report]" in reports[0]
    assert list(tmp_path.iterdir()) == []


def test_fonts_of_this_machine_have_what_matplotlibs_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels in Japanese, for example; a font that is not here would be a warning per picture."""
    manager = pytest.importorskip("matplotlib.font_manager")
    entry = manager.FontEntry(name="Yu Gothic")
    monkeypatch.setattr(manager.fontManager, "ttflist", [*manager.fontManager.ttflist, entry])
    found = fonts()
    assert found[0] == "DejaVu Sans"
    assert "Yu Gothic" in found
    assert set(found) <= {font.name for font in manager.fontManager.ttflist}
