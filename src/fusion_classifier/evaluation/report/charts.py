"""Geometry of the report's charts: axes, lines, bars and a plane, as numbers that a template draws as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.ticker import MaxNLocator
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

CURVE_POINTS = 160  # of a line: more can't be seen
PCA_DIMENSIONS = 50  # that t-SNE starts from
LEFT, RIGHT, TOP, BOTTOM = 48, 388, 12, 236  # the plot's box in a chart of 400 by 280


@dataclass(frozen=True)
class Axis:
    """A linear axis: from value `low` to `high` on pixels `start` to `end`; `ticks` are values."""

    low: float
    high: float
    start: float
    end: float
    title: str
    ticks: tuple[float, ...] = ()
    digits: int = 0

    def at(self, value: float) -> float:
        """The pixel of a value."""
        span = self.high - self.low or 1.0
        return round(self.start + (float(value) - self.low) / span * (self.end - self.start), 1)

    def marks(self) -> list[tuple[float, str]]:
        """Pixel and text of each tick."""
        return [(self.at(tick), f"{tick:.{self.digits}f}") for tick in self.ticks]


def axis(low: float, high: float, start: float, end: float, title: str, *, whole: bool = False) -> Axis:
    """An axis over these values with ticks at round numbers, of which the outer ones are its ends."""
    high = high if high > low else low + 1
    ticks = MaxNLocator(5, integer=whole, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    step = float(ticks[1] - ticks[0])
    digits = next((d for d in range(4) if abs(round(step, d) - step) < 1e-9 * abs(step)), 4)
    inside = tuple(float(t) for t in ticks if low - 1e-9 <= t <= high + 1e-9)
    return Axis(low, high, start, end, title, inside, digits)


@dataclass(frozen=True)
class Line:
    """A line of a chart: SVG path, number of its colour, name, whether it is dotted; `dot` marks a point of it."""

    path: str
    colour: int
    name: str
    dotted: bool = False
    dot: tuple[float, float] | None = None


@dataclass(frozen=True)
class Chart:
    """Axes and lines in a box of `width` by `height` pixels; `bars` are x, y, width, height and a hover text."""

    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...] = ()
    bars: tuple[tuple[float, float, float, float, str], ...] = ()
    strip: tuple[tuple[float, float, float, float, str], ...] = ()
    diagonal: bool = False
    width: int = 400
    height: int = 280


def path_of(x: Axis, y: Axis, xs: Sequence[float] | np.ndarray, ys: Sequence[float] | np.ndarray) -> str:
    """An SVG path through points, thinned where there are more than can be seen."""
    keep = np.unique(np.linspace(0, len(xs) - 1, min(len(xs), CURVE_POINTS)).round().astype(int))
    points = [f"{x.at(xs[i])},{y.at(ys[i])}" for i in keep]
    return "M" + "L".join(points) if points else ""


def plane(values: np.ndarray) -> tuple[np.ndarray | None, str]:
    """Points in the plane, (n, 2), by t-SNE on the principal components; the same every time."""
    spread = values.std(0)
    values = values[:, spread > 0]
    if not values.shape[1] or not np.isfinite(values).all():
        return None, ""
    dimensions = min(PCA_DIMENSIONS, *values.shape)
    reduced = PCA(dimensions, svd_solver="full" if values.shape[1] <= 2000 else "randomized", random_state=0)
    components = reduced.fit_transform(values)
    if dimensions < 3:
        return np.pad(components, ((0, 0), (0, 2 - dimensions))), "PCA"
    # About as many neighbours as a point has of its kind: of few points fewer than the usual 30.
    perplexity = min(30.0, max(5.0, len(values) / 10), (len(values) - 1) / 3)
    # One thread: the sums of several come in any order, and t-SNE makes much of a last digit.
    with threadpool_limits(1, "openmp"):
        found: np.ndarray = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(components)
    return found, f"t-SNE (perplexity {perplexity:.0f}) of {dimensions} principal components"


def densest(points: np.ndarray) -> tuple[float, float]:
    """The point (of (n, 2)) whose nearest neighbours are nearest."""
    distances = np.sort(np.linalg.norm(points[:, None] - points, axis=2), axis=1)
    x, y = points[int(distances[:, : max(len(points) // 4, 2)].mean(1).argmin())]
    return float(x), float(y)
