"""Co-occurrence pooling and power normalization against their formulas."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_classifier.fusion.cooccurrence import cooccurrence, cosine_cooccurrence, power_normalize, signed_root


def test_cooccurrence_is_every_pairs_dot_product() -> None:
    X = torch.randn(4, 7, 11, dtype=torch.float64)  # (B, n, d)
    found = cooccurrence(X).numpy().reshape(4, 7, 7)
    for b in range(4):
        np.testing.assert_allclose(found[b], X[b].numpy() @ X[b].numpy().T)


def test_power_normalization_is_the_codes_and_not_the_texts() -> None:
    x = torch.linspace(-9, 9, 101, dtype=torch.float64)
    for sigma in (0.5, 1.0, 3.0):
        np.testing.assert_allclose(power_normalize(x, sigma).numpy(), np.tanh(sigma * x.numpy() / 2), atol=1e-12)
    assert not np.allclose(power_normalize(x, 1.0).numpy(), np.tanh(2 * x.numpy()))


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 5), heads=st.sampled_from([1, 2, 4]))
def test_cosines_of_pairs_are_those_by_hand_whatever_the_scale(seed: int, n: int, heads: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = torch.from_numpy(rng.normal(size=(3, n, 8)))
    scales = torch.from_numpy(np.exp(5 * rng.normal(size=(3, n, 1))))
    found = cosine_cooccurrence(vectors, heads)
    assert found.shape == (3, heads * n * (n - 1) // 2)
    torch.testing.assert_close(cosine_cooccurrence(vectors * scales, heads), found)
    parts = vectors[1].reshape(n, heads, -1)
    expected = [
        float(torch.cosine_similarity(parts[i, h], parts[j, h], 0))
        for h in range(heads)
        for i in range(n)
        for j in range(i + 1, n)
    ]
    np.testing.assert_allclose(found[1].numpy(), expected, atol=1e-9)


@given(st.floats(-1, 1))
def test_signed_root_spreads_small_values_and_does_not_saturate(x: float) -> None:
    y = float(signed_root(torch.tensor(x, dtype=torch.float64)))
    assert y == pytest.approx(np.sign(x) * abs(x) / np.sqrt(abs(x) + 1e-3))
    slope = (signed_root(torch.tensor(x + 1e-6, dtype=torch.float64)) - y) / 1e-6
    assert 0.49 < slope < 32  # tanh has a slope of 5e-6 where the published entries lie (|x| > 6)
