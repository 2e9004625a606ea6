"""Draws figures as PNG with matplotlib (extra `report`)."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fusion_classifier.evaluation.figures.values import LABELLED_SHARE, Chart, Figure, Matrix, Ranking

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The report's light colours (report.css).
COLOURS = ("#1f5fa8", "#d5741a", "#16866a", "#b4457f", "#4c9fcf", "#a98600", "#7a5bb5", "#6b7280")
# Of other scripts than Latin, Greek and Cyrillic: of Linux, macOS and Windows.
OTHER_FONTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans JP", "Noto Sans SC", "Noto Sans KR", "Noto Sans Arabic",
    "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai", "Hiragino Sans", "PingFang SC",
    "Apple SD Gothic Neo", "Geeza Pro", "Arial Unicode MS", "WenQuanYi Zen Hei", "IPAGothic", "Yu Gothic",
    "Microsoft YaHei", "Malgun Gothic", "Nirmala UI", "Leelawadee UI", "Segoe UI",
)  # fmt: skip
RIGHT, WRONG = (0x1F, 0x5F, 0xA8), (0xBF, 0x50, 0x15)


def save(figure: Figure, path: Path) -> None:
    """Draw a figure; charts side by side."""
    if isinstance(figure, Matrix):
        side = max(4.5, 0.32 * len(figure.names) + 2)
        with _picture(path, side, side) as (ax,):
            _draw_matrix(ax, figure)
    elif isinstance(figure, Ranking):
        height = 0.3 * len(figure.names) * max(1.0, 0.8 * len(figure.values)) + 1.2
        with _picture(path, 8.0, max(2.5, height)) as (ax,):
            _draw_ranking(ax, figure)
    else:
        with _picture(path, 5.2 * len(figure), 4.0, len(figure)) as axes:
            for ax, chart in zip(axes, figure, strict=True):
                _draw_chart(ax, chart)


def _draw_chart(ax: "Axes", chart: Chart) -> None:
    for line in chart.lines:
        label = None if line.dotted else line.name
        ax.plot(line.x, line.y, ":" if line.dotted else "-", color=COLOURS[line.colour], label=label)
        if line.dot:
            ax.plot(*line.dot, "o", color=COLOURS[line.colour])
    ax.set_title(chart.title)
    ax.set_xlabel(chart.x.title)
    ax.set_ylabel(chart.y.title)
    ax.set_xticks(*zip(*chart.x.ticks(), strict=True))
    ax.set_yticks(*zip(*chart.y.ticks(), strict=True))
    ax.grid(alpha=0.3)
    ax.legend()


def _draw_matrix(ax: "Axes", matrix: Matrix) -> None:
    """Draw correct cells in blue and wrong cells in orange, larger shares darker."""
    n = len(matrix.names)
    pixels = np.full((n, n, 3), 255.0)
    for row, column, share, _ in matrix.cells():
        shade = share**0.5  # the square root makes a few per cent visible
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


def _draw_ranking(ax: "Axes", ranking: Ranking) -> None:
    rows, count = np.arange(len(ranking.names)), len(ranking.values)
    for i, (name, values) in enumerate(ranking.values.items()):
        if name not in ranking.intervals:
            ax.barh(rows, values, color=COLOURS[i % len(COLOURS)])
            ax.set_xlim(0, 100)
            continue
        places = rows + (i - (count - 1) / 2) * 0.7 / count
        spread = np.abs(ranking.intervals[name].T - values)
        ax.errorbar(values, places, xerr=spread, fmt="o", color=COLOURS[i % len(COLOURS)], capsize=2, label=name)
        for at in zip(values, places, strict=True):
            if np.isfinite(at[0]):
                ax.annotate(f"{at[0]:.1f}", at, (0, 4), textcoords="offset points", ha="center", fontsize=7)
    ax.set_yticks(rows, ranking.names)
    ax.invert_yaxis()
    ax.set_xlabel(ranking.axis)
    ax.set_title(ranking.title)
    ax.grid(alpha=0.3, axis="x")
    if ranking.intervals:
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))


@contextmanager
def _picture(path: Path, width: float, height: float, columns: int = 1) -> Iterator[Sequence["Axes"]]:
    """Yield axes side by side, `width` by `height` inches in total, and write them to a file."""
    from matplotlib import rc_context  # noqa: PLC0415 - an extra
    from matplotlib.figure import Figure  # noqa: PLC0415

    with rc_context({"font.family": fonts()}):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)[0]
        yield axes
        for ax in axes:
            ax.spines[["top", "right"]].set_visible(False)
        with warnings.catch_warnings():  # labels without a glyph, or too long for the page
            warnings.simplefilter("ignore", UserWarning)
            figure.savefig(path, dpi=150)


def fonts() -> list[str]:
    """The font of matplotlib, and fonts on this machine for scripts that it lacks, such as Japanese."""
    from matplotlib.font_manager import fontManager  # noqa: PLC0415 - an extra

    here = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in OTHER_FONTS if name in here)]
