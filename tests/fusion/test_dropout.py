"""Dropout against its definition, and against torch's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusion_classifier.fusion.dropout import Dropout, dropout


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_share_dropped_and_the_mean_are_those_of_torch(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(1000, 1003, dtype=dtype)
    ours, theirs = dropout(x, rate, training=True), torch.nn.functional.dropout(x, rate)
    for axis in (0, 1):
        shares = (ours == 0).double().mean(axis)
        assert abs(float(shares.mean()) - rate) < 1 / 256
        # As far apart as independent draws are: binomial, a thousand values.
        assert float(shares.std()) == pytest.approx((rate * (1 - rate) / 1000) ** 0.5, rel=0.15)
    assert float(ours.double().mean()) == pytest.approx(float(theirs.double().mean()), abs=0.01)
    assert ours.dtype == dtype


@given(shape=st.lists(st.integers(0, 5), max_size=4), rate=st.floats(0, 0.999))
def test_each_value_is_kept_or_dropped_with_its_gradient(shape: list[int], rate: float) -> None:
    x = torch.ones(shape, requires_grad=True)
    y = dropout(x, rate, training=True)
    assert y.shape == x.shape
    kept = y != 0
    assert torch.isfinite(y).all()
    if kept.any():
        left = y.detach()[kept]
        assert left.min() == left.max()
    y.sum().backward()  # type: ignore[no-untyped-call]  # torch has no type for it
    assert x.grad is not None
    torch.testing.assert_close(x.grad, y.detach())


def test_a_seed_decides_the_draws_and_evaluation_draws_nothing() -> None:
    x, layer = torch.randn(50, 7), Dropout(0.5)
    torch.manual_seed(1)
    first = layer(x)
    torch.manual_seed(1)
    assert torch.equal(layer(x), first)
    assert not torch.equal(layer(x), first)
    state = torch.get_rng_state()
    assert layer.eval()(x) is x
    assert torch.equal(torch.get_rng_state(), state)
