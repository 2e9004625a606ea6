# ruff: noqa: PLC0415 - torch takes seconds to import; the store needs none
"""Features of many texts in memory.

Two classes with the same interface: `PooledFeatures`, one array of fixed shape per text, and `TokenFeatures`, the
states of all tokens of each text. Both return training batches.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class TokenStates:
    """A batch of token states without padding: the tokens of all its texts, concatenated."""

    states: "Tensor"  # (T, layers, H), as they are stored
    lengths: "Tensor"  # (B,), int64, tokens per text

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def mask(self) -> "Tensor":
        """Mask of the tokens in `padded`: (B, L), bool."""
        import torch

        longest = int(self.lengths.max()) if len(self.lengths) else 0
        return torch.arange(longest, device=self.lengths.device)[None, :] < self.lengths[:, None]

    def padded(self, values: "Tensor") -> "Tensor":
        """Values of all tokens (T, …), padded with zeros: (B, L, …)."""
        mask = self.mask
        result = values.new_zeros(*mask.shape, *values.shape[1:])
        result[mask] = values
        return result

    def unpadded(self, values: "Tensor") -> "Tensor":
        """The inverse of `padded`: values of all tokens (T, …) of (B, L, …)."""
        return values[self.mask]

    def mean(self) -> "Tensor":
        """Mean over the tokens of each text: (B, layers, H), float32."""
        counts = self.lengths.clamp(min=1)  # (B,)
        return self.padded(self.states.float()).sum(1) / counts[:, None, None]

    def to(self, device: "torch.device") -> "TokenStates":
        """The same batch on a device."""
        return TokenStates(self.states.to(device), self.lengths.to(device))


@dataclass(frozen=True)
class FeatureShape:
    """Shape of an encoder's features."""

    shape: tuple[int, ...]  # shape of one text's feature; if ragged, of one token's states (layers, H)
    ragged: bool  # whether a feature has one such array for each token

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
    """One array per text: `values` (N, *shape), float16, float32 or int8."""

    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    @property
    def shape(self) -> FeatureShape:
        """Shape of one text's feature."""
        return FeatureShape(tuple(self.values.shape[1:]), ragged=False)

    @property
    def arrays(self) -> list[np.ndarray]:
        """One array per text, for `from_arrays`."""
        return list(self.values)

    def batch(self, rows: np.ndarray) -> "Tensor":
        """Features of some texts as stored, without a copy if they are consecutive: (B, *shape)."""
        import torch

        return torch.from_numpy(self.values[_range_or(rows) if self.values.flags.writeable else rows])

    def take(self, rows: np.ndarray) -> "PooledFeatures":
        """Features of some texts."""
        return PooledFeatures(self.values[rows])


@dataclass(frozen=True)
class TokenFeatures:
    """States of all tokens."""

    values: np.ndarray  # (tokens of all texts, layers, H), float16, float32 or int8
    offsets: np.ndarray  # (N + 1,), int64; text i has the rows `offsets[i]` to `offsets[i + 1]`

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def shape(self) -> FeatureShape:
        """Shape of one token's states."""
        return FeatureShape(tuple(self.values.shape[1:]), ragged=True)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per text: (N,), int64."""
        return np.diff(self.offsets)

    @property
    def arrays(self) -> list[np.ndarray]:
        """One array of states per text, (L, layers, H), for `from_arrays`."""
        return np.split(self.values, self.offsets[1:-1])

    def batch(self, rows: np.ndarray) -> TokenStates:
        """States of some texts as stored, without a copy if the texts are consecutive."""
        import torch

        within = _range_or(rows)
        if isinstance(within, slice) and self.values.flags.writeable:  # torch warns about read-only memory
            states = self.values[self.offsets[within.start] : self.offsets[within.stop]]  # (T, layers, H)
        else:
            states = self.values[self._positions(rows)]
        return TokenStates(torch.from_numpy(states), torch.from_numpy(self.lengths[rows].astype(np.int64)))

    def take(self, rows: np.ndarray) -> "TokenFeatures":
        """States of some texts."""
        offsets = np.concatenate([[0], np.cumsum(self.lengths[rows])])
        return TokenFeatures(self.values[self._positions(rows)], offsets)

    def _positions(self, rows: np.ndarray) -> np.ndarray:
        """Rows of `values` with the tokens of these texts."""
        lengths = self.lengths[rows]
        starts = self.offsets[:-1][rows]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        positions: np.ndarray = np.repeat(starts, lengths) + within
        return positions


Features = PooledFeatures | TokenFeatures


def _range_or(rows: np.ndarray) -> slice | np.ndarray:
    """Consecutive rows as a slice; others unchanged."""
    if len(rows) and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def from_arrays(arrays: list[np.ndarray], *, ragged: bool) -> Features:
    """Features from one array per text, as `encode` returns them."""
    if ragged:
        offsets = np.concatenate([[0], np.cumsum([len(array) for array in arrays])]).astype(np.int64)
        return TokenFeatures(np.concatenate(arrays), offsets)
    return PooledFeatures(np.stack(arrays))
