"""What fine-tuning gives, whatever the objective."""

from dataclasses import dataclass

from torch import nn

from fusion_classifier.training.loop import Epoch


@dataclass(frozen=True)
class Pass:
    """Figures of a pass over the training texts that nothing was validated after."""

    epoch: int
    train_loss: float
    seconds: float


@dataclass(frozen=True)
class Finetuned:
    """An encoder's model in its best epoch, or where nothing is validated its last, adapters merged.

    Attributes:
        model: The encoder's model.
        head: Linear layer on its pooled vectors; of objective `contrastive` on the unit vectors.
        history: Every epoch.
        best_epoch: The epoch that was kept, from 1.
        learning_rate: The highest learning rate.
        parameters: Numbers of parameters, `all` and `trained`.
    """

    model: nn.Module
    head: nn.Linear
    history: tuple[Epoch, ...] | tuple[Pass, ...]
    best_epoch: int
    learning_rate: float
    parameters: dict[str, int]
