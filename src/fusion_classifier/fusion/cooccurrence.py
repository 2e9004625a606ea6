"""Co-occurrence pooling and power normalization, as published and in a form that does not saturate.

Source of the published form: Liu et al.: LLMEmbed: Rethinking Lightweight LLM's Genuine Function in Text
Classification, ACL 2024, https://aclanthology.org/2024.acl-long.433, sections on co-occurrence pooling and power
normalization.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def cooccurrence(vectors: Tensor) -> Tensor:
    """X Xᵀ of vectors X (B, n, d), flattened: dot products of all pairs (B, n²)."""
    return torch.bmm(vectors, vectors.transpose(1, 2)).flatten(1)


def power_normalize(values: Tensor, sigma: float = 1.0) -> Tensor:
    """2·sigmoid(σx) − 1, which is tanh(σx/2). The paper's text has tanh(2σx); its code uses this form."""
    return 2 * torch.sigmoid(sigma * values) - 1


def cosine_cooccurrence(vectors: Tensor, heads: int) -> Tensor:
    """Cosines of all pairs of vectors, in several subspaces: bounded for every scale of the vectors.

    The co-occurrence X Xᵀ of unnormalized vectors grows with their width and norm, so that power normalization
    saturates at ±1 for nearly all of it; cosines keep their information (docs/fusion.md).

    Args:
        vectors: Vectors (…, n, d); d is a multiple of `heads`.
        heads: Number of subspaces, equal parts of d.

    Returns:
        (…, heads · n(n − 1)/2), in [−1, 1]: each pair once, for each head.
    """
    n = vectors.shape[-2]
    split = vectors.reshape(*vectors.shape[:-1], heads, -1)  # (…, n, heads, d / heads)
    parts = normalize(split.transpose(-2, -3), dim=-1)  # (…, heads, n, d / heads)
    cosines = parts @ parts.transpose(-1, -2)  # (…, heads, n, n)
    first, second = torch.triu_indices(n, n, offset=1, device=vectors.device)
    return cosines[..., first, second].flatten(-2)


def signed_root(values: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Power normalization x / √(|x| + ε), which is sign(x)·√|x| away from 0.

    It spreads small values, never saturates on [−1, 1], and has a finite slope (ε^−½) at 0.
    Source: Perronnin, Sánchez, Mensink: Improving the Fisher Kernel for Large-Scale Image Classification, ECCV
    2010, section 3.2 (power normalization with α = ½).
    """
    return values / (values.abs() + epsilon).sqrt()
