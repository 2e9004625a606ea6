"""Trains a head by gradient steps: cross-entropy, early stopping on a validation score, the best epoch restored.

    train_in_epochs   the loop: trains for an epoch, yields the training loss, and continues if requested
    fit               validates after each epoch, stops early, and restores the best epoch
    fit_to_end        trains to the end of the schedule, without validation

With the same seed on the same machine, results are bit-identical: initialization, order of batches and dropout come
from the seed, and only deterministic kernels are used.
"""

import logging
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from fusion_classifier.config import TrainingConfig
from fusion_classifier.encoders.device import resolve_dtype
from fusion_classifier.errors import NonFiniteError
from fusion_classifier.fusion.head import Batch, Head
from fusion_classifier.fusion.loss import loss_of
from fusion_classifier.support.progress import Progress
from fusion_classifier.training.data import LabelledFeatures, blocks, feature_batch, in_blocks, shuffled_batches
from fusion_classifier.training.optimizer import adamw, warmup_then_cosine
from fusion_classifier.training.result import Epoch
from fusion_classifier.training.validate import validate

logger = logging.getLogger(__name__)

STATISTICS_ROWS = 256


def fit(
    head: Head,
    config: TrainingConfig,
    train_data: LabelledFeatures,
    valid_data: LabelledFeatures,
    seed: int,
    device: torch.device,
    progress: Progress,
    on_epoch: Callable[[Epoch], None],
) -> tuple[int, list[Epoch]]:
    """Train by gradient steps and restore the best epoch; its number, and the metrics of all epochs."""
    start(head, train_data, device)
    epochs, steps_per_epoch = epochs_of(config, len(train_data)), steps_of(config, len(train_data))
    history: list[Epoch] = []
    best, title = KeptEpoch(config), config.metric.replace("_f1", " F1")
    best_state: dict[str, Tensor] = {}
    with progress.bar(f"training seed {seed}", total=epochs * len(train_data)) as bar:
        started = time.perf_counter()
        for epoch, loss in train_in_epochs(head, config, train_data, seed, device, bar.advance):
            history.append(validate(head, valid_data, epoch, loss, started, device))
            logger.info("epoch of seed %d", seed, extra=asdict(history[-1]))
            on_epoch(history[-1])
            if best.takes(history[-1]):
                best_state = {name: tensor.detach().clone() for name, tensor in head.state_dict().items()}
            bar.describe(f"training seed {seed} · epoch {epoch} · valid {title} {best.score:.3f}")
            if epoch - best.epoch >= config.patience and epoch * steps_per_epoch >= config.min_steps:
                bar.finish()
                break
            started = time.perf_counter()
    head.load_state_dict(best_state)
    return best.epoch, history


def fit_to_end(
    head: Head,
    config: TrainingConfig,
    data: LabelledFeatures,
    seed: int,
    device: torch.device,
    advance: Callable[[int], None],
) -> float:
    """Train by gradient steps to the end of the schedule; returns the training loss of the last epoch."""
    start(head, data, device)
    *_, (_, loss) = train_in_epochs(head, config, data, seed, device, advance)
    return loss


def train_in_epochs(
    head: Head,
    config: TrainingConfig,
    data: LabelledFeatures,
    seed: int,
    device: torch.device,
    advance: Callable[[int], None],
) -> Iterator[tuple[int, float]]:
    """Train a head after `start`; yields the number of each epoch, from 1, and its mean training loss.

    `advance` is called with the size of each batch.

    Raises:
        NonFiniteError: The loss became NaN or infinite.
    """
    epochs = epochs_of(config, len(data))
    steps = Steps(head, config, epochs * steps_of(config, len(data)))
    order = np.random.default_rng(seed)
    for epoch in range(1, epochs + 1):
        total = torch.zeros((), device=device)
        for batch, targets, weights in shuffled_epoch(data, config.batch_size, order, device):
            total += steps.take(batch, targets, weights, multilabel=data.multilabel) * len(targets)
            advance(len(targets))
        loss = float(total) / len(data)
        if not math.isfinite(loss):
            raise NonFiniteError(
                f"training diverged (seed {seed}, epoch {epoch}: loss {loss}); use a lower `learning_rate`"
            )
        yield epoch, loss


class KeptEpoch:
    """The epoch to keep: the last one with progress, as defined by `TrainingConfig.stopping`."""

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.epoch, self.score, self.loss = 0, -math.inf, math.inf

    def takes(self, epoch: Epoch) -> bool:
        """Whether this epoch is the best so far."""
        score, loss = epoch.score(self.config.metric), epoch.valid_loss
        if self.config.stopping == "loss_or_score":
            taken = score > self.score or loss < self.loss
            self.score, self.loss = max(score, self.score), min(loss, self.loss)
        else:
            # If scores tie, as on few texts, the lower loss decides.
            taken = (score, -loss) > (self.score, -self.loss)
            if taken:
                self.score, self.loss = score, loss
        if taken:
            self.epoch = epoch.epoch
        return taken


def start(head: Head, data: LabelledFeatures, device: torch.device) -> None:
    """Compute a head's statistics of the training texts, and initialize its output bias from the label
    frequencies."""
    with closing(in_random_order(data, device)) as batches:
        head.fit_statistics(batches)
    if data.multilabel:
        head.start_at(log_odds_of(data.labels).to(device))
    elif data.weights is not None:
        head.start_at(log_shares_of(data, head.n_classes).to(device))


def log_odds_of(labels: np.ndarray) -> Tensor:
    """Log-odds of each label in (N, C) of 0 and 1: (C,), finite for labels that no text or every text has.

    A multi-label head with this initial bias need not learn first that most labels are rare: with early stopping, it
    would otherwise give all of them a probability near 1/2, which no temperature can correct. Source: Lin et al.:
    Focal Loss for Dense Object Detection, ICCV 2017, section 3.3, https://arxiv.org/abs/1708.02002."""
    share = (labels.sum(0) + 1) / (len(labels) + 2)
    return torch.from_numpy(np.log(share / (1 - share))).float()


def log_shares_of(data: LabelledFeatures, n_classes: int) -> Tensor:
    """Logarithm of each label's share of the sample weights, one label per text: (C,), finite for labels without
    weight.

    Label frequencies may differ widely: with early stopping, a head that starts at 0 would give all labels similar
    probabilities.
    """
    weights = np.bincount(data.labels, data.weights, n_classes) + 1
    return torch.from_numpy(np.log(weights / weights.sum())).float()


def shuffled_epoch(
    data: LabelledFeatures, size: int, order: np.random.Generator, device: torch.device
) -> Iterator[tuple[Batch, Tensor, Tensor | None]]:
    """Every text once in random batches: features, targets, weights."""
    for block in in_blocks(data.features, len(data), order, size):
        for chosen in shuffled_batches(block.features, len(block), size, order):
            rows = block.rows[chosen]
            targets = torch.from_numpy(data.targets[rows]).to(device)
            weights = None if data.weights is None else torch.from_numpy(data.weights[rows]).to(device)
            yield feature_batch(block.features, chosen, device), targets, weights


def in_random_order(data: LabelledFeatures, device: torch.device) -> Generator[Batch]:
    """All texts, for statistics of a sample; the same order for every seed."""
    order = np.random.default_rng(0)
    for block in in_blocks(data.features, len(data), order):
        rows = order.permutation(len(block))
        for chosen in blocks(len(rows), STATISTICS_ROWS):
            yield feature_batch(block.features, rows[chosen], device)


def epochs_of(config: TrainingConfig, n_texts: int) -> int:
    """Maximum number of passes over this number of training texts."""
    return max(config.max_epochs, math.ceil(config.min_steps / steps_of(config, n_texts)))


def steps_of(config: TrainingConfig, n_texts: int) -> int:
    """Number of gradient steps of one pass over this number of training texts."""
    return math.ceil(n_texts / config.batch_size)


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Set the seed and use deterministic kernels within the block; restore the caller's random state and settings
    afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        # Deterministic mode also fills every new tensor, which only matters to code that reads uninitialized memory.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warn_only)
            torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


class Steps:
    """Optimizer and learning rate schedule of one training run."""

    def __init__(self, head: Head, config: TrainingConfig, steps: int) -> None:
        self.head, self.config = head, config
        self.bfloat16 = resolve_dtype(config.precision, next(head.parameters()).device) == "bfloat16"
        self.optimizer = adamw(head.parameters(), config.learning_rate, config.weight_decay)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda step: 1.0 if config.schedule == "constant" else warmup_then_cosine(step / steps, config.warmup),
        )

    def take(self, batch: Batch, targets: Tensor, weights: Tensor | None, *, multilabel: bool) -> Tensor:
        """One step on a batch; returns its mean loss."""
        config = self.config
        self.head.train()
        with torch.autocast(targets.device.type, torch.bfloat16, enabled=self.bfloat16):
            objectives = self.head.objectives(batch)
        smoothing = config.label_smoothing
        losses = [
            share * loss_of(logits.float(), targets, smoothing, weights, multilabel=multilabel)
            for share, logits in objectives
        ]
        loss = torch.stack(losses).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
        if config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.head.parameters(), config.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()
