"""The result of fine-tuning, for every objective."""

from dataclasses import dataclass

from torch import nn

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
