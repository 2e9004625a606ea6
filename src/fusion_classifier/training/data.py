"""Features and labels as training reads them: in batches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fusion_classifier.features.arrays import Features, FeatureShape
from fusion_classifier.fusion.head import Batch


@dataclass(frozen=True)
class LabelledFeatures:
    """The features of N texts by encoder name, and their labels (N,), int64."""

    features: Mapping[str, Features]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shapes(self) -> dict[str, FeatureShape]:
        """The feature shape of each encoder."""
        return {name: features.shape for name, features in self.features.items()}

    def batch(self, rows: np.ndarray, device: torch.device) -> tuple[Batch, Tensor]:
        """Some texts' features and labels on a device."""
        return feature_batch(self.features, rows, device), torch.from_numpy(self.labels[rows]).to(device)


def feature_batch(features: Mapping[str, Features], rows: np.ndarray, device: torch.device) -> Batch:
    """Some texts' features on a device, by encoder name."""
    return {name: values.batch(rows).to(device) for name, values in features.items()}


def blocks(count: int, size: int) -> Iterator[np.ndarray]:
    """Row numbers in order, `size` at a time."""
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))
