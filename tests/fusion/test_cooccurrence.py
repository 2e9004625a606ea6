"""Co-occurrence pooling and power normalization against their formulas."""

import numpy as np
import torch

from fusion_classifier.fusion.cooccurrence import cooccurrence, power_normalize


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
