"""Draws figures as PNG with matplotlib, which the extra `report` installs."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fusion_classifier.evaluation.figures.values import LABELLED_SHARE, Chart, Matrix, Ranking

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The light colours of the report (report.css).
COLOURS = ("#1f5fa8", "#d5741a", "#16866a", "#b4457f", "#4c9fcf", "#a98600", "#7a5bb5", "#6b7280")
RIGHT, WRONG = (0x1F, 0x5F, 0xA8), (0xBF, 0x50, 0x15)


def save_charts(charts: Sequence[Chart], path: Path) -> None:
    """Draw charts of lines side by side."""
    with _picture(path, 5.2 * len(charts), 4.0, len(charts)) as axes:
        for chart, ax in zip(charts, axes, strict=True):
            for line in chart.lines:
                name = None if line.dotted else line.name
                ax.plot(line.x, line.y, ":" if line.dotted else "-", color=COLOURS[line.colour], label=name)
                if line.dot:
                    ax.plot(*line.dot, "o", color=COLOURS[line.colour])
            ax.set_title(chart.title)
            ax.set_xlabel(chart.x.title)
            ax.set_ylabel(chart.y.title)
            ax.set_xticks(*_ticks(chart.x.ticks()))
            ax.set_yticks(*_ticks(chart.y.ticks()))
            ax.grid(alpha=0.3)
            ax.legend()


def save_matrix(matrix: Matrix, path: Path) -> None:
    """Draw a confusion matrix: right cells blue, wrong cells orange, a larger share darker."""
    n = len(matrix.names)
    pixels = np.full((n, n, 3), 255.0)
    side = max(4.5, 0.32 * n + 2)
    with _picture(path, side, side) as (ax,):
        for row, column, share, _ in matrix.cells():
            shade = share**0.5  # the root makes a few per cent visible
            pixels[row, column] += shade * (np.array(RIGHT if row == column else WRONG) - 255)
            if share >= LABELLED_SHARE:
                colour = "white" if shade > 0.6 else "black"
                ax.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=6)
        ax.imshow(pixels.round().astype(np.uint8))
        for edge in matrix.edges:
            ax.axhline(edge - 0.5, color="black", linewidth=0.5)
            ax.axvline(edge - 0.5, color="black", linewidth=0.5)
        ax.set_xticks(range(n), matrix.names, rotation=90)
        ax.set_yticks(range(n), matrix.names)
        ax.set_xlabel("predicted")
        ax.set_ylabel("true")
        ax.set_title(matrix.title)


def save_ranking(ranking: Ranking, path: Path) -> None:
    """Draw values by name."""
    rows, count = np.arange(len(ranking.names)), len(ranking.series)
    with _picture(path, 8.0, max(2.5, 0.3 * len(rows) * max(1.0, 0.8 * count) + 1.2)) as (ax,):
        for i, series in enumerate(ranking.series):
            if series.intervals is None:
                ax.barh(rows, series.values, color=COLOURS[0])
                ax.set_xlim(0, 100)
                continue
            y = rows + (i - (count - 1) / 2) * 0.7 / count
            spread = np.abs(series.intervals.T - series.values)
            ax.errorbar(series.values, y, xerr=spread, fmt="o", color=COLOURS[i % 8], capsize=2, label=series.name)
            for value, place in zip(series.values, y, strict=True):
                if np.isfinite(value):
                    at = (value, place)
                    ax.annotate(f"{value:.1f}", at, (0, 4), textcoords="offset points", ha="center", fontsize=7)
        ax.set_yticks(rows, ranking.names)
        ax.invert_yaxis()
        ax.set_xlabel(ranking.axis)
        ax.set_title(ranking.title)
        ax.grid(alpha=0.3, axis="x")
        if ax.get_legend_handles_labels()[1]:
            ax.legend(loc="upper left", bbox_to_anchor=(1, 1))


@contextmanager
def _picture(path: Path, width: float, height: float, columns: int = 1) -> Iterator[Sequence["Axes"]]:
    """Yield axes side by side, `width` by `height` inches in all, and write them to a file."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    yield axes
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    with warnings.catch_warnings():  # labels without a glyph, or too long for the page
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(path, dpi=150)


def _ticks(ticks: Sequence[tuple[float, str]]) -> tuple[list[float], list[str]]:
    return [value for value, _ in ticks], [text for _, text in ticks]
