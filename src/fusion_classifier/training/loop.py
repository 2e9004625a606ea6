"""Trains a head: cross-entropy, early stopping on a validation score, the best epoch restored.

With the same seed on the same machine, results are bit-identical: initialization, order of batches and dropout come
from the seed, and only deterministic kernels are used.
"""

import logging
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from fusion_classifier.config import TrainingConfig
from fusion_classifier.errors import DataError, NonFiniteError
from fusion_classifier.features.arrays import Features
from fusion_classifier.features.stored import StoredFeatures
from fusion_classifier.fusion.head import Batch, Head, OutOfFold
from fusion_classifier.fusion.loss import loss_of
from fusion_classifier.support.progress import Progress
from fusion_classifier.training.calibration import as_tensor, fit_decision
from fusion_classifier.training.data import (
    LabelledFeatures,
    blocks,
    feature_batch,
    in_blocks,
    shuffled_batches,
    tokens_of,
)
from fusion_classifier.training.decision import Decision, Member
from fusion_classifier.training.known import KnownTexts
from fusion_classifier.training.scores import scores

logger = logging.getLogger(__name__)
AnyFeatures = Mapping[str, Features | StoredFeatures]

STATISTICS_ROWS = 256
INFERENCE_ROWS = 1024
# Padded tokens per batch over all encoders: token states of a thousand long texts would not fit into memory. On a CPU
# few enough for malloc to reuse their memory: larger blocks are zeroed by the system each time.
INFERENCE_TOKENS = {"cpu": 4096, "mps": 16384, "cuda": 16384}


@dataclass(frozen=True)
class Epoch:
    """Figures of one epoch. Losses are in nats; `seconds` includes validation."""

    epoch: int
    train_loss: float
    valid_loss: float
    valid_accuracy: float
    valid_weighted_f1: float
    seconds: float
    valid_macro_f1: float = 0.0  # 0 in records from earlier versions

    def score(self, metric: str) -> float:
        """The validation score with this name, as in `TrainingConfig.metric`."""
        return float(getattr(self, f"valid_{metric}"))


@dataclass(frozen=True)
class TrainingResult:
    """A trained head with the weights of the kept epoch.

    Attributes:
        head: The head.
        decision: Calibration and thresholds, fitted on the validation split.
        seed: Seed of the training.
        best_epoch: Number of the epoch that was kept, from 1.
        history: Figures of every epoch; a single one for heads that are fitted in one step, such as scikit-learn's.
        known: Statistics for detecting unknown texts (unknown.py); None if not fitted.
        members: Members of the head `ensemble`, with their weights.
        out_of_fold: Predictions of training texts by heads trained without them, if any.
    """

    head: Head
    decision: Decision
    seed: int
    best_epoch: int
    history: tuple[Epoch, ...]
    known: KnownTexts | None = None
    members: tuple[Member, ...] = ()
    out_of_fold: OutOfFold | None = None

    @property
    def best(self) -> Epoch:
        """The kept epoch."""
        return self.history[self.best_epoch - 1]


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
    """Train by gradient steps and restore the best epoch; its number, and the figures of all epochs."""
    start(head, train_data, device)
    epochs, per_epoch = epochs_of(config, len(train_data)), math.ceil(len(train_data) / config.batch_size)
    steps = Steps(head, config, epochs * per_epoch)
    history: list[Epoch] = []
    best, title = KeptEpoch(config), config.metric.replace("_f1", " F1")
    best_state: dict[str, Tensor] = {}
    order = np.random.default_rng(seed)
    with progress.bar(f"training seed {seed}", total=epochs * len(train_data)) as bar:
        for epoch in range(1, epochs + 1):
            started = time.perf_counter()
            loss = train_epoch(steps, train_data, order, device, bar.advance)
            if not math.isfinite(loss):
                raise NonFiniteError(
                    f"training diverged (seed {seed}, epoch {epoch}: loss {loss}); use a lower `learning_rate`"
                )
            history.append(validate(head, valid_data, epoch, loss, started, device))
            logger.info("epoch of seed %d", seed, extra=asdict(history[-1]))
            on_epoch(history[-1])
            if best.takes(history[-1]):
                best_state = {name: tensor.detach().clone() for name, tensor in head.state_dict().items()}
            bar.describe(f"training seed {seed} · epoch {epoch} · valid {title} {best.score:.3f}")
            if epoch - best.epoch >= config.patience and epoch * per_epoch >= config.min_steps:
                bar.finish()
                break
    head.load_state_dict(best_state)
    return best.epoch, history


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


def train_epoch(
    steps: "Steps",
    data: LabelledFeatures,
    order: np.random.Generator,
    device: torch.device,
    advance: Callable[[int], None],
) -> float:
    """Train on one pass over the texts; returns the mean loss. `advance` is called with the size of each batch."""
    total = torch.zeros((), device=device)
    for batch, targets, weights in shuffled_epoch(data, steps.config.batch_size, order, device):
        total += steps.take(batch, targets, weights, multilabel=data.multilabel) * len(targets)
        advance(len(targets))
    return float(total) / len(data)


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


def epochs_of(config: TrainingConfig, rows: int) -> int:
    """Maximum number of passes over this number of training texts."""
    return max(config.max_epochs, math.ceil(config.min_steps / math.ceil(rows / config.batch_size)))


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Set the seed and use deterministic kernels within the block; restore the caller's random state afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        # Deterministic mode also fills every new tensor, which only matters to code that reads uninitialized memory.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
            torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


class Steps:
    """Optimizer and learning rate schedule of one training run."""

    def __init__(self, head: Head, config: TrainingConfig, steps: int) -> None:
        self.head, self.config = head, config
        # Weight decay applies to matrices, not to biases and norm weights.
        matrices = [p for p in head.parameters() if p.ndim > 1]
        vectors = [p for p in head.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=config.learning_rate, fused=True
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: _course(config, step / steps))

    def take(self, batch: Batch, targets: Tensor, weights: Tensor | None, *, multilabel: bool) -> Tensor:
        """One step on a batch; returns its mean loss."""
        config = self.config
        self.head.train()
        with torch.autocast(targets.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"):
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


def _course(config: TrainingConfig, done: float) -> float:
    """Learning rate as a share of the peak, after this share of all steps."""
    if config.schedule == "constant":
        return 1.0
    rising = min(1.0, done / config.warmup) if config.warmup else 1.0
    return rising * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def validate(
    head: Head, data: LabelledFeatures, epoch: int, train_loss: float, started: float, device: torch.device
) -> Epoch:
    logits = predict_logits(head, data.features, len(data), device)
    if not torch.isfinite(logits).all():
        raise NonFiniteError(
            f"training diverged (epoch {epoch}: NaN or infinity for a validation text); use a lower "
            "`learning_rate`, and check that the features are finite (fec store verify)"
        )
    return epoch_of(logits, data, epoch, train_loss, started)


def epoch_of(logits: Tensor, data: LabelledFeatures, epoch: int, train_loss: float, started: float) -> Epoch:
    """Figures of an epoch, from the logits (N, C) of the validation texts."""
    decision = fit_decision(logits, data.labels, calibrate=False, weights=data.weights)
    answers = decision.labels(decision.probabilities(logits))
    reached = scores(data.labels, answers, data.weights)
    return Epoch(
        epoch=epoch,
        train_loss=train_loss,
        valid_loss=float(loss_of(logits, torch.from_numpy(data.labels), weights=as_tensor(data.weights))),
        valid_accuracy=reached.accuracy,
        valid_weighted_f1=reached.weighted_f1,
        seconds=time.perf_counter() - started,
        valid_macro_f1=reached.macro_f1,
    )


def inference_batches(lengths: np.ndarray | None, count: int, device: torch.device) -> Iterator[np.ndarray]:
    """All rows in batches that fit into memory, sorted by `lengths` (from `tokens_of`) to reduce padding."""
    if lengths is None:
        yield from blocks(count, INFERENCE_ROWS)
        return
    rows = np.argsort(-lengths, kind="stable")
    start = 0
    while start < count:
        size = int(np.clip(INFERENCE_TOKENS[device.type] // max(int(lengths[rows[start]]), 1), 1, INFERENCE_ROWS))
        yield rows[start : start + size]
        start += size


def predict_logits(head: Head, features: AnyFeatures, count: int, device: torch.device) -> Tensor:
    """Logits of all texts in order: (N, C), float32, on the CPU."""
    return predict_each(head, head, features, count, device)


def predict_transform(
    head: Head, features: AnyFeatures, count: int, device: torch.device, *, unit: bool = False
) -> Tensor:
    """`Head.transform`, or with `unit` `Head.unit_vectors`, of all texts in order: (N, D), float32, on the CPU."""
    return predict_each(head, head.unit_vectors if unit else head.transform, features, count, device)


def solved_features(head: Head, data: LabelledFeatures, device: torch.device) -> np.ndarray:
    """`Head.transform` of all texts, for `SolvedHead.solve`: (N, D), float32."""
    x: np.ndarray = predict_transform(head, data.features, len(data), device).numpy()
    if not np.isfinite(x).all():
        raise NonFiniteError("NaN or infinity in the features of a training text; check them (fec store verify)")
    return x


@torch.inference_mode()
def predict_each(
    head: Head,
    call: Callable[[Batch], Tensor],
    features: Mapping[str, Features | StoredFeatures],
    count: int,
    device: torch.device,
) -> Tensor:
    """Output of `call` for all texts in order: (…, N, D), float32, on the CPU."""
    head.eval()
    result: Tensor | None = None
    for block in in_blocks(features, count):
        for chosen in inference_batches(tokens_of(block.features), len(block), device):
            part = call(feature_batch(block.features, chosen, device)).float().cpu()  # (…, B, D)
            if result is None:
                result = part.new_empty(*part.shape[:-2], count, part.shape[-1])
            result[..., torch.from_numpy(block.rows[chosen]), :] = part
    if result is None:
        raise DataError("no texts to predict")
    return result
