"""Optimizer and learning rate schedules of all training by gradient steps.

A schedule gives the learning rate of a step as a share of the highest one: it rises linearly during the warm-up, then
it falls, along half a cosine for heads (loop.py) and linearly for encoders (contrastive.py).
"""

import math
from collections.abc import Iterable

import torch
from torch import nn


def adamw(parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW; weight decay applies to parameters of two or more dimensions, such as matrices and the biases (E, C) of
    head `fusion`, not to vectors, such as other biases and norm weights."""
    trained = list(parameters)
    groups = (
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    )
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate, fused=True)


def warmup_then_cosine(done: float, warmup: float) -> float:
    """Share of the highest learning rate after this share of all steps, from 0 at the first step to 0.

    Args:
        done: Steps taken, as a share of all steps.
        warmup: Length of the warm-up, as a share of all steps.
    """
    rising = min(1.0, done / warmup) if warmup else 1.0
    return rising * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def warmup_then_linear(step: int, steps: int, warmup: float) -> float:
    """Share of the highest learning rate in a step, from above 0 at the first step, number 0, to 0 at number `steps`.

    Args:
        step: Step number.
        steps: Number of all steps.
        warmup: Length of the warm-up, as a share of all steps.
    """
    rising = min(1.0, (step + 1) / max(1.0, warmup * steps))
    return rising * (1 - step / steps)
