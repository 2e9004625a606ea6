"""Logistic regression, solved: the optimum that scikit-learn finds."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from fusion_classifier.fusion.logistic import solve


def rows(count: int = 300, labels: int = 4, width: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    y = generator.integers(0, labels, count)
    centres = np.random.default_rng(99).standard_normal((labels, width))
    return (centres[y] + 1.5 * generator.standard_normal((count, width))).astype(np.float32), y


def tensors(x: np.ndarray, y: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(x), torch.from_numpy(y)


@pytest.mark.parametrize("c", [0.01, 1.0, 100.0])
def test_its_probabilities_are_scikit_learns(c: float) -> None:
    x, y = rows()
    new = rows(seed=1)[0]
    ours = solve(*tensors(x, y), 4, c).logits(torch.from_numpy(new)).softmax(1).numpy()
    theirs = LogisticRegression(C=c, max_iter=2000, tol=1e-8).fit(x, y).predict_proba(new)
    np.testing.assert_allclose(ours, theirs, atol=2e-3)


@pytest.mark.parametrize("c", [0.1, 10.0])
def test_several_labels_are_one_regression_each(c: float) -> None:
    x, y = rows()
    several = np.stack([y == 0, y < 2, y != 3], axis=1).astype(np.int64)
    ours = solve(*tensors(x, several), 3, c).logits(torch.from_numpy(x)).sigmoid().numpy()
    for label in range(3):
        theirs = LogisticRegression(C=c, max_iter=2000, tol=1e-8).fit(x, several[:, label]).predict_proba(x)[:, 1]
        np.testing.assert_allclose(ours[:, label], theirs, atol=2e-3)


@pytest.mark.parametrize("several", [False, True])
def test_a_weight_is_a_repeated_row(several: bool) -> None:
    x, y = rows(120)
    targets = np.eye(4, dtype=np.int64)[y] if several else y
    times = np.arange(120) % 3
    weighted = solve(*tensors(x, targets), 4, 1.0, torch.from_numpy(times.astype(np.float32)))
    repeated = solve(*tensors(x.repeat(times, 0), targets.repeat(times, 0)), 4, 1.0)
    torch.testing.assert_close(weighted.weight, repeated.weight, atol=2e-3, rtol=0)
    torch.testing.assert_close(weighted.bias, repeated.bias, atol=2e-3, rtol=0)


def test_a_start_elsewhere_ends_at_the_same_optimum() -> None:
    x, y = rows()
    start = solve(*tensors(x, y), 4, 1000.0)
    far, near = solve(*tensors(x, y), 4, 0.5, start=start), solve(*tensors(x, y), 4, 0.5)
    torch.testing.assert_close(far.weight, near.weight, atol=2e-3, rtol=0)


def test_a_weaker_penalty_has_larger_weights() -> None:
    x, y = rows()
    norms = [float(solve(*tensors(x, y), 4, c).weight.norm()) for c in (0.01, 1.0, 100.0)]
    assert norms == sorted(norms)


@pytest.mark.parametrize("several", [False, True])
def test_a_label_without_a_row_is_the_least_likely(several: bool) -> None:
    x, y = rows(labels=3)
    targets = np.eye(4, dtype=np.int64)[y] if several else y
    logits = solve(*tensors(x, targets), 4, 1.0).logits(torch.from_numpy(x))
    assert torch.isfinite(logits).all()
    assert (logits.argmin(1) == 3).float().mean() > 0.9
