"""Mean and standard deviation of states with massive activations.

A few states of a language model are thousands of times larger than the rest, in a few tokens. They increase mean
and standard deviation so much that all other values become nearly equal.

Source: Sun et al.: Massive Activations in Large Language Models, COLM 2024, https://arxiv.org/abs/2402.17762.
"""

import torch
from torch import Tensor

OUTLIER = 8.0  # standard deviations at which values are clipped
PASSES = 10
SETTLED = 0.01


def clipped_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the first axis, of values clipped at 8 standard deviations.

    Clipping is repeated until the standard deviations converge. A constant state gets the standard deviation 1.
    """
    std, mean = torch.std_mean(x, 0, correction=0)
    for _ in range(PASSES):
        before = std
        std, mean = torch.std_mean(x.clamp(mean - OUTLIER * std, mean + OUTLIER * std), 0, correction=0)
        if bool((std >= (1 - SETTLED) * before).all()):
            break
    return mean, torch.where(std > 1e-6 * (mean.abs() + 1e-6), std, torch.ones_like(std))
