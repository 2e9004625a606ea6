"""Risk–coverage curves against counting by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_classifier.evaluation.metrics import score
from fusion_classifier.evaluation.predictions import SplitPredictions
from fusion_classifier.evaluation.selective import COVERAGES, at_coverages, risk_coverage


def case(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    # Rounded, so that confidences tie.
    probabilities = rng.dirichlet(np.ones(3), n).round(1).astype(np.float32)
    return rng.integers(0, 3, n), probabilities


def answers_of(probabilities: np.ndarray) -> np.ndarray:
    """With offsets, as for macro F1: not always the most probable label."""
    answers: np.ndarray = (probabilities + np.array([0.0, 0.0, 0.4])).argmax(1)
    return answers


def confidence_of(probabilities: np.ndarray, answers: np.ndarray) -> np.ndarray:
    confidence: np.ndarray = probabilities[np.arange(len(answers)), answers]
    return confidence


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60))
def test_each_point_is_what_its_threshold_gives(seed: int, n: int) -> None:
    labels, probabilities = case(seed, n)
    answers = answers_of(probabilities)
    curve = risk_coverage(labels, probabilities, answers)
    thresholds = np.unique(confidence_of(probabilities, answers))[::-1]
    for coverage, risk, threshold in zip(curve.coverage, curve.risk, thresholds, strict=True):
        answered = confidence_of(probabilities, answers) >= threshold
        assert coverage == pytest.approx(answered.mean())
        assert risk == pytest.approx((answers != labels)[answered].mean())
    assert curve.coverage[-1] == 1
    assert 0 <= curve.area <= 1


def part_of(labels: np.ndarray, *by_seed: np.ndarray) -> SplitPredictions:
    answers = {seed: answers_of(p) if p.shape[1] == 3 else p.argmax(1) for seed, p in enumerate(by_seed)}
    return SplitPredictions("test", ["0"] * len(labels), labels, dict(enumerate(by_seed)), answers)


def test_confident_right_answers_have_no_risk() -> None:
    labels = np.array([0, 0, 1, 1])
    part = part_of(labels, np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.7, 0.3]]))
    rows = at_coverages(part, part)
    assert len(rows) == len(COVERAGES)
    half = next(row for row in rows if row["coverage"] == 0.5)
    assert half == {"coverage": 0.5, "accuracy": 1.0, "threshold": 0.8}
    assert rows[0] == {"coverage": 1.0, "accuracy": 0.5, "threshold": 0.0}


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 60), others=st.integers(1, 60))
def test_thresholds_are_of_the_judge_and_figures_of_the_part(seed: int, n: int, others: int) -> None:
    part = part_of(*case(seed, n))
    judge = part_of(*case(seed + 1, others))
    other_part = part_of(*case(seed + 2, 2 * n))
    rows = at_coverages(part, judge)
    thresholds = [row["threshold"] for row in rows]
    assert thresholds == [row["threshold"] for row in at_coverages(other_part, judge)], "the part has no say"
    assert rows[0]["coverage"] == 1
    assert rows[0]["accuracy"] == pytest.approx(score(part.labels, part.by_seed[0], part.answers[0])["accuracy"])
    sure, sure_judge = (confidence_of(one.by_seed[0], one.answers[0]) for one in (part, judge))
    for asked, row in zip(COVERAGES, rows, strict=True):
        of_judge = (sure_judge >= row["threshold"]).mean()
        assert of_judge <= asked + 1e-9 or sure_judge.max() == pytest.approx(row["threshold"])
        answered = sure >= row["threshold"]
        assert row["coverage"] == pytest.approx(answered.mean())
        if answered.any():
            assert row["accuracy"] == pytest.approx((part.answers[0] == part.labels)[answered].mean())
        else:
            assert row["accuracy"] is None


def test_each_seed_has_thresholds_of_its_own() -> None:
    labels = np.array([0, 1])
    sure, unsure = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.6, 0.4], [0.5, 0.5]])
    part = part_of(labels, sure, unsure)
    half = next(row for row in at_coverages(part, part) if row["coverage"] == 0.5)
    assert half["threshold"] == pytest.approx((0.9 + 0.6) / 2)
    assert half["accuracy"] == 1
