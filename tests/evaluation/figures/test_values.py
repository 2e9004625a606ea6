"""Axes and matrices as values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion_classifier.evaluation.figures.values import Axis, Matrix


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0, 100, ["0", "20", "40", "60", "80", "100"]),
        (0, 2.48, ["0.0", "0.5", "1.0", "1.5", "2.0"]),
        (61.3, 63.9, ["61.5", "62.0", "62.5", "63.0", "63.5"]),
        (0, 0.012, ["0.0000", "0.0025", "0.0050", "0.0075", "0.0100"]),
    ],
)
def test_ticks_are_round(low: float, high: float, texts: list[str]) -> None:
    ticks = Axis("x", low, high).ticks()
    assert [text for _, text in ticks] == texts
    assert [value for value, _ in ticks] == pytest.approx([float(text) for text in texts])


@given(low=st.floats(-1e3, 1e3), span=st.floats(0.01, 1e4))
def test_ticks_are_few_and_inside(low: float, span: float) -> None:
    values = [value for value, _ in Axis("x", low, low + span).ticks()]
    assert 2 <= len(values) <= 6
    assert low - 1e-6 <= min(values) <= max(values) <= low + span + 1e-6


def test_epochs_have_whole_ticks() -> None:
    for last in range(1, 200):
        ticks = Axis("epoch", 1, last, whole=True).ticks()
        assert all(value == int(value) for value, _ in ticks)
        assert 1 <= len(ticks) <= 6


def test_cells_have_shares_of_the_true_label() -> None:
    counts = np.array([[3.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 2.0, 2.0]])
    matrix = Matrix("", ("a", "b", "c"), counts)
    assert list(matrix.cells()) == [(0, 0, 0.75, 3), (0, 1, 0.25, 1), (2, 1, 0.5, 2), (2, 2, 0.5, 2)]
    assert matrix.support.tolist() == [4, 0, 4]
