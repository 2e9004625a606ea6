"""Co-occurrence pooling and power normalization.

Source: Liu et al.: LLMEmbed: Rethinking Lightweight LLM's Genuine Function in Text Classification, ACL 2024,
https://aclanthology.org/2024.acl-long.433, sections on co-occurrence pooling and power normalization.
"""

import torch
from torch import Tensor


def cooccurrence(vectors: Tensor) -> Tensor:
    """X Xᵀ, flattened: how much each pair of vectors has in common.

    Args:
        vectors: X, (B, n, d).

    Returns:
        (B, n²).
    """
    return torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1)


def power_normalize(values: Tensor, sigma: float = 1.0) -> Tensor:
    """2·sigmoid(σx) − 1, which equals tanh(σx/2), element by element.

    The paper's text says tanh(2σx), its code this; as with all published results, the code counts.
    """
    return 2 * torch.sigmoid(sigma * values) - 1
