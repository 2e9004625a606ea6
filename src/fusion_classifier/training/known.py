"""Vectors of training texts that a classifier keeps to detect unknown texts.

    doubt     −ln p/(1 − p) of the most probable label's calibrated probability p
    distance  −mean cosine to the NEIGHBOURS nearest training texts, on the pooled features as `Head.unit_vectors`
    score     the sum of both, each standardized over held-out texts; the sum is standardized, too

So 0 is an average known text, and 1 is one standard deviation less typical. No unknown text is needed: the
threshold for a given share of rejected known texts is a quantile of the scores of the same held-out texts, as in
split conformal prediction. For n held-out texts it is the ⌈(n + 1)(1 − rate)⌉-th lowest score. It is fitted in
unknown.py.

Sources: Sun, Ming, Zhu, Li: Out-of-distribution detection with deep nearest neighbors, ICML 2022,
https://arxiv.org/abs/2204.06507; Vovk, Gammerman, Shafer: Algorithmic learning in a random world, 2005.
"""

import math
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from fusion_classifier.errors import FecError, UsageError

KNOWN_FILE = "known.safetensors"
DEFAULT_RATE = 0.05
NEIGHBOURS = 3
BLOCK = 1024  # texts compared at once
TINY = 1e-6  # norm below which a vector has no direction


@dataclass(frozen=True)
class KnownTexts:
    """Statistics of known texts, for detecting unknown ones.

    Attributes:
        basis: Principal directions of the training texts' unit vectors (D, K), float16, orthonormal.
        vectors: Training texts projected on these directions (M, K), int8; only the direction matters, not the norm.
        centre: Mean of doubt and distance over held-out texts, and of their standardized sum (3,), float32.
        spread: Standard deviations of the same (3,), float32.
        scores: Scores of held-out texts, ascending, at most 1,000, evenly spaced (S,), float32.
    """

    basis: np.ndarray
    vectors: np.ndarray
    centre: np.ndarray
    spread: np.ndarray
    scores: np.ndarray

    def score(self, x: np.ndarray, log_odds: np.ndarray) -> np.ndarray:
        """Unknown score of each text, higher for texts unlike the known ones: (N,), float32; see the module's
        docstring.

        Args:
            x: `unit_vectors` of the texts (N, D), float32.
            log_odds: `Decision.log_odds` of their logits (N, C).
        """
        distance = -nearest(projected(x, self._directions), self._stored)
        return self.standardized(np.stack([-log_odds.max(1), distance]))

    @cached_property
    def _directions(self) -> np.ndarray:
        return self.basis.astype(np.float32)

    @cached_property
    def _stored(self) -> np.ndarray:
        return unit(self.vectors.astype(np.float32))

    def standardized(self, parts: np.ndarray) -> np.ndarray:
        """The score for doubt and distance (2, N)."""
        both = ((parts - self.centre[:2, None]) / self.spread[:2, None]).sum(0)
        return np.asarray((both - self.centre[2]) / self.spread[2], dtype=np.float32)

    @property
    def least_rate(self) -> float:
        """The lowest rejection rate that can be estimated from this number of held-out texts."""
        return 1 / (len(self.scores) + 1)

    def note(self, rate: float) -> str | None:
        """Message for a rate that is too low for the number of held-out texts, otherwise None."""
        if rate >= self.least_rate:
            return None
        return (
            f"{len(self.scores):,} held-out texts are too few for a false-alarm rate of {rate:g}: about "
            f"{self.least_rate:.2g} of known texts will be rejected; train on more texts for a lower rate"
        )

    def threshold(self, rate: float) -> float:
        """The score exceeded by at most this share of known texts; for rates below `least_rate`, the highest held-out
        score.
        """
        place = math.ceil((len(self.scores) + 1) * (1 - checked_rate(rate)) - 1e-9)
        return float(self.scores[min(max(place, 1), len(self.scores)) - 1])

    def save(self, folder: Path) -> None:
        """Write `known.safetensors` into a folder."""
        save_file(
            {one.name: np.ascontiguousarray(getattr(self, one.name)) for one in fields(self)}, folder / KNOWN_FILE
        )

    @classmethod
    def load(cls, folder: Path, width: int) -> Self | None:
        """Read the file written by `save`; None if it is missing, since earlier versions did not write it.

        Args:
            folder: Model folder.
            width: Number D of the head's pooled features.
        """
        path = folder / KNOWN_FILE
        if not path.is_file():
            return None
        try:
            found = cls(**load_file(path))
            found._check(width)
        except (OSError, SafetensorError, TypeError, ValueError, AttributeError) as error:
            raise FecError(
                f"{path} can't be read ({error}); train the model again, or delete the file; without it, "
                "unknown texts can't be detected"
            ) from error
        return found

    def _check(self, width: int) -> None:
        texts, directions = self.vectors.shape
        expected = {
            "basis": ((width, directions), np.float16),
            "vectors": ((texts, directions), np.int8),
            "centre": ((3,), np.float32),
            "spread": ((3,), np.float32),
            "scores": ((len(self.scores),), np.float32),
        }
        for name, (shape, dtype) in expected.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtype or not array.size or not np.isfinite(array).all():
                raise ValueError(f"{name} does not fit this model")
        if (self.spread <= 0).any():
            raise ValueError("a standard deviation is not above 0")


def checked_rate(rate: float) -> float:
    """Validate the share of known texts that may be rejected."""
    if isinstance(rate, bool) or not 0 < rate < 1:
        raise UsageError(f"`reject_unknown`: {rate!r} is not a rate; give a number between 0 and 1, such as 0.05")
    return rate


def projected(x: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Project vectors (N, D) on the directions (D, K), float32: (N, K); the part outside them is lost."""
    return np.asarray(unit(x) @ basis)


def nearest(x: np.ndarray, stored: np.ndarray, own: np.ndarray | None = None) -> np.ndarray:
    """Mean cosine similarity of vectors (N, K) to the nearest of the unit vectors (M, K): (N,), float32.

    Args:
        x: Projected unit vectors.
        stored: Unit vectors.
        own: Index of each vector among the stored ones (N,), to be excluded.
    """
    count = min(NEIGHBOURS, max(len(stored) - (own is not None), 1))
    result = np.empty(len(x), dtype=np.float32)
    for start in range(0, len(x), BLOCK):
        part = slice(start, start + BLOCK)
        cosines = x[part] @ stored.T
        if own is not None and len(stored) > 1:
            cosines[np.arange(len(cosines)), own[part]] = -np.inf
        result[part] = np.partition(cosines, -count, axis=1)[:, -count:].mean(1)
    return result


def unit(x: np.ndarray) -> np.ndarray:
    """Rows scaled to unit norm; a row of zeros is unchanged."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), TINY))
