"""Features left in the store, for data larger than memory: a part is read when it is needed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fusion_classifier.features.arrays import Features, FeatureShape


@dataclass(frozen=True)
class StoredFeatures:
    """Features of N texts in the store."""

    shape: FeatureShape
    rows: np.ndarray  # (N,), int64: row of each text in the store
    text_bytes: float  # average size of one text's feature
    read: Callable[[np.ndarray], Features]  # reads some rows
    memory: int = 0  # bytes that reading may take at a time, for all encoders together

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: np.ndarray) -> Features:
        """Features of some texts, in memory."""
        return self.read(self.rows[rows])
