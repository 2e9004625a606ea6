"""The result of fine-tuning, for every objective."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from fusion_classifier.encoders.loading import TransformerEncoder
from fusion_classifier.errors import FecError
from fusion_classifier.fusion.head import count_parameters
from fusion_classifier.training.result import Epoch


@dataclass(frozen=True)
class Pass:
    """Metrics of one pass over the training texts, without validation."""

    epoch: int
    train_loss: float
    seconds: float


@dataclass(frozen=True)
class Finetuned:
    """An encoder's model from its best epoch (without validation: its last), with adapters merged.

    Attributes:
        model: The encoder's model.
        head: Linear layer on its pooled vectors; with objective `contrastive`, on the unit vectors.
        history: Metrics per epoch.
        best_epoch: Number of the epoch that was kept, from 1.
        learning_rate: Peak learning rate.
        parameters: Numbers of parameters, `all` and `trained`.
    """

    model: nn.Module
    head: nn.Linear
    history: tuple[Epoch, ...] | tuple[Pass, ...]
    best_epoch: int
    learning_rate: float
    parameters: dict[str, int]


def parameter_counts(model: nn.Module) -> dict[str, int]:
    """Numbers of parameters, `all` and `trained`."""
    return {"all": sum(p.numel() for p in model.parameters()), "trained": count_parameters(model)}


@contextmanager
def memory_explained(encoder: TransformerEncoder, advice: str = "") -> Iterator[None]:
    """Convert a lack of memory into a FecError; `advice` is appended to its message."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise FecError(
            f"{encoder.config.name}: out of memory on {encoder.device.type}; give a smaller `batch_size` or "
            f"`max_length`{advice}"
        ) from error
