"""Logistic regression with an L2 penalty, solved to its optimum by L-BFGS, single-label or multi-label.

    minimize over W, b:   Σ_i w_i loss(W x_i + b, y_i)  +  ‖W‖² / (2C)

The loss is the cross-entropy of a softmax or, in a multi-label task, the sum of the cross-entropies of a sigmoid per
label. It is the same problem as in `sklearn.linear_model.LogisticRegression`, with the same solver, in float32 and
for both kinds of task. With two labels scikit-learn uses one sigmoid instead; twice the C gives the same penalty.
"""

# ruff: noqa: PLC0415  # prediction imports no scipy.optimize

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

MAX_ITERATIONS = 300
TOLERANCE = 2e-5  # for the largest element of the gradient of the mean loss


@dataclass(frozen=True)
class Solution:
    """Weights (C, D) and biases (C,), float32."""

    weight: Tensor
    bias: Tensor

    def logits(self, x: Tensor) -> Tensor:
        """Logits (N, C) of features (N, D)."""
        return torch.addmm(self.bias, x, self.weight.T)


def solve(
    x: Tensor,
    targets: Tensor,
    n_classes: int,
    c: float,
    weights: Tensor | None = None,
    start: Solution | None = None,
) -> Solution:
    """Solve the problem above.

    Args:
        x: Features (N, D), float32.
        targets: Label numbers (N,), int64, or (N, C) of 0 and 1.
        n_classes: Number of labels C. A label without texts gets the lowest logits.
        c: Inverse strength of the penalty.
        weights: Weight of each text (N,). Default: 1.
        start: Initial solution, such as that of another `c`. Default: zeros.
    """
    from scipy.optimize import minimize
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # scikit-learn needs it

    n, d = x.shape
    scale = 1.0 / n  # of the mean loss, so that the tolerance does not depend on the number of texts
    penalty = scale / c
    truth = targets if targets.ndim == 1 else targets.to(x.dtype)

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = torch.from_numpy(flat.reshape(n_classes, d + 1)).float()
        weight, bias = parameters[:, :d].contiguous(), parameters[:, d]
        logits = torch.addmm(bias, x, weight.T)  # (N, C)
        loss, gradient = _loss(logits, truth, weights)
        gradient = gradient * scale
        of_weight = gradient.T @ x + penalty * weight
        total = float(loss) * scale + 0.5 * penalty * float(weight.pow(2).sum())
        return total, torch.cat([of_weight, gradient.sum(0)[:, None]], dim=1).double().numpy().ravel()

    first = np.zeros((n_classes, d + 1))
    if start is not None:
        first[:, :d], first[:, d] = start.weight.numpy(), start.bias.numpy()
    # Products are computed by torch. Small NumPy products in SciPy would wake NumPy's threads, which then compete
    # with torch's: three times slower at 23,000 texts, ten times at 50.
    with threadpool_limits(1, user_api="blas"):
        optimum = minimize(
            value,
            first.ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": MAX_ITERATIONS, "gtol": TOLERANCE, "ftol": 64 * np.finfo(float).eps, "maxcor": 10},
        )
    solved = torch.from_numpy(optimum.x.reshape(n_classes, d + 1)).float()
    return Solution(solved[:, :d].contiguous(), solved[:, d].contiguous())


def _loss(logits: Tensor, truth: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sum of the weighted losses, and its gradient with respect to the logits (N, C)."""
    if truth.ndim == 1:
        losses = cross_entropy(logits, truth, reduction="none")
        gradient = logits.softmax(1)
        gradient[torch.arange(len(truth)), truth] -= 1
    else:
        losses = binary_cross_entropy_with_logits(logits, truth, reduction="none").sum(1)
        gradient = logits.sigmoid() - truth
    if weights is not None:
        losses, gradient = losses * weights, gradient * weights[:, None]
    return losses.double().sum(), gradient
