"""Features that are left in the store, for data that memory does not hold: a part is read when it is needed."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fusion_classifier.features.arrays import Features, FeatureShape


@dataclass(frozen=True)
class StoredFeatures:
    """Features of N texts, of which `read` fetches some.

    `rows` (N,), int64: where in the store each text's feature is, in no particular order; `text_bytes`: of one
    text's feature, on average; `memory`: bytes that reading may take at a time, for all encoders together.
    """

    shape: FeatureShape
    rows: np.ndarray
    text_bytes: float
    read: Callable[[np.ndarray], Features]
    memory: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: np.ndarray) -> Features:
        """Some texts' features, in memory."""
        return self.read(self.rows[rows])
