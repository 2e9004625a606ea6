"""Head `linear`: multinomial logistic regression on the standardized features of all encoders, side by side.

The baseline that a fusion must beat.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from fusion_classifier.config import LinearConfig
from fusion_classifier.features.arrays import FeatureShape
from fusion_classifier.fusion.head import Batch, Head


class LinearHead(Head):
    """softmax(W (x − mean) / std + b); mean and std over the training texts, kept as buffers."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: LinearConfig, shapes: Mapping[str, FeatureShape], n_classes: int) -> None:
        super().__init__(config, shapes, n_classes)
        self.register_buffer("mean", torch.zeros(self.pooled_width))
        self.register_buffer("std", torch.ones(self.pooled_width))
        self.linear = nn.Linear(self.pooled_width, n_classes)
        # A convex problem needs no random start; the seed only orders the batches.
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def _concatenated(self, batch: Batch) -> Tensor:
        return torch.cat([feature.flatten(1) for feature in self.pooled(batch)], dim=1)  # (B, D)

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Mean and standard deviation of each feature; a constant feature is only centred."""
        count = 0
        mean = torch.zeros_like(self.mean, dtype=torch.float64)
        squares = torch.zeros_like(mean)
        for batch in batches:
            x = self._concatenated(batch).double()
            # Chan et al.'s update: sums of squares of raw Llama states would lose precision.
            delta = x.mean(0) - mean
            total = count + len(x)
            squares = squares + ((x - x.mean(0)) ** 2).sum(0) + delta**2 * (count * len(x) / total)
            mean, count = mean + delta * (len(x) / total), total
        std = (squares / max(count, 1)).sqrt()
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-6 * (mean.abs() + 1e-6), std, torch.ones_like(std)))

    @property
    def output_bias(self) -> nn.Parameter:
        """See `Head`: (C,)."""
        return self.linear.bias

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, C)."""
        logits: Tensor = self.linear((self._concatenated(batch) - self.mean) / self.std)
        return logits
