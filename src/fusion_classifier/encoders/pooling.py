"""Converts the hidden states of a batch to features: the poolings of `EncoderConfig.pooling`.

To add one, add a function here, an entry in `VECTORS`, and its name in `fusion_classifier.config.VECTOR_POOLINGS`.

Padding is ignored, so a feature does not depend on the other texts of the batch. Sums are in float32.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor


def mean(states: Tensor, mask: Tensor, _lengths: Tensor) -> Tensor:
    """Mean over the tokens of each text that count."""
    # Not a product with the mask: padding may contain infinity, and 0 · inf is NaN.
    counted = torch.where(mask[..., None, None], states.float(), 0)  # (B, L, layers, H)
    return counted.sum(1) / mask.sum(1)[:, None, None]


def maximum(states: Tensor, mask: Tensor, _lengths: Tensor) -> Tensor:
    """Maximum of each state over the tokens of a text that count."""
    return torch.where(mask[..., None, None], states.float(), -torch.inf).amax(1)


def weighted_mean(states: Tensor, mask: Tensor, _lengths: Tensor) -> Tensor:
    """Mean over the tokens of each text that count, weighted by their position: 1, 2, 3, …"""
    weights = torch.arange(1, mask.shape[1] + 1, device=mask.device) * mask  # (B, L)
    counted = torch.where(mask[..., None, None], states.float(), 0) * weights[..., None, None]
    return counted.sum(1) / weights.sum(1)[:, None, None]


def mean_sqrt(states: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    """Sum over the tokens of each text that count, divided by the square root of their number."""
    return mean(states, mask, lengths) * mask.sum(1)[:, None, None].sqrt()


def first(states: Tensor, _mask: Tensor, _lengths: Tensor) -> Tensor:
    """States of the first token ([CLS], `<s>`)."""
    return states[:, 0].float()


def last(states: Tensor, _mask: Tensor, lengths: Tensor) -> Tensor:
    """States of each text's last token."""
    rows = torch.arange(states.shape[0], device=states.device)
    return states[rows, lengths - 1].float()


# States (B, L, layers, H), any float dtype, padded on the right; mask (B, L), true for the tokens that count, at
# least one per text; lengths (B,), tokens per text. To (B, layers, H), float32.
VECTORS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "mean": mean,
    "max": maximum,
    "first": first,
    "last": last,
    "weighted_mean": weighted_mean,
    "mean_sqrt": mean_sqrt,
}
UNMASKED = ("first", "last")  # those that do not read the mask


def pooled(states: Tensor, mask: Tensor, lengths: Tensor, poolings: Sequence[str]) -> Tensor:
    """One vector per text, layer and pooling: (B, poolings · layers, H), float32; arguments as in `VECTORS`."""
    return torch.cat([VECTORS[name](states, mask, lengths) for name in poolings], dim=1)


def tokens(states: Tensor, mask: Tensor) -> list[np.ndarray]:
    """States of each text's tokens that count: B arrays (L of the text, layers, H), float32."""
    counted = states[mask].cpu()  # (T, layers, H); one copy from the device, not one per text
    return np.split(counted.float().numpy(), mask.sum(1).cpu().numpy().cumsum()[:-1])
