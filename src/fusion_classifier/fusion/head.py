"""What every head is: a module from a batch of features to logits."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from fusion_classifier.features.arrays import FeatureShape, TokenStates

Batch = Mapping[str, Tensor | TokenStates]


class Head(nn.Module, ABC):
    """Base of the heads.

    `mixture` (P,) are the weights of its parts, fitted on the validation split after training; most heads have one
    part, whose weight is 1.

    A head is built from the shapes of its encoders' features and called with a batch of them by encoder name.
    """

    mixture: Tensor

    def __init__(self, shapes: Mapping[str, FeatureShape]) -> None:
        super().__init__()
        self.shapes = dict(shapes)
        self.register_buffer("mixture", torch.ones(1), persistent=False)

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, C), float32."""

    def parts(self, batch: Batch) -> Tensor:
        """Logits of which the head's are a weighted sum, (P, B, C); here one part, the logits themselves."""
        logits: Tensor = self(batch)
        return logits[None]

    def objectives(self, batch: Batch) -> list[tuple[float, Tensor]]:
        """What is trained: logits (B, C) and the share of the loss that they bear; the shares sum to 1."""
        return [(1.0, self(batch))]

    @property
    @abstractmethod
    def output_bias(self) -> nn.Parameter:
        """What is added to the logits at the end, (…, C)."""

    def start_at(self, logits: Tensor) -> None:
        """Let an untrained head begin near these logits (C), such as the labels' log-odds."""
        with torch.no_grad():
            self.output_bias.copy_(logits.expand_as(self.output_bias))

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Take what the head keeps of the training features (means, say) before training; nothing here."""

    def pooled(self, batch: Batch, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """Each encoder's feature as (B, layers, H) in `dtype`; token states by their mean over the tokens."""
        result = []
        for name, shape in self.shapes.items():
            feature = batch[name]
            pooled = feature.mean() if isinstance(feature, TokenStates) else feature
            result.append(pooled.reshape(pooled.shape[0], shape.layers, shape.width).to(dtype))
        return result


def product_dtype(device: torch.device) -> torch.dtype:
    """In what matrix products are computed now: autocast's, or float32."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32


def count_parameters(head: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(parameter.numel() for parameter in head.parameters() if parameter.requires_grad)
