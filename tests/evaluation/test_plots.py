"""Pictures of a run."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from fusion_classifier.evaluation.plots import plot_confusion


@pytest.mark.parametrize("name", ["\x00", "a" * 15_000])
def test_a_label_that_can_not_be_drawn_is_no_warning(name: str, tmp_path: Path) -> None:
    labels = np.array([0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_confusion(labels, [labels], [name, "joy"], tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").stat().st_size
