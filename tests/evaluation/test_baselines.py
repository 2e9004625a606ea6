"""Baselines are what their names say, and don't take minutes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from fusion_classifier.evaluation.baselines import (
    MAX_WORK,
    MIN_BASELINE_ROWS,
    logistic_regression,
    majority_class,
    max_rows,
    sample_rows,
)
from fusion_classifier.features.arrays import PooledFeatures
from fusion_classifier.fusion.linear import CS
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.inference import predict_logits

CPU = torch.device("cpu")


def clusters(seed: int, rows: int, n_classes: int = 3, noise: float = 1.0) -> LabelledFeatures:
    """Vectors around a centre for each label, of any length."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, rows)
    x = np.eye(n_classes, 8)[labels] + noise * rng.normal(size=(rows, 8))
    return LabelledFeatures({"one": PooledFeatures((x * rng.uniform(1, 9, (rows, 1))).astype(np.float32))}, labels)


def unit(data: LabelledFeatures) -> np.ndarray:
    features = data.features["one"]
    assert isinstance(features, PooledFeatures)
    x = features.values
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def test_logistic_regression_is_scikit_learns_on_unit_vectors() -> None:
    train, test = clusters(0, 300), clusters(1, 100)
    found = logistic_regression(train, 3, CPU)
    expected = LogisticRegression(C=found.C, max_iter=2000, tol=1e-8).fit(unit(train), train.labels)
    p = predict_logits(found.head, test.features, 100, CPU).softmax(1).numpy()
    np.testing.assert_allclose(p, expected.predict_proba(unit(test)), atol=2e-3)
    assert found.out_of_fold.logits.shape == (300, 3)


@pytest.mark.parametrize(("noise", "low"), [(5.0, True), (0.02, False)])
def test_noise_decides_the_penalty(noise: float, low: bool) -> None:
    found = logistic_regression(clusters(0, 200, noise=noise), 3, CPU)
    assert found.C in CS
    assert (CS[0] == found.C) if low else (CS[-2] <= found.C)


def test_labels_with_a_row_or_two_are_no_obstacle() -> None:
    data = clusters(0, 60)
    rare = LabelledFeatures(data.features, np.where(np.arange(60) == 7, 4, data.labels))
    found = logistic_regression(rare, 5, CPU)  # nobody has label 3
    assert predict_logits(found.head, data.features, 60, CPU).shape == (60, 5)
    few = LabelledFeatures({"one": data.features["one"].take(np.arange(4))}, np.array([0, 1, 0, 2]))
    assert predict_logits(logistic_regression(few, 3, CPU).head, data.features, 60, CPU).isfinite().all()


def test_several_labels_have_a_regression_and_a_threshold_each() -> None:
    data = clusters(0, 200)
    several = LabelledFeatures(data.features, np.stack([data.labels == 0, data.labels > 0], 1).astype(np.int64))
    found = logistic_regression(several, 2, CPU)
    p = found.decision.probabilities(predict_logits(found.head, data.features, 200, CPU))
    assert (found.decision.labels(p) == several.labels).mean() > 0.7
    assert found.decision.multilabel


@given(labels=st.lists(st.integers(0, 3), min_size=1))
def test_the_majority_class_is_the_most_frequent(labels: list[int]) -> None:
    found = majority_class(np.array(labels), 4)
    p = found.decision.probabilities(found.head({"any": torch.zeros(5, 2)}))
    assert p.shape == (5, 4)
    (answer,) = set(found.decision.labels(p).tolist())
    assert labels.count(answer) == max(labels.count(i) for i in range(4))


def test_the_majority_of_several_labels_is_those_over_half() -> None:
    labels = np.array([[1, 0, 1]] * 6 + [[0, 1, 1]] * 4)
    found = majority_class(labels, 3)
    p = found.decision.probabilities(found.head({"any": torch.zeros(1, 2)}))
    assert found.decision.labels(p).tolist() == [[1, 0, 1]]


@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=200), most=st.integers(6, 100))
def test_a_sample_keeps_the_shares_of_the_labels(labels: list[int], most: int) -> None:
    chosen = sample_rows(np.array(labels), most)
    assert len(set(chosen.tolist())) == len(chosen) == min(most, len(labels))
    assert chosen.tolist() == sorted(chosen.tolist())
    for label in range(6):
        share = len(chosen) * labels.count(label) / len(labels)
        assert abs(sum(labels[i] == label for i in chosen) - share) <= 2


def test_wide_features_and_many_labels_get_fewer_rows() -> None:
    assert max_rows(1500, 27, 1e12) >= 25_000
    assert max_rows(20_000, 150, 1e12) * 20_000 * 150 <= max(MAX_WORK, MIN_BASELINE_ROWS * 20_000 * 150)
    assert max_rows(1000, 2, 8e6) == 2000, "4 bytes a number"
