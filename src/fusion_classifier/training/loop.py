"""Trains a head: cross-entropy, early stopping on validation weighted F1, the best epoch restored.

The same seed on the same machine gives the same bits: start, order of batches and dropout come from the
seed, and only deterministic kernels run.
"""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor
from torch.nn.functional import cross_entropy

from fusion_classifier.config import LinearConfig, LlmEmbedConfig, TrainingConfig
from fusion_classifier.errors import DataError, NonFiniteError
from fusion_classifier.features.arrays import Features
from fusion_classifier.fusion import Head, build_head
from fusion_classifier.progress import Progress
from fusion_classifier.training.data import LabelledFeatures, blocks, feature_batch

INFERENCE_ROWS = 1024


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to. Times in seconds."""

    epoch: int
    train_loss: float
    valid_loss: float
    valid_accuracy: float
    valid_weighted_f1: float
    seconds: float


@dataclass(frozen=True)
class Trained:
    """A trained head, restored to its best epoch, and how it got there."""

    head: Head
    seed: int
    best_epoch: int
    history: tuple[Epoch, ...]

    @property
    def best(self) -> Epoch:
        """The epoch with the best validation weighted F1."""
        return self.history[self.best_epoch - 1]


def train(
    head_config: LlmEmbedConfig | LinearConfig,
    config: TrainingConfig,
    train_data: LabelledFeatures,
    valid_data: LabelledFeatures,
    n_classes: int,
    seed: int,
    device: torch.device,
    progress: Progress,
) -> Trained:
    """Train one head.

    Raises:
        DataError: nothing to train or validate on.
        NonFiniteError: the loss became NaN or infinite.
    """
    for name, data in (("training", train_data), ("validation", valid_data)):
        if not len(data):
            raise DataError(f"the {name} split is empty")
    with _deterministic(seed):
        head = build_head(head_config, train_data.shapes, n_classes)
        head.to(device)
        rows = blocks(len(train_data), INFERENCE_ROWS)
        head.fit_statistics(feature_batch(train_data.features, block, device) for block in rows)
        optimizer = torch.optim.AdamW(
            head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        history: list[Epoch] = []
        best_epoch, best = 0, (-math.inf, -math.inf)
        best_state: dict[str, Tensor] = {}
        order = np.random.default_rng(seed)
        with progress.bar(f"training seed {seed}", total=config.max_epochs) as bar:
            for epoch in range(1, config.max_epochs + 1):
                started = time.perf_counter()
                loss = _train_epoch(head, optimizer, config, train_data, order.permutation(len(train_data)), device)
                if not math.isfinite(loss):
                    raise NonFiniteError(
                        f"training diverged (seed {seed}, epoch {epoch}: loss {loss}); use a lower --lr"
                    )
                history.append(_validate(head, valid_data, epoch, loss, started, device))
                # Where F1 ties, as it does on few texts, the lower loss is the better trained head.
                reached = (history[-1].valid_weighted_f1, -history[-1].valid_loss)
                if reached > best:
                    best_epoch, best = epoch, reached
                    best_state = {name: tensor.detach().clone() for name, tensor in head.state_dict().items()}
                bar.advance()
                bar.describe(f"training seed {seed} · epoch {epoch} · valid weighted F1 {best[0]:.3f}")
                if epoch - best_epoch >= config.patience:
                    bar.finish()
                    break
        head.load_state_dict(best_state)
    head.eval()
    return Trained(head, seed, best_epoch, tuple(history))


@contextmanager
def _deterministic(seed: int) -> Iterator[None]:
    """Seeded, deterministic kernels; the caller's random state and setting are put back afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        # Deterministic mode also fills every new tensor, which only helps code that reads what it never wrote.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
            torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


def _train_epoch(
    head: Head,
    optimizer: torch.optim.Optimizer,
    config: TrainingConfig,
    data: LabelledFeatures,
    order: np.ndarray,
    device: torch.device,
) -> float:
    """One pass over the training texts in this order; the mean loss."""
    head.train()
    total = torch.zeros((), device=device)
    for start in range(0, len(order), config.batch_size):
        batch, labels = data.batch(order[start : start + config.batch_size], device)
        loss = cross_entropy(head(batch), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
        if config.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(head.parameters(), config.clip_norm)
        optimizer.step()
        total += loss.detach() * len(labels)
    return float(total) / len(order)


def _validate(
    head: Head, data: LabelledFeatures, epoch: int, train_loss: float, started: float, device: torch.device
) -> Epoch:
    logits = predict_logits(head, data.features, len(data), device)
    if not torch.isfinite(logits).all():
        raise NonFiniteError(
            f"training diverged (epoch {epoch}: NaN or infinity for a validation text); use a lower --lr, "
            "and see that the features are finite (fec store verify)"
        )
    predicted = logits.argmax(1).numpy()
    return Epoch(
        epoch=epoch,
        train_loss=train_loss,
        valid_loss=float(cross_entropy(logits, torch.from_numpy(data.labels))),
        valid_accuracy=float(accuracy_score(data.labels, predicted)),
        valid_weighted_f1=float(f1_score(data.labels, predicted, average="weighted", zero_division=0)),
        seconds=time.perf_counter() - started,
    )


@torch.inference_mode()
def predict_logits(head: Head, features: Mapping[str, Features], count: int, device: torch.device) -> Tensor:
    """Logits of all texts in order: (N, C), float32, on the CPU."""
    head.eval()
    parts = [head(feature_batch(features, rows, device)).float().cpu() for rows in blocks(count, INFERENCE_ROWS)]
    return torch.cat(parts)
