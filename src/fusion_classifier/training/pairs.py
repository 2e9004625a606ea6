"""Contrastive learning from pairs of texts: the loss, and batches with pairs of both kinds.

Every text of a batch forms a pair with every other one, so that a batch of B texts costs B passes through the model
and gives B (B − 1) / 2 pairs. The loss is SetFit's, the squared error of the cosine similarity, whose target is 1 for
two texts with the same label and 0 otherwise; here both kinds of pairs have equal weight regardless of their numbers:

    ½ mean over pairs of the same label (1 − cos)²  +  ½ mean over other pairs cos²

Source: Tunstall et al.: Efficient Few-Shot Learning Without Prompts, 2022, https://arxiv.org/abs/2209.11055.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from fusion_classifier.training.optimizer import adamw, warmup_then_linear

MAX_NORM = 1.0


def train_on_pairs(
    vectors: Callable[[np.ndarray], Tensor],
    parameters: Sequence[nn.Parameter],
    labels: np.ndarray,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    warmup: float,
    seed: int,
    bfloat16: bool,
) -> Iterator[tuple[int, float]]:
    """Train by AdamW, with a linear schedule; yields the size and the loss of each batch after its step.

    Args:
        vectors: Vectors (B, F) of the texts with these indices (B,).
        parameters: Parameters to train.
        labels: Label numbers (N,).
        steps: Number of steps.
        batch_size: Maximum number of texts per step.
        learning_rate: Peak learning rate.
        weight_decay: Decoupled weight decay, of matrices.
        warmup: Share of all steps in which the learning rate rises from 0.
        seed: Seed of the batches.
        bfloat16: Whether products are computed in bfloat16.
    """
    optimizer = adamw(parameters, learning_rate, weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_then_linear(step, steps, warmup))
    device = parameters[0].device
    for rows in islice(balanced_batches(labels, batch_size, np.random.default_rng(seed)), steps):
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            of_batch = vectors(rows)
        loss = pair_loss(of_batch, torch.from_numpy(labels[rows]).to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
        nn.utils.clip_grad_norm_(parameters, MAX_NORM)
        optimizer.step()
        schedule.step()
        yield len(rows), float(loss.detach())


def balanced_batches(labels: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield batches of row indices, endlessly.

    All rows, if there are at most `size`. Otherwise labels take turns in random order, each with the same number of
    its rows, at least two if possible; all rows of a label occur equally often.
    """
    if len(labels) <= size:
        while True:
            yield np.arange(len(labels))
    present = np.unique(labels)
    of_each = max(2, size // len(present))
    waiting: dict[int, list[int]] = {int(label): [] for label in present}
    order: list[int] = []
    while True:
        wanted = min(len(present), max(2, size // of_each))
        batch: list[int] = []
        chosen: set[int] = set()
        while len(chosen) < wanted:
            if not order:
                order = [int(label) for label in rng.permutation(present)]
            label = order.pop()
            if label in chosen:
                continue
            chosen.add(label)
            rows = np.flatnonzero(labels == label)
            queue = waiting[label]
            take = min(of_each, len(rows))
            if len(queue) < take:
                again = [int(row) for row in rng.permutation(rows)]
                held = set(queue)  # no row twice in a batch
                queue += [row for row in again if row not in held] + [row for row in again if row in held]
            batch += queue[:take]
            del queue[:take]
        yield np.array(batch)


def pair_loss(vectors: Tensor, labels: Tensor) -> Tensor:
    """The loss of a batch; see the module's docstring. A kind of pair that the batch lacks adds 0.

    Args:
        vectors: Vectors (B, F), of any norm.
        labels: Label numbers (B,).
    """
    unit = nn.functional.normalize(vectors.float(), dim=1)
    rows, columns = torch.triu_indices(len(unit), len(unit), offset=1, device=unit.device)
    similarities = (unit @ unit.T)[rows, columns]
    same = labels[rows] == labels[columns]
    kinds = [(1 - similarities[same]) ** 2, similarities[~same] ** 2]
    return torch.stack([errors.mean() / 2 for errors in kinds if len(errors)]).sum()
