"""The loss is torch's; the scale of logits is the best on texts that were not trained on."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from fusion_classifier.fusion.loss import cautious, fit_scale, loss_of

SEEDS = st.integers(0, 2**31 - 1)


@settings(deadline=None)
@given(seed=SEEDS, smoothing=st.floats(0, 0.5))
def test_losses_are_torchs(seed: int, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 4, generator=generator)
    labels = torch.randint(0, 4, (6,), generator=generator)
    several = torch.randint(0, 2, (6, 4), generator=generator)
    torch.testing.assert_close(
        loss_of(logits, labels, smoothing), cross_entropy(logits, labels, label_smoothing=smoothing)
    )
    torch.testing.assert_close(loss_of(logits, several), binary_cross_entropy_with_logits(logits, several.float()))
    assert torch.isfinite(loss_of(logits, several, smoothing))


def test_soft_targets_are_mixtures_of_labels() -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    labels, others = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([1, 1, 0, 2, 3, 0])
    weights = torch.tensor([0.5, 1.5, 1.0, 1.0, 1.0, 1.0])
    certain, doubted = torch.eye(4)[labels], 0.25 * torch.eye(4)[labels] + 0.75 * torch.eye(4)[others]
    loss = loss_of(logits, labels, 0.1, weights)
    torch.testing.assert_close(loss_of(logits, certain, 0.1, weights, multilabel=False), loss)
    mixture = 0.25 * loss_of(logits, labels) + 0.75 * loss_of(logits, others)
    torch.testing.assert_close(loss_of(logits, doubted, multilabel=False), mixture)
    assert loss_of(logits, doubted) != loss_of(logits, doubted, multilabel=False)  # several labels per text


@settings(deadline=None, max_examples=25)
@given(seed=SEEDS, n=st.integers(1, 60), several=st.booleans(), weighted=st.booleans())
def test_no_scale_on_a_grid_has_a_lower_loss(seed: int, n: int, several: bool, weighted: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, 3, generator=generator)
    targets = torch.randint(0, 2, (n, 3) if several else (n,), generator=generator)
    weights = torch.rand(n, generator=generator) if weighted else None
    scale, loss = fit_scale(logits, targets, weights)
    smoothing = cautious(targets, 3)
    assert loss == pytest.approx(float(loss_of(scale * logits, targets, smoothing, weights)), rel=1e-4)
    for other in np.geomspace(0.01, 100, 60):
        assert loss <= float(loss_of(other * logits, targets, smoothing, weights)) + 1e-4


@pytest.mark.parametrize("true_scale", [0.3, 1.0, 8.0])
def test_the_scale_of_labels_drawn_from_it_is_found(true_scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 4, generator=generator)
    labels = torch.multinomial((true_scale * logits).softmax(1), 1, generator=generator)[:, 0]
    assert fit_scale(logits, labels)[0] == pytest.approx(true_scale, rel=0.05)


@pytest.mark.parametrize("several", [False, True])
def test_a_few_right_answers_make_nobody_certain(several: bool) -> None:
    """Of N texts all are right: the next one is with a probability of (N + 1) / (N + 2)."""
    labels = torch.arange(8) % 4
    targets = torch.eye(4, dtype=torch.int64)[labels] if several else labels
    logits = 2 * torch.eye(4)[labels] - 1
    scale, _ = fit_scale(logits, targets)
    p = (scale * logits).sigmoid() if several else (scale * logits).softmax(1)
    assert float(p[0, 0]) == pytest.approx(9 / 10, abs=0.005)
