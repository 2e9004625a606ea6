"""Features and labels for training, in batches, from memory or from the store in blocks."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch

from fusion_classifier.features.arrays import Features, FeatureShape, TokenFeatures
from fusion_classifier.features.stored import StoredFeatures
from fusion_classifier.fusion.head import Batch

BLOCK_BATCHES = 32  # number of batches within which texts are sorted by length
MAX_NEIGHBOURS = 32  # consecutive rows of the store that are read together, for efficient disk access
BLOCK_CHUNKS = 16  # minimum number of locations in the store from which a block is drawn
BLOCKS_IN_MEMORY = 4  # the current one, the next one, and the buffers for reading it


@dataclass(frozen=True)
class LabelledFeatures:
    """Features and labels of N texts.

    Attributes:
        features: Features by encoder name.
        labels: Label numbers (N,), int64, or multi-label (N, C) of 0 and 1, int64.
        weights: Weight of each text in losses and scores (N,), float32, mean 1. None: uniform.
        n_label_names: Number of texts at the end that are label names; they may be used for training, but not for
            evaluation.
        soft: Soft targets (N, C), float32: a probability for each label, for the loss of gradient steps. None: the
            labels.
        groups: Numbers that are the same for equal texts (N,), int64 (`text_groups`). None: texts with equal features
            are equal.
    """

    features: Mapping[str, Features | StoredFeatures]
    labels: np.ndarray
    weights: np.ndarray | None = None
    n_label_names: int = 0
    soft: np.ndarray | None = None
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> "LabelledFeatures":
        """Selected texts, in this order; stored features stay in the store. None of them counts as a label name."""
        features = {
            name: replace(values, rows=values.rows[rows]) if isinstance(values, StoredFeatures) else values.take(rows)
            for name, values in self.features.items()
        }
        soft = None if self.soft is None else self.soft[rows]
        groups = None if self.groups is None else self.groups[rows]
        return LabelledFeatures(features, self.labels[rows], self.weights_of(rows), soft=soft, groups=groups)

    def weights_of(self, rows: np.ndarray) -> np.ndarray | None:
        """Weights of the selected texts."""
        return None if self.weights is None else self.weights[rows]

    @property
    def n_texts(self) -> int:
        """Number of texts without label names."""
        return len(self) - self.n_label_names

    @property
    def texts(self) -> "LabelledFeatures":
        """The texts without label names."""
        return self.take(np.arange(self.n_texts)) if self.n_label_names else self

    @property
    def targets(self) -> np.ndarray:
        """Targets of the loss: `soft`, or the labels."""
        return self.labels if self.soft is None else self.soft

    @property
    def multilabel(self) -> bool:
        """Whether a text may have several labels."""
        return self.labels.ndim > 1

    @property
    def stored(self) -> bool:
        """Whether features are read from the store in blocks."""
        return any(isinstance(features, StoredFeatures) for features in self.features.values())

    @property
    def shapes(self) -> dict[str, FeatureShape]:
        """The feature shape of each encoder."""
        return {name: features.shape for name, features in self.features.items()}


def feature_batch(features: Mapping[str, Features], rows: np.ndarray, device: torch.device) -> Batch:
    """Features of the selected rows on a device, by encoder name."""
    return {name: values.batch(rows).to(device) for name, values in features.items()}


@dataclass(frozen=True)
class Block:
    """Texts with features in memory; `rows` (n,) are their indices among all texts."""

    rows: np.ndarray
    features: Mapping[str, Features]

    def __len__(self) -> int:
        return len(self.rows)


def in_blocks(
    features: Mapping[str, Features | StoredFeatures],
    count: int,
    order: np.random.Generator | None = None,
    batch_size: int = 1,
) -> Iterator[Block]:
    """All texts once: one block if the features are in memory, otherwise blocks that fit into memory.

    The next block is read in the background. With `order`, each block of stored features is drawn from the whole
    store, so that training batches are mixed; without it, blocks follow the store. A block contains whole batches of
    `batch_size` texts if it can hold one.
    """
    stored = {name: values for name, values in features.items() if isinstance(values, StoredFeatures)}
    if not stored:
        yield Block(np.arange(count), {n: v for n, v in features.items() if not isinstance(v, StoredFeatures)})
        return

    def read(rows: np.ndarray) -> Block:
        return Block(rows, {name: values.take(rows) for name, values in features.items()})

    with ThreadPoolExecutor(1) as executor:
        waiting = None
        for rows in _plan(list(stored.values()), count, order, batch_size):
            reading = executor.submit(read, rows)
            if waiting is not None:
                yield waiting
            waiting = reading.result()
        if waiting is not None:
            yield waiting


def _plan(
    stored: list[StoredFeatures], count: int, order: np.random.Generator | None, batch_size: int
) -> list[np.ndarray]:
    """Rows of each block, consecutive in the store of the encoder with the largest features."""
    in_store = max(stored, key=lambda values: values.text_bytes).rows
    rows = np.argsort(in_store, kind="stable")
    most = max(int(stored[0].memory / BLOCKS_IN_MEMORY / sum(values.text_bytes for values in stored)), 1)
    if order is not None:
        size = min(max(most // BLOCK_CHUNKS, 1), MAX_NEIGHBOURS)
        chunks = [rows[start : start + size] for start in range(0, count, size)]
        rows = np.concatenate([chunks[i] for i in order.permutation(len(chunks))]) if chunks else rows
    if most >= batch_size:
        most -= most % batch_size
    parts = [rows[start : start + most] for start in range(0, count, most)]
    return [part[np.argsort(in_store[part], kind="stable")] for part in parts]


def blocks(count: int, size: int) -> Iterator[np.ndarray]:
    """Row indices in order, `size` at a time."""
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))


def tokens_of(features: Mapping[str, Features]) -> np.ndarray | None:
    """Number of tokens per text over all encoders (N,); None if all features are pooled."""
    lengths = [values.lengths for values in features.values() if isinstance(values, TokenFeatures)]
    return np.sum(lengths, axis=0) if lengths else None


def shuffled_batches(
    features: Mapping[str, Features], count: int, size: int, order: np.random.Generator
) -> list[np.ndarray]:
    """Every row once, in random batches of `size`; token states in batches of similar length, to reduce padding.

    Rows are shuffled, cut into blocks of many batches, and sorted by length within each block; then the batches are
    shuffled.
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
