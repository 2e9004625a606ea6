"""Offsets raise macro F1 on new texts where labels are unequal, and are left out where they would not."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_classifier.training.calibration import fit_decision
from fusion_classifier.training.decision import Decision
from fusion_classifier.training.offsets import fit_offsets, label_offsets, prior_offsets
from fusion_classifier.training.scores import scores


def drawn(seed: int, rows: int, shares: list[float], skill: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated log-probabilities and labels: log prior + log-likelihood of a Gaussian around each label."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(len(shares), rows, p=shares)
    x = rng.normal(size=(rows, len(shares))) + skill * np.eye(len(shares))[labels]
    logits = np.log(shares) + skill * x
    return logits - np.log(np.exp(logits).sum(1, keepdims=True)), labels


def macro(log_p: np.ndarray, labels: np.ndarray, offsets: object = 0.0) -> float:
    return scores(labels, (log_p + offsets).argmax(1)).macro_f1


@pytest.mark.parametrize("shares", [[0.9, 0.1], [0.7, 0.2, 0.06, 0.04]])
def test_new_texts_gain_macro_f1(shares: list[float]) -> None:
    gains = []
    for seed in range(3):
        offsets = fit_offsets(*drawn(seed, 1500, shares))
        new, labels = drawn(seed + 100, 20_000, shares)
        gains.append(0.0 if offsets is None else macro(new, labels, offsets) - macro(new, labels))
    assert min(gains) >= -0.002
    assert np.mean(gains) > 0.02


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.25] * 4])
def test_equal_labels_need_none(shares: list[float]) -> None:
    found = [fit_offsets(*drawn(seed, 200, shares)) for seed in range(5)]
    assert sum(one is None for one in found) >= 4


@settings(deadline=None, max_examples=20)
@given(rows=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_a_handful_of_texts_is_no_obstacle(rows: int, seed: int) -> None:
    offsets = fit_offsets(*drawn(seed, rows, [0.6, 0.3, 0.1]))
    assert offsets is None or (len(offsets) == 3 and np.isfinite(offsets).all())


def test_each_family_is_at_least_as_good_on_its_own_texts() -> None:
    log_p, labels = drawn(0, 400, [0.7, 0.2, 0.1])
    prior = macro(log_p, labels, prior_offsets(log_p, labels))
    assert macro(log_p, labels) <= prior <= macro(log_p, labels, label_offsets(log_p, labels))
    assert (np.diff(prior_offsets(log_p, labels)) >= 0).all(), "the rarer, the larger"


def test_only_macro_f1_has_them_and_probabilities_stay() -> None:
    log_p, labels = drawn(0, 1500, [0.9, 0.1])
    logits = torch.from_numpy(log_p)
    plain, macro_f1 = (fit_decision(logits, labels, metric=metric) for metric in ("weighted_f1", "macro_f1"))
    assert plain.offsets is None
    assert macro_f1.offsets is not None
    p = macro_f1.probabilities(logits)
    np.testing.assert_array_equal(p, plain.probabilities(logits))
    assert (macro_f1.labels(p) == 1).sum() > (plain.labels(p) == 1).sum()


def test_labels_are_ranked_by_offset_log_probabilities() -> None:
    decision = Decision(offsets=(0.0, 0.0, 2.0))
    p = np.array([[0.6, 0.3, 0.1], [0.9, 0.09, 0.01], [1.0, 0.0, 0.0]], dtype=np.float32)
    assert decision.labels(p).tolist() == [2, 0, 0]
    assert np.argsort(-decision.ranks_by(p[0])).tolist() == [2, 0, 1]
    assert Decision.model_validate_json(decision.model_dump_json()) == decision
