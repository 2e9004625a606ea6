"""Converts figures to pixel coordinates, for the report's template to draw as SVG."""

import numpy as np

from fusion_classifier.evaluation.figures.values import Axis, Chart, Line

CURVE_POINTS = 160  # per line; more are not visible


class Plot:
    """A chart with its size in pixels."""

    def __init__(self, chart: Chart, left: int = 48, right: int = 388, top: int = 12, bottom: int = 236) -> None:
        self.chart = chart
        self.left, self.right, self.top, self.bottom = left, right, top, bottom

    def x(self, value: float) -> float:
        """Return the pixel position of a value on the x axis."""
        return _pixel(self.chart.x, value, self.left, self.right)

    def y(self, value: float) -> float:
        """Return the pixel position of a value on the y axis."""
        return _pixel(self.chart.y, value, self.bottom, self.top)

    def path(self, line: Line) -> str:
        """Return a line as an SVG path."""
        n = len(line.x)
        shown = np.unique(np.linspace(0, n - 1, min(n, CURVE_POINTS)).round().astype(int))
        return "M" + "L".join(f"{self.x(line.x[i])},{self.y(line.y[i])}" for i in shown)


def _pixel(axis: Axis, value: float, start: int, end: int) -> float:
    return round(start + (float(value) - axis.low) / (axis.high - axis.low or 1.0) * (end - start), 1)
