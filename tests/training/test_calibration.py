"""From logits to answers: temperature and thresholds against their definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.metrics import f1_score

from fusion_classifier.evaluation.metrics import expected_calibration_error
from fusion_classifier.fusion.loss import loss_of
from fusion_classifier.training import calibration
from fusion_classifier.training.calibration import best_thresholds, cross_fitted, fit_decision, fit_mixture
from fusion_classifier.training.decision import Decision, log_calibrated

SEEDS = st.integers(0, 2**32 - 1)


def calibrated_logits(seed: int, n: int = 4000, n_classes: int = 4) -> tuple[torch.Tensor, np.ndarray]:
    """Logits, and labels drawn from their softmax."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, n_classes)) * 1.5
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (p.cumsum(1) > rng.random((n, 1))).argmax(1)
    return torch.from_numpy(logits).float(), labels.astype(np.int64)


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_the_temperature_undoes_a_known_scaling(factor: float) -> None:
    logits, labels = calibrated_logits(0)
    decision = fit_decision(factor * logits, labels)
    assert decision.temperature == pytest.approx(factor, rel=0.1)
    before = torch.softmax(factor * logits, 1).numpy()
    after = decision.probabilities(factor * logits)
    assert expected_calibration_error(labels, after) < 0.03
    assert expected_calibration_error(labels, after) <= expected_calibration_error(labels, before) + 0.01


@pytest.mark.parametrize("beta", [-0.8, 0.5])
def test_beta_mends_what_no_temperature_can(beta: float) -> None:
    """Labels drawn from p ∝ q (1 − q)^β: q is too sure where it is sure."""
    logits, _ = calibrated_logits(1, n=20_000)
    log_q = log_softmax(logits.double().numpy(), axis=1)
    odds = np.exp(log_q + beta * np.log(-np.expm1(log_q)))
    p = odds / odds.sum(1, keepdims=True)
    labels = (p.cumsum(1) > np.random.default_rng(0).random((len(p), 1))).argmax(1)
    decision = fit_decision(logits, labels)
    assert decision.beta == pytest.approx(beta, abs=0.15)
    assert decision.temperature == pytest.approx(1, abs=0.1)
    np.testing.assert_allclose(decision.probabilities(logits), p, atol=0.03)


@pytest.mark.parametrize("beta", [-5.0, 0.95])
def test_a_sure_answer_stays_finite(beta: float) -> None:
    decision = Decision(temperature=0.5, beta=beta)
    probabilities = decision.probabilities(torch.tensor([[400.0, 0.0, -400.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(probabilities, np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3]]), atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, n=st.integers(1, 40))
def test_calibration_raises_no_loss_and_changes_no_answer(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(size=(n, 5)) * 10).float()
    labels = rng.integers(0, 5, n)
    fitted, plain = fit_decision(logits, labels), fit_decision(logits, labels, calibrate=False)
    assert plain == Decision()
    targets = np.full((n, 5), 1 / (4 * (n + 2)))
    targets[np.arange(n), labels] = (n + 1) / (n + 2)
    # The search ends within its tolerance of the minimum.
    losses = [
        -(targets * log_calibrated(logits.double().numpy(), d.temperature, d.beta)).sum(1).mean()
        for d in (fitted, plain)
    ]
    assert losses[0] <= losses[1] + 1e-3
    warmer, before = (d.labels(d.probabilities(logits)) for d in (fitted, plain))
    np.testing.assert_array_equal(warmer, before)


@pytest.mark.parametrize("n", [3, 30, 300])
@pytest.mark.parametrize("scale", [2.0, 8.0, 50.0])
def test_a_head_right_on_all_validation_texts_is_not_certain(n: int, scale: float) -> None:
    labels = np.arange(n) % 3
    decision = fit_decision(torch.eye(3)[labels] * scale, labels)
    np.testing.assert_allclose(decision.probabilities(torch.eye(3) * scale).max(1), (n + 1) / (n + 2), atol=0.01)


@pytest.mark.parametrize("n", [3, 30, 300])
def test_a_head_right_on_all_labels_of_all_texts_is_not_certain(n: int) -> None:
    targets = np.random.default_rng(0).integers(0, 2, (n, 4))
    decision = fit_decision(torch.from_numpy(targets * 20.0 - 10), targets)
    probabilities = decision.probabilities(torch.from_numpy(targets * 20.0 - 10))
    np.testing.assert_allclose(np.where(targets == 1, probabilities, 1 - probabilities), (n + 1) / (n + 2), atol=0.01)


@settings(deadline=None, max_examples=15)
@given(seed=SEEDS, n=st.integers(1, 30))
def test_no_threshold_gives_a_better_f1(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.random((n, 3)).round(1).astype(np.float32)  # ties, too
    truth = (rng.random((n, 3)) < 0.4).astype(np.int64)
    thresholds = best_thresholds(probabilities, truth)
    answers = Decision(thresholds=thresholds).labels(probabilities)
    for label in range(3):
        if not truth[:, label].any():
            assert thresholds[label] == 0.5
            continue
        found = f1_score(truth[:, label], answers[:, label], zero_division=0)
        for cut in np.linspace(0, 1.1, 23):
            other = f1_score(truth[:, label], probabilities[:, label] >= cut, zero_division=0)
            assert found >= other - 1e-9


def test_multilabel_probabilities_are_sigmoids() -> None:
    decision = Decision(temperature=2.0, thresholds=(0.5, 0.9))
    probabilities = decision.probabilities(torch.tensor([[2.0, 2.0], [-2.0, 9.0], [-1.0, -1.0]]))
    np.testing.assert_allclose(probabilities[0], 1 / (1 + np.exp(-1.0)), rtol=1e-6)
    assert decision.labels(probabilities).tolist() == [[1, 0], [0, 1], [0, 0]]


def mixed(parts: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return (weights[:, None, None] * parts).sum(0)


@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, n=st.integers(10, 60), several=st.booleans())  # of a text or two any mixture makes next to nothing
def test_no_mixture_on_a_grid_is_better(seed: int, n: int, several: bool) -> None:
    generator = torch.Generator().manual_seed(seed % 2**31)
    parts = torch.randn(2, n, 3, generator=generator)
    targets = torch.randint(0, 2, (n, 3) if several else (n,), generator=generator)
    start = torch.tensor([0.5, 0.5])
    weights = fit_mixture(parts, targets.numpy(), start)
    assert (weights >= 0).all()
    assert float(weights.sum()) == pytest.approx(1, rel=1e-5)

    def best_loss(share: float) -> float:
        pair = torch.tensor([share, 1 - share])
        return min(float(loss_of(mixed(parts, pair * scale), targets)) for scale in np.geomspace(0.01, 30, 60))

    found = best_loss(float(weights[0]))
    assert all(found <= best_loss(share) + 5e-3 for share in np.linspace(0, 1, 11))


def test_a_part_that_knows_nothing_gets_no_say() -> None:
    logits, labels = calibrated_logits(0)
    noise = torch.randn(len(logits), 4, generator=torch.Generator().manual_seed(0))
    weights = fit_mixture(torch.stack([logits, noise]), labels, torch.tensor([0.5, 0.5]))
    assert weights[0] > 0.95
    # Where no part knows anything, the mixture stays as it was.
    contrary = -4 * torch.eye(4)[torch.from_numpy(labels)]
    assert fit_mixture(torch.stack([contrary, contrary]), labels, torch.tensor([0.5, 0.5])).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("several", [False, True])
def test_a_fold_s_labels_do_not_move_what_is_decided_for_it(several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    folds = np.arange(40) % 5
    monkeypatch.setattr(calibration, "fold_numbers", lambda *_, **__: folds)
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(40, 3, generator=generator)
    labels = torch.randint(0, 2, (40, 3) if several else (40,), generator=generator).numpy()
    other = labels.copy()
    other[folds == 3] = 1 - other[folds == 3]
    metric = "weighted_f1" if several else "macro_f1"
    before, after = (cross_fitted(logits, one, metric=metric) for one in (labels, other))
    np.testing.assert_array_equal(after.probabilities[folds == 3], before.probabilities[folds == 3])
    np.testing.assert_array_equal(after.answers[folds == 3], before.answers[folds == 3])
    assert (after.probabilities[folds != 3] != before.probabilities[folds != 3]).any()


def test_thresholds_of_random_texts_are_not_good_out_of_fold() -> None:
    """Of scores that know nothing, thresholds fitted on 30 texts seem to: measured on others they do not."""
    rng = np.random.default_rng(0)
    same, cross = [], []
    for _ in range(20):
        targets = (rng.random((30, 4)) < 0.3).astype(np.int64)
        logits = torch.from_numpy(rng.normal(size=(30, 4))).float()
        decision = fit_decision(logits, targets)
        same.append(f1_score(targets, decision.labels(decision.probabilities(logits)), average="macro"))
        cross.append(f1_score(targets, cross_fitted(logits, targets).answers, average="macro"))
    chance = 2 * 0.3 / 1.3  # of answering every label
    assert np.mean(same) > chance + 0.02
    assert np.mean(cross) < chance
