"""Features of many texts in memory.

Two kinds, alike to every later stage: `PooledFeatures`, one array of a fixed shape a text, and
`TokenFeatures`, the states of all of a text's tokens. Both give training batches.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenStates:
    """A batch of token states, without padding: all tokens of its texts, one text after another.

    `states` (T, layers, H), as they are stored; `lengths` (B,), int64, tokens of each text.
    """

    states: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def mask(self) -> Tensor:
        """Where `padded` has tokens: (B, L), bool."""
        longest = int(self.lengths.max()) if len(self.lengths) else 0
        return torch.arange(longest, device=self.lengths.device)[None, :] < self.lengths[:, None]

    def padded(self, values: Tensor) -> Tensor:
        """Values of all tokens (T, …) text by text, zero where padded: (B, L, …)."""
        mask = self.mask
        result = values.new_zeros(*mask.shape, *values.shape[1:])
        result[mask] = values
        return result

    def mean(self) -> Tensor:
        """Mean over each text's tokens: (B, layers, H), float32."""
        counts = self.lengths.clamp(min=1)  # (B,)
        return self.padded(self.states.float()).sum(1) / counts[:, None, None]

    def to(self, device: torch.device) -> "TokenStates":
        """The same batch on a device."""
        return TokenStates(self.states.to(device), self.lengths.to(device))


@dataclass(frozen=True)
class FeatureShape:
    """What a head needs to know of an encoder's feature.

    `shape` is that of one text's feature, or, if `ragged`, of one token's states (layers, H).
    """

    shape: tuple[int, ...]
    ragged: bool

    @property
    def layers(self) -> int:
        """Number of layers."""
        return self.shape[0] if len(self.shape) == 2 else 1

    @property
    def width(self) -> int:
        """Hidden width H."""
        return self.shape[-1]


@dataclass(frozen=True)
class PooledFeatures:
    """One array a text: `values` (N, *shape), float16, float32 or int8."""

    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> FeatureShape:
        """The shape of one text's feature."""
        return FeatureShape(tuple(self.values.shape[1:]), ragged=False)

    @property
    def arrays(self) -> list[np.ndarray]:
        """The array of each text, `shape`, as `from_arrays` takes them."""
        return list(self.values)

    def batch(self, rows: np.ndarray) -> Tensor:
        """Some texts' features, as they are stored, without a copy where they are neighbours: (B, *shape)."""
        return torch.from_numpy(self.values[_range_or(rows) if self.values.flags.writeable else rows])

    def take(self, rows: np.ndarray) -> "PooledFeatures":
        """Some texts' features, kept as they are."""
        return PooledFeatures(self.values[rows])


@dataclass(frozen=True)
class TokenFeatures:
    """All tokens' states: `values` (tokens of all texts, layers, H), float16, float32 or int8.

    Text i has the rows `offsets[i]` to `offsets[i + 1]`; `offsets` (N + 1,), int64.
    """

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def shape(self) -> FeatureShape:
        """The shape of one token's states."""
        return FeatureShape(tuple(self.values.shape[1:]), ragged=True)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text: (N,), int64."""
        return np.diff(self.offsets)

    @property
    def arrays(self) -> list[np.ndarray]:
        """The states of each text, (L, layers, H), as `from_arrays` takes them."""
        return np.split(self.values, self.offsets[1:-1])

    def batch(self, rows: np.ndarray) -> TokenStates:
        """Some texts' states, as they are stored, without a copy where the texts are neighbours."""
        within = _range_or(rows)
        if isinstance(within, slice) and self.values.flags.writeable:  # torch warns of read-only memory
            states = self.values[self.offsets[within.start] : self.offsets[within.stop]]  # (T, layers, H)
        else:
            states = self.values[self._positions(rows)]
        return TokenStates(torch.from_numpy(states), torch.from_numpy(self.lengths[rows].astype(np.int64)))

    def take(self, rows: np.ndarray) -> "TokenFeatures":
        """Some texts' states, kept as they are."""
        offsets = np.concatenate([[0], np.cumsum(self.lengths[rows])])
        return TokenFeatures(self.values[self._positions(rows)], offsets)

    def _positions(self, rows: np.ndarray) -> np.ndarray:
        """Rows of `values` that hold these texts' tokens, text by text."""
        lengths = self.lengths[rows]
        starts = self.offsets[:-1][rows]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        positions: np.ndarray = np.repeat(starts, lengths) + within
        return positions


Features = PooledFeatures | TokenFeatures


def _range_or(rows: np.ndarray) -> slice | np.ndarray:
    """Rows in order and without a gap as a slice; others as they are."""
    if len(rows) and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def from_arrays(arrays: list[np.ndarray], *, ragged: bool) -> Features:
    """Features of texts as `encode` gives them."""
    if ragged:
        offsets = np.concatenate([[0], np.cumsum([len(array) for array in arrays])]).astype(np.int64)
        return TokenFeatures(np.concatenate(arrays), offsets)
    return PooledFeatures(np.stack(arrays))
