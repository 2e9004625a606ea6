"""The loss, and the scale of logits with the lowest loss on held-out texts."""

# ruff: noqa: PLC0415  # prediction imports no scipy.optimize

import math

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

MAX_LOG_SCALE = 5.0  # e⁵ ≈ 148: beyond it, probabilities are practically uniform, or 0 and 1


def loss_of(
    logits: Tensor,
    targets: Tensor,
    smoothing: float = 0.0,
    weights: Tensor | None = None,
    *,
    multilabel: bool | None = None,
) -> Tensor:
    """Mean cross-entropy in nats, of a softmax or (multi-label) of a sigmoid per label.

    Args:
        logits: Logits (N, C).
        targets: Label numbers (N,), int64; multi-label (N, C) of 0 and 1; or a probability for each label (N, C),
            float32.
        smoothing: Share of the target spread over all labels (multi-label: moved towards 1/2).
        weights: Weight of each text (N,), mean 1. Default: 1.
        multilabel: Whether a text may have several labels. Default: where targets are (N, C).
    """
    reduction = "mean" if weights is None else "none"
    softmax = targets.ndim == 1 if multilabel is None else not multilabel
    if softmax:
        losses = cross_entropy(logits, targets, label_smoothing=smoothing, reduction=reduction)
    else:
        soft = targets.to(logits.dtype) * (1 - smoothing) + smoothing / 2
        losses = binary_cross_entropy_with_logits(logits, soft, reduction=reduction)
    if weights is None:
        return losses
    return ((losses if softmax else losses.mean(1)) * weights).mean()


def cautious(targets: Tensor, n_classes: int) -> float:
    """Smoothing for which the target of the true label is (N + 1) / (N + 2), the posterior mean after N successes.

    Without it, a model that is right on a few texts would always be certain.

    Source: Platt: Probabilistic Outputs for Support Vector Machines, 1999, section 2.2.
    """
    others = max(n_classes - 1, 1) if targets.ndim == 1 else 1
    return (others + 1) / others / (len(targets) + 2)


def fit_scale(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> tuple[float, float]:
    """The scale s (inverse temperature) with the lowest loss of s · logits, and that loss in nats.

    Targets are smoothed by `cautious`; arguments as in `loss_of`.
    """
    from scipy.optimize import minimize_scalar

    smoothing = cautious(targets, logits.shape[1])
    found = minimize_scalar(
        lambda log_scale: float(loss_of(math.exp(log_scale) * logits, targets, smoothing, weights)),
        bounds=(-MAX_LOG_SCALE, MAX_LOG_SCALE),
        method="bounded",
        options={"xatol": 1e-3},
    )
    return math.exp(found.x), float(found.fun)
