"""Base class of all heads: a module that maps a batch of features to logits.

@register_head(MyConfig)                                  # fusion/registry.py
class MyHead(Head):
    def __init__(self, config, shapes, n_classes):
        super().__init__(config, shapes, n_classes)
        self.linear = nn.Linear(self.pooled_width, n_classes)

    def forward(self, batch):
        return self.linear(self.transform(batch))
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fusion_classifier.config import HeadConfig
from fusion_classifier.features.arrays import FeatureShape, TokenStates

Batch = Mapping[str, Tensor | TokenStates]
"""Features of B texts by encoder name: token states, or pooled features (B, layers, H) or (B, H)."""


class Head(nn.Module, ABC):
    """Base class of heads. Only `forward` is required.

    Args:
        config: Configuration.
        shapes: Shape of each encoder's feature, by encoder name.
        n_classes: Number of labels C.

    Attributes:
        mixture: Weights of the head's parts (P,), fitted on the validation split after training. Default: one part
            with weight 1.
    """

    mixture: Tensor

    def __init__(self, config: HeadConfig, shapes: Mapping[str, FeatureShape], n_classes: int) -> None:
        super().__init__()
        self.config, self.shapes, self.n_classes = config, dict(shapes), n_classes
        self.register_buffer("mixture", torch.ones(1), persistent=False)

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, C), float32."""

    def transform(self, batch: Batch) -> Tensor:
        """Features of each text as one vector (B, D), float32. Default: see `unit_vectors`."""
        return self.unit_vectors(batch)

    def parts(self, batch: Batch) -> Tensor:
        """Logits of the head's parts (P, B, C), to be summed with the weights `mixture`. Default: one part."""
        logits: Tensor = self(batch)
        return logits[None]

    def objectives(self, batch: Batch) -> list[tuple[float, Tensor]]:
        """Terms of the training loss, each a weight and logits (B, C); the weights sum to 1."""
        return [(1.0, self(batch))]

    @property
    def output_bias(self) -> nn.Parameter | None:
        """Bias of the logits (…, C), if any."""
        return None

    def start_at(self, logits: Tensor) -> None:
        """Set the output bias, if any, to these logits (C), such as the labels' log-odds."""
        bias = self.output_bias
        if bias is not None:
            with torch.no_grad():
                bias.copy_(logits.expand_as(bias))

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Compute statistics of the training features, such as means, before training. Default: none."""

    def pooled(self, batch: Batch, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        """Each encoder's feature as (B, layers, H) in `dtype`; token states are averaged over the tokens."""
        result = []
        for name, shape in self.shapes.items():
            feature = batch[name]
            pooled = feature.mean() if isinstance(feature, TokenStates) else feature
            result.append(pooled.reshape(pooled.shape[0], shape.layers, shape.width).to(dtype))
        return result

    @property
    def pooled_width(self) -> int:
        """Number D of pooled features per text: layers · H, summed over the encoders."""
        return sum(shape.layers * shape.width for shape in self.shapes.values())

    def unit_vectors(self, batch: Batch) -> Tensor:
        """The pooled features, each layer of each encoder scaled to unit L2 norm, concatenated: (B, D), float32."""
        return torch.cat([normalize(feature, dim=-1).flatten(1) for feature in self.pooled(batch)], dim=1)


class OutOfFold(NamedTuple):
    """Predictions of training texts by models that were fitted without them.

    Attributes:
        rows: Indices of the texts (n,), ascending: all, or a sample.
        logits: Their logits (n, C), float32.
    """

    rows: np.ndarray
    logits: Tensor


class SolvedHead(Head):
    """Base class of heads that are fitted in one step on all training texts, instead of by gradient steps."""

    @abstractmethod
    def solve(
        self,
        x: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray | None,
        seed: int,
        n_label_names: int = 0,
        groups: np.ndarray | None = None,
    ) -> OutOfFold | None:
        """Fit the head.

        Args:
            x: `transform` of all training texts (N, D), float32.
            labels: Label numbers (N,), int64, or multi-label (N, C) of 0 and 1.
            weights: Weight of each text (N,), float32, mean 1. None: uniform.
            seed: Random seed.
            n_label_names: Number of rows at the end that are label names; they may be used for training, but not for
                evaluation.
            groups: Numbers (N,) that are the same for texts that must share a fold, as in `fold_numbers`. Default:
                only texts with equal features must.

        Returns:
            Out-of-fold predictions, if the head cross-validates.
        """


def product_dtype(device: torch.device) -> torch.dtype:
    """Current precision of matrix products: that of autocast, or float32."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32


def count_parameters(head: nn.Module) -> int:
    """Number of trained parameters."""
    return sum(parameter.numel() for parameter in head.parameters() if parameter.requires_grad)
