"""From the hidden states of a padded batch to features.

All of it is masked: padding never takes part, so a feature does not depend on its neighbours in the batch.
Sums run in float32.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def mean(states: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens of each text.

    Args:
        states: (B, L, layers, H), any float dtype.
        mask: (B, L), true for the tokens that count; at least one a text.

    Returns:
        (B, layers, H), float32.
    """
    # Not a product with the mask: padding may hold infinity, and 0 · inf is NaN.
    counted = torch.where(mask[..., None, None], states.float(), 0)  # (B, L, layers, H)
    return counted.sum(1) / mask.sum(1)[:, None, None]


def maximum(states: Tensor, mask: Tensor) -> Tensor:
    """Largest value over the tokens of each text, state by state: as `mean`."""
    return torch.where(mask[..., None, None], states.float(), -torch.inf).amax(1)


def first(states: Tensor) -> Tensor:
    """States of the first token ([CLS], `<s>`): (B, L, layers, H) to (B, layers, H), float32."""
    return states[:, 0].float()


def last(states: Tensor, lengths: Tensor) -> Tensor:
    """States of each text's last token, right padding assumed.

    Args:
        states: (B, L, layers, H).
        lengths: (B,), number of tokens of each text.

    Returns:
        (B, layers, H), float32.
    """
    rows = torch.arange(states.shape[0], device=states.device)
    return states[rows, lengths - 1].float()


def pooled(states: Tensor, mask: Tensor, lengths: Tensor, ways: Sequence[str]) -> Tensor:
    """One vector a text, layer and way of pooling.

    Args:
        states: (B, L, layers, H).
        mask: (B, L), true for the tokens that mean and max count.
        lengths: (B,), number of tokens of each text.
        ways: some of mean, max, first, last.

    Returns:
        (B, ways · layers, H), float32.
    """
    pools = {
        "mean": lambda: mean(states, mask),
        "max": lambda: maximum(states, mask),
        "first": lambda: first(states),
        "last": lambda: last(states, lengths),
    }
    return torch.cat([pools[way]() for way in ways], dim=1)


def tokens(states: Tensor, mask: Tensor) -> list[Tensor]:
    """The states of each text's own tokens: B arrays (L of the text, layers, H), float32."""
    return [row[keep].float() for row, keep in zip(states, mask, strict=True)]
