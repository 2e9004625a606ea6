"""Figures as plain values. `png` draws them as pictures, `svg` as part of the report."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

COLOURS = 8  # number of line colours
LABELLED_SHARE = 0.095  # minimum share of a matrix cell with a number
MAX_TICKS = 6
ROUND_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Axis:
    """A linear axis from `low` to `high`."""

    title: str
    low: float
    high: float
    whole: bool = False
    """Whether ticks are at integers only."""

    def ticks(self) -> list[tuple[float, str]]:
        """Return values and labels of at most six ticks at round numbers."""
        span = self.high - self.low or 1.0
        power = 10 ** math.floor(math.log10(span / MAX_TICKS))
        ticks: range = range(0)
        step = 1.0
        for step in [round(s * power, 12) for s in ROUND_STEPS]:
            ticks = range(math.ceil(self.low / step - 1e-9), math.floor((self.low + span) / step + 1e-9) + 1)
            if len(ticks) <= MAX_TICKS and not (self.whole and step % 1):
                break
        digits = next(d for d in range(13) if round(step, d) == step)
        return [(i * step, f"{i * step:.{digits}f}") for i in ticks]


@dataclass(frozen=True)
class Line:
    """A line of a chart."""

    name: str
    x: np.ndarray
    y: np.ndarray
    colour: int
    dotted: bool = False
    dot: tuple[float, float] | None = None
    """Marked point."""


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram."""

    left: float
    right: float
    height: float
    share: float
    """Number of values, as a share of that of the largest bar."""
    tip: str
    """Hover text."""


@dataclass(frozen=True)
class Chart:
    """Lines or bars with two axes."""

    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...] = ()
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix, true labels in rows."""

    title: str
    names: tuple[str, ...]
    counts: np.ndarray
    """Number of texts, (C, C), in the order of `names`."""
    edges: tuple[int, ...] = ()
    """First row of each group of similar labels."""

    @property
    def support(self) -> np.ndarray:
        """Number of texts of each true label, (C,)."""
        # Means over seeds have rounding errors: thirds add up to 8.000000000000002.
        return np.asarray(self.counts.sum(1).round(9))

    def cells(self) -> Iterator[tuple[int, int, float, float]]:
        """Yield row, column, share of the true label and count of every non-empty cell."""
        shares = self.counts / np.maximum(self.support, 1)[:, None]
        for row, column in zip(*(index.tolist() for index in np.nonzero(self.counts)), strict=True):
            yield row, column, float(shares[row, column]), float(self.counts[row, column])


@dataclass(frozen=True)
class Ranking:
    """Values by name, from the top: bars, or points if they have intervals."""

    title: str
    axis: str
    names: tuple[str, ...]
    values: dict[str, np.ndarray]
    """By series (R,), NaN if missing."""
    intervals: dict[str, np.ndarray] = field(default_factory=dict)
    """Bounds by series (R, 2)."""


Figure = Sequence[Chart] | Matrix | Ranking
