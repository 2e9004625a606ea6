"""Pictures of a run as PNG files."""

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest

from fusion_classifier.errors import UsageError
from fusion_classifier.evaluation.pictures import (
    optional_pictures,
    write_ablation,
    write_pictures,
    write_training_curves,
)
from fusion_classifier.evaluation.predictions import SplitPredictions

EPOCH = {"epoch": 1, "train_loss": 1.0, "valid_loss": 1.0, "valid_weighted_f1": 0.5}


def part(labels: np.ndarray) -> SplitPredictions:
    by_seed = {0: np.full((len(labels), 2), 0.5)}
    return SplitPredictions("test", [""] * len(labels), labels, by_seed, {0: labels})


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


def test_each_kind_of_task_has_its_pictures(tmp_path: Path) -> None:
    write_pictures(tmp_path / "one", part(np.array([0, 1, 1])), ("a", "b"))
    write_pictures(tmp_path / "several", part(np.array([[0, 1], [1, 1]])), ("a", "b"))
    write_training_curves(tmp_path / "one", {0: {"history": [EPOCH], "best_epoch": 1}})
    write_ablation(
        tmp_path / "one",
        {
            "split": "test",
            "combinations": [{"head": "linear", "encoders": ["a"], "metrics": {"accuracy": {"mean": 1}}}],
        },
    )
    found = {f"{path.parent.name}/{path.name}" for path in tmp_path.rglob("*.png") if is_png(path)}
    assert found == {
        "one/confusion_matrix.png",
        "one/risk_coverage.png",
        "one/training_curves.png",
        "one/ablation.png",
        "several/f1_by_label.png",
    }


@pytest.mark.parametrize("name", ["\x00", "a" * 15_000])
def test_label_that_cannot_be_drawn_is_no_warning(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_pictures(tmp_path, part(np.array([0, 1])), (name, "joy"))
    assert is_png(tmp_path / "confusion_matrix.png")


def test_missing_matplotlib_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"matplotlib.*\[report\]"):
        write_pictures(tmp_path, part(np.array([0, 1])), ("a", "b"))
    reports: list[str] = []
    with optional_pictures(reports.append):
        write_pictures(tmp_path, part(np.array([0, 1])), ("a", "b"))
    assert "matplotlib" in reports[0]
    assert list(tmp_path.iterdir()) == []
