"""The results of `benchmarks/accuracy/accuracy.py` as a table and as a plot of accuracy against time."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fusion_classifier.errors import DataError
from fusion_classifier.evaluation.predictions import read_predictions
from fusion_classifier.evaluation.significance import compare, p_text
from fusion_classifier.support.files import atomic_file

SPLITS = {"valid": "validation", "test": "test"}
SCORES = {"accuracy": "accuracy", "weighted_f1": "weighted F1", "macro_f1": "macro F1", "ece": "ECE"}
SECONDS = ("extract", "search", "train", "infer", "infer_from_text")


@dataclass(frozen=True)
class Difference:
    """Accuracy of the main system minus that of another, with a paired bootstrap over texts."""

    value: float
    ci95: tuple[float, float] | None
    p: float | None


@dataclass(frozen=True)
class Row:
    """One system on one split. `scores` has one value per seed by metric; empty if a metric does not apply."""

    task: str
    split: str
    system: str
    title: str
    seeds: tuple[int, ...]
    one_seed: str
    scores: dict[str, tuple[float, ...]]
    seconds: dict[str, float]
    extract_how: str
    peak_mb: float
    hyperparameters: dict[str, Any]
    notes: tuple[str, ...]
    difference: Difference | None

    @property
    def total_seconds(self) -> float:
        """Time from texts to a trained classifier: extraction, and training of the chosen setting."""
        return self.seconds["extract"] + self.seconds["train"]

    def figures(self) -> dict[str, Any]:
        """The row as plain JSON values."""
        scores = {
            metric: {"mean": statistics.mean(values), "std": _std(values), "values": values} if values else None
            for metric, values in self.scores.items()
        }
        return {
            "task": self.task,
            "split": self.split,
            "system": self.system,
            "title": self.title,
            "seeds": self.seeds,
            "one_seed": self.one_seed or None,
            "metrics": scores,
            "seconds": self.seconds | {"total": self.total_seconds},
            "extract_how": self.extract_how,
            "peak_mb": self.peak_mb,
            "hyperparameters": self.hyperparameters,
            "notes": self.notes,
            "difference_of_main_system": None
            if self.difference is None
            else {"accuracy": self.difference.value, "ci95": self.difference.ci95, "p": self.difference.p},
        }


def _std(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def read(out: Path, main_system: str) -> list[Row]:
    """The rows of all tasks and splits, best accuracy first.

    Raises:
        DataError: There are none, or they can't be in one table.
    """
    found: dict[tuple[str, str], list[Row]] = {}
    for task_folder in sorted(path for path in out.glob("*") if path.is_dir()):
        first: dict[str, Any] | None = None
        for folder in sorted(path for path in task_folder.glob("*") if any(path.glob("*/result.json"))):
            # A killed process may leave a folder with another name: only numbers are seeds.
            places = [path for path in folder.glob("*/result.json") if path.parent.name.isdecimal()]
            results = [json.loads(path.read_text("utf-8")) for path in places]
            results.sort(key=lambda result: result["seed"])
            first = first or results[0]
            if any(result["data"] != first["data"] for result in results):
                raise DataError(
                    f"{folder}: was run on other data or encoders than {first['system']}; keep one of the two there"
                )
            for split in SPLITS:
                if all(split in result["metrics"] for result in results):
                    row = _row(results, split, _difference(task_folder / main_system, folder, split))
                    found.setdefault((row.task, split), []).append(row)
    if not found:
        raise DataError(f"{out} contains no results of this benchmark; run it with --task first")
    for rows in found.values():
        rows.sort(key=lambda row: -statistics.mean(row.scores["accuracy"]))
    return [row for rows in found.values() for row in rows]


def _row(results: Sequence[dict[str, Any]], split: str, difference: Difference | None) -> Row:
    first = results[0]
    scores = {
        metric: tuple(r["metrics"][split][metric] for r in results if r["metrics"][split][metric] is not None)
        for metric in first["metrics"][split]
    }
    seconds = {name: statistics.mean(result["seconds"][name] for result in results) for name in SECONDS}
    # One seed searches for all seeds.
    seconds["search"] = max(result["seconds"]["search"] for result in results)
    return Row(
        task=first["task"],
        split=split,
        system=first["system"],
        title=first["title"],
        seeds=tuple(result["seed"] for result in results),
        one_seed=first["one_seed"],
        scores=scores,
        seconds=seconds,
        extract_how=first["seconds"]["extract_how"],
        peak_mb=max(result["peak_mb"] for result in results),
        hyperparameters=first["hyperparameters"],
        notes=tuple(dict.fromkeys(note for result in results for note in result["notes"])),
        difference=difference,
    )


def _difference(main: Path, other: Path, split: str) -> Difference | None:
    """Compare with the main system. None for itself, or without predictions."""
    if main == other or not (main / "predictions.parquet").is_file():
        return None
    a, b = (read_predictions(folder / "predictions.parquet") for folder in (main, other))
    if split not in a or split not in b:
        return None
    accuracy = compare(a[split], b[split]).metrics["accuracy"]
    return Difference(accuracy.difference, accuracy.ci95, accuracy.p)


# --- table -------------------------------------------------------------------------------------------------


def markdown(rows: Sequence[Row]) -> str:
    """One table per task and split."""
    groups = dict.fromkeys((row.task, row.split) for row in rows)
    return "\n\n".join(_table([row for row in rows if (row.task, row.split) == group]) for group in groups)


def _table(rows: Sequence[Row]) -> str:
    header = ["system", *SCORES.values(), "seeds", "extract s", "train s", "search s", "peak MB", "ours − it, p"]
    lines = [
        f"### {rows[0].task}, {SPLITS[rows[0].split]}",
        "",
        f"| {' | '.join(header)} |",
        "|---" + "|---:" * (len(header) - 1) + "|",
    ]
    lines += [f"| {' | '.join(_cells(row))} |" for row in rows]
    notes = [
        "Scores in %: mean ± standard deviation over seeds. ours − it: points of accuracy, 95% paired bootstrap "
        "interval over texts. Train: one seed at the chosen setting; search: the rest of the grid, once."
    ]
    single = dict.fromkeys(row.one_seed for row in rows if row.one_seed)
    for reason in single:
        names = ", ".join(row.system for row in rows if row.one_seed == reason)
        notes.append(f"One seed because it {reason}: {names}.")
    notes += [f"{row.system}: {note}." for row in rows for note in row.notes]
    estimated = [row.system for row in rows if "rate" in row.extract_how]
    if estimated:
        notes.append(
            "Features were in the store already and extraction is from a rate measured on this machine: "
            f"{', '.join(estimated)}."
        )
    return "\n".join([*lines, "", *(f"- {note}" for note in notes)])


def _cells(row: Row) -> list[str]:
    cells = [f"{row.title} (`{row.system}`)"]
    for metric in SCORES:
        values = row.scores[metric]
        mean = f"{100 * statistics.mean(values):.2f}" if values else "n/a"
        cells.append(mean + (f" ± {100 * _std(values):.2f}" if len(values) > 1 else ""))
    cells.append(str(len(row.seeds)))
    cells += [_seconds(row.seconds[name]) for name in ("extract", "train", "search")]
    cells.append(f"{row.peak_mb:,.0f}")
    cells.append(_against(row.difference))
    return cells


def _seconds(value: float) -> str:
    if value == 0:
        return "–"
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _against(difference: Difference | None) -> str:
    if difference is None:
        return "–"
    text = f"{100 * difference.value:+.1f}"
    if difference.ci95 is not None and difference.p is not None:
        low, high = difference.ci95
        text += f" [{100 * low:+.1f}, {100 * high:+.1f}], {p_text(difference.p)}"
    return text.replace("-", "−")


# --- plot --------------------------------------------------------------------------------------------------

# Okabe and Ito's colour-blind-safe palette; each family also has its own marker.
FAMILIES = {
    "fec": ("#0072B2", "o"),
    "published head": ("#D55E00", "s"),
    "same features": ("#009E73", "^"),
    "trains the encoder": ("#CC79A7", "D"),
    "texts only": ("#555555", "v"),
}
LABEL_GAP = 0.034  # minimum distance of two labels, as a share of the axis height


def family(system: str) -> str:
    """The family of a system."""
    if system.startswith("llmembed"):
        return "published head"
    if system.startswith(("setfit", "finetune")):
        return "trains the encoder"
    if system in ("majority", "tfidf"):
        return "texts only"
    return "same features" if system in ("lr", "svm", "knn") else "fec"


def plot(rows: Sequence[Row], path: Path) -> None:
    """Plot accuracy against seconds from texts to a trained classifier, one panel per task, on test if available."""
    groups: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        groups.setdefault(row.task, {}).setdefault(row.split, []).append(row)
    panels = [by_split.get("test") or by_split["valid"] for by_split in groups.values()]
    figure = Figure(figsize=(8.5, 6 * len(panels)), layout="constrained")
    for axes, panel in zip(np.atleast_1d(figure.subplots(len(panels), 1)), panels, strict=True):
        _panel(axes, panel)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, metadata={"Date": None} if path.suffix == ".svg" else None)


def _panel(axes: Any, rows: Sequence[Row]) -> None:
    points = [(max(row.total_seconds, 0.1), 100 * statistics.mean(row.scores["accuracy"]), row) for row in rows]
    # The majority label would compress all others into the upper end.
    shown = [point for point in points if point[2].system != "majority"] or points
    for x, y, row in shown:
        colour, marker = FAMILIES[family(row.system)]
        spread = 100 * _std(row.scores["accuracy"])
        axes.errorbar(x, y, yerr=spread or None, fmt=marker, color=colour, markersize=7, capsize=2, linewidth=1)
    axes.set_xscale("log")
    low, high = min(y for _, y, _ in shown), max(y for _, y, _ in shown)
    margin = max(0.08 * (high - low), 0.5)
    axes.set_ylim(low - margin, high + margin)
    left, right = min(x for x, _, _ in shown), max(x for x, _, _ in shown)
    axes.set_xlim(left / 1.5, right * (right / left) ** 0.3 * 2)  # space for the labels on the right
    _label(axes, shown)
    for name, (colour, marker) in FAMILIES.items():
        if any(family(row.system) == name for _, _, row in shown):
            axes.plot([], [], marker, color=colour, label=name)
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    axes.set_xlabel("seconds from texts to a trained classifier: extraction and training of one seed (log)")
    axes.set_ylabel("accuracy, %")
    without = [row for row in rows if row.system == "majority"]
    note = f" (majority label: {100 * statistics.mean(without[0].scores['accuracy']):.1f}%)" if without else ""
    axes.set_title(f"{rows[0].task}, {SPLITS[rows[0].split]}{note}")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _label(axes: Any, points: Sequence[tuple[float, float, Row]]) -> None:
    """Place a name next to each point, moved up or down to avoid overlap."""
    bottom, top = axes.get_ylim()
    gap = LABEL_GAP * (top - bottom)
    places: list[tuple[float, float]] = []
    for x, y, row in sorted(points, key=lambda point: -point[1]):
        height = y
        # Labels are about half a decade wide: only nearby ones can overlap.
        while any(abs(np.log10(x / other)) < 0.6 and abs(height - taken) < gap for other, taken in places):
            height -= gap / 4
        places.append((x, height))
        axes.annotate(
            row.system,
            (x, y),
            xytext=(x * 1.09, height),
            fontsize=9,
            va="center",
            color=FAMILIES[family(row.system)][0],
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": "#999999"} if height != y else None,
        )
