"""Figures for unknown texts, against scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from fusion_classifier.evaluation.unknown import UNKNOWN_TITLES, unknown_figures


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1), known=st.integers(1, 40), unknown=st.integers(1, 40), threshold=st.floats(-2, 3)
)
def test_texts_of_no_class_are_the_positives(seed: int, known: int, unknown: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    low, high = rng.normal(size=known), rng.normal(size=unknown) + 1
    scores, truth = np.concatenate([low, high]), np.repeat([0, 1], [known, unknown])
    given_ = scores > threshold
    found = unknown_figures(low, high, threshold)
    assert list(found) == list(UNKNOWN_TITLES)
    assert found["auroc"] == pytest.approx(roc_auc_score(truth, scores))
    assert found["aupr"] == pytest.approx(average_precision_score(truth, scores))
    assert found["f1"] == pytest.approx(f1_score(truth, given_, zero_division=0))
    assert found["recall"] == pytest.approx(recall_score(truth, given_))
    assert found["false_alarms"] == pytest.approx(recall_score(1 - truth, given_))
    assert precision_score(truth, given_, zero_division=0) * given_.sum() == pytest.approx(found["recall"] * unknown)
