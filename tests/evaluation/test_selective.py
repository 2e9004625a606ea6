"""Risk–coverage curves against counting by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_classifier.evaluation.selective import COVERAGES, at_coverages, risk_coverage


def case(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    # Rounded, so that confidences tie.
    probabilities = rng.dirichlet(np.ones(3), n).round(1).astype(np.float32)
    return rng.integers(0, 3, n), probabilities


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60))
def test_each_point_is_what_its_threshold_gives(seed: int, n: int) -> None:
    labels, probabilities = case(seed, n)
    curve = risk_coverage(labels, probabilities)
    for coverage, risk, threshold in zip(curve.coverage, curve.risk, curve.threshold, strict=True):
        answered = probabilities.max(1) >= threshold
        assert coverage == pytest.approx(answered.mean())
        assert risk == pytest.approx((probabilities.argmax(1) != labels)[answered].mean())
    assert curve.coverage[-1] == 1
    assert (np.diff(curve.threshold) < 0).all()
    assert 0 <= curve.area <= 1


def test_confident_right_answers_have_no_risk() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.7, 0.3]])
    rows = at_coverages(labels, [probabilities])
    assert len(rows) == len(COVERAGES)
    half = next(row for row in rows if row["coverage"] == 0.5)
    assert half == {"coverage": 0.5, "accuracy": 1.0, "threshold": 0.8}
    assert rows[0] == {"coverage": 1.0, "accuracy": 0.5, "threshold": 0.6}
