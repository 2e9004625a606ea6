"""Features and labels as training reads them: in batches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fusion_classifier.features.arrays import Features, FeatureShape, TokenFeatures
from fusion_classifier.fusion.head import Batch

BLOCK_BATCHES = 32  # batches among which texts are sorted by length


@dataclass(frozen=True)
class LabelledFeatures:
    """The features of N texts by encoder name, and their labels: int64, (N,), or multi-label (N, C) of 0 and 1."""

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


def tokens_of(features: Mapping[str, Features]) -> np.ndarray | None:
    """Tokens of each text over all encoders, (N,); None where every encoder has one array a text."""
    lengths = [values.lengths for values in features.values() if isinstance(values, TokenFeatures)]
    return np.sum(lengths, axis=0) if lengths else None


def shuffled_batches(
    features: Mapping[str, Features], count: int, size: int, order: np.random.Generator
) -> list[np.ndarray]:
    """Every row once, in batches of `size` in random order; token states in batches of similar length.

    Similar lengths leave little padding: rows are shuffled, cut into blocks of many batches, sorted within a
    block, and the batches shuffled again.
    """
    rows = order.permutation(count)
    lengths = tokens_of(features)
    if lengths is None:
        return [rows[start : start + size] for start in range(0, count, size)]
    batches = []
    for start in range(0, count, size * BLOCK_BATCHES):
        block = rows[start : start + size * BLOCK_BATCHES]
        block = block[np.argsort(lengths[block], kind="stable")]
        batches += [block[i : i + size] for i in range(0, len(block), size)]
    return [batches[i] for i in order.permutation(len(batches))]
