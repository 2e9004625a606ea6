"""Features that stay in the store, for data larger than memory: parts are read on demand."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fusion_classifier.features.arrays import Features, FeatureShape


@dataclass(frozen=True)
class StoredFeatures:
    """Features of N texts in the store."""

    shape: FeatureShape
    rows: np.ndarray  # row of each text in the store (N,), int64
    text_bytes: float  # mean size of one text's feature
    read: Callable[[np.ndarray], Features]  # reads some rows
    memory: int = 0  # memory for reading, in bytes, for all encoders together

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: np.ndarray) -> Features:
        """Features of some texts, in memory."""
        return self.read(self.rows[rows])
