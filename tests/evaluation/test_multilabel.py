"""Multi-label metrics against scikit-learn, and their intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score

from fusion_classifier.evaluation.multilabel import F1_AVERAGES, MULTILABEL_METRICS, intervals, per_class, score


def case(seed: int, n: int = 50, n_labels: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, n_labels)) < rng.random(n_labels)).astype(np.int64)
    probabilities = np.clip(0.4 * labels + 0.6 * rng.random((n, n_labels)), 0, 1).astype(np.float32)
    return labels, probabilities, (probabilities > 0.55).astype(np.int64)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 60))
def test_scores_are_those_of_sklearn(seed: int, n: int) -> None:
    labels, probabilities, answers = case(seed, n)
    found = score(labels, probabilities, answers)
    assert tuple(found) == MULTILABEL_METRICS
    for average in ("macro", "micro", "weighted"):
        expected = f1_score(labels, answers, average=average, zero_division=0)
        assert found[f"{average}_f1"] == pytest.approx(expected)
        hits, both = 2 * (labels & answers).sum(0), (labels + answers).sum(0)
        assert F1_AVERAGES[f"{average}_f1"](hits, both, labels.sum(0)) == pytest.approx(expected)
    assert found["subset_accuracy"] == pytest.approx((labels == answers).all(1).mean())
    present = labels.any(0)
    if present.any():
        expected = average_precision_score(labels[:, present], probabilities[:, present], average="macro")
        assert found["map"] == pytest.approx(expected)
    assert 0 <= found["ece"] <= 1
    assert np.isfinite(found["nll"])


def test_certain_and_wrong_is_finite() -> None:
    labels = np.array([[1, 0], [0, 1]])
    found = score(labels, (1 - labels).astype(np.float32), 1 - labels)
    assert np.isfinite(list(found.values())).all()
    assert found["ece"] == pytest.approx(1, abs=1e-6)


def test_intervals_hold_the_point_and_narrow_with_more_texts() -> None:
    widths = []
    for n in (60, 1500):
        labels, probabilities, answers = case(3, n)
        found = intervals(labels, [answers])
        for average, (low, high) in found.items():
            assert low <= score(labels, probabilities, answers)[average] <= high
        widths.append(found["micro_f1"][1] - found["micro_f1"][0])
    assert widths[1] < widths[0] / 2
    assert intervals(labels[:1], [answers[:1]]) == {}


def test_per_class_has_every_label_with_its_support() -> None:
    labels, _, answers = case(1)
    table = per_class(labels, [answers, answers], ["a", "b", "c", "d"])
    assert [row["support"] for row in table.values()] == labels.sum(0).tolist()
    assert [row["f1"] for row in table.values()] == pytest.approx(f1_score(labels, answers, average=None).tolist())


def test_a_split_in_which_no_text_has_a_label_is_measured() -> None:
    nothing = np.zeros((2, 3), dtype=np.int64)
    found = score(nothing, np.full((2, 3), 0.2, dtype=np.float32), nothing)
    assert found["map"] == 0
    assert found["subset_accuracy"] == 1
