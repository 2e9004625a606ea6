"""Tables and plots for `learning_curve.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from curve_data import DATASETS, SIZES, key_of
from curve_rows import PROCESSOR, read_rows
from scipy import stats

FIVE_LINES = ("lr-1", "lr-10", "lr-100")
BEST_C = "lr"
TRAINED = ("setfit", "finetune")
TITLES = {
    "lr": "five lines, best C",
    "lr-1": "five lines, C = 1",
    "lr-10": "five lines, C = 10",
    "lr-100": "five lines, C = 100",
    "svm": "linear SVM",
    "knn": "k nearest neighbours",
    "tfidf": "TF-IDF + logistic regression",
    "static": "static embeddings",
    "setfit": "SetFit",
    "finetune": "full fine-tuning",
}
MARGIN = 0.5  # maximum loss of the main system at a point, in points of accuracy


@dataclass(frozen=True)
class Point:
    """Figures of a system at one size of a data set, by draw. `rows` is the mean number of training rows."""

    rows: float
    whole: bool  # whether the size is "all", where every draw has the same rows
    accuracy: Mapping[int, float]  # in %
    macro_f1: Mapping[int, float]  # in %
    ece: Mapping[int, float]  # in %; empty for a system without probabilities
    seconds: Mapping[int, float]  # training time; empty for runs on other machines than `learning_curve.py`'s
    extract: Mapping[int, float]  # extraction time of the training rows


@dataclass(frozen=True)
class Difference:
    """Main minus other, in points of accuracy, over the draws of both, with a paired t-test for several draws."""

    value: float
    half_width: float | None
    p: float | None
    draws: int

    def __str__(self) -> str:
        if self.half_width is None or self.p is None:
            return f"{self.value:+.1f}"
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return f"{self.value:+.1f} [{self.value - self.half_width:+.1f}, {self.value + self.half_width:+.1f}], {p}"


Key = tuple[str, str]  # data set and size
Points = dict[Key, dict[str, Point]]  # by system


def read(file: Path) -> list[dict[str, Any]]:
    """The rows of a file, which must exist and not be empty."""
    rows = read_rows(file)
    if not rows:
        raise ValueError(f"{file} has no rows of learning curves")
    return rows


def gather(rows: Sequence[Mapping[str, Any]], split: str) -> Points:
    """The rows of a split by data set, size and system; the last one per key, with seconds from a CPU.

    "lr" is added: at each point the C, and with several encoders the vectors, with the best mean accuracy there,
    chosen in its favour.
    """
    here = {key_of(row): row for row in rows if row.get("machine") == PROCESSOR}
    timed = ("train_seconds", "extract_seconds")
    last = {
        key_of(row): {**row, **{field: here.get(key_of(row), {}).get(field) for field in timed}}
        for row in rows
        if row["split"] == split
    }
    if not last:
        raise ValueError(f"no row of the split {split}")
    found: dict[Key, dict[str, list[Mapping[str, Any]]]] = {}
    drawn: dict[tuple[str, str, int], object] = {}
    for row in last.values():
        of_draw = str(row["dataset"]), str(row["n"]), int(row["draw"])
        if "drawn" in row and drawn.setdefault(of_draw, row["drawn"]) != row["drawn"]:
            raise ValueError(f"{row['system']} was trained on other rows of {of_draw} than the systems before it")
        found.setdefault((str(row["dataset"]), str(row["n"])), {}).setdefault(str(row["system"]), []).append(row)
    points = {key: {name: _point(of) for name, of in systems.items()} for key, systems in found.items()}
    for systems in points.values():
        lines = [point for name, point in systems.items() if _plain(name) in FIVE_LINES]
        if lines:
            systems[BEST_C] = max(lines, key=lambda point: mean(point.accuracy))
    return dict(sorted(points.items(), key=lambda item: _order(item[0])))


def _point(rows: Sequence[Mapping[str, Any]]) -> Point:
    def by_draw(field: str, scale: float) -> dict[int, float]:
        return {int(row["draw"]): scale * float(row[field]) for row in rows if row.get(field) is not None}

    return Point(
        float(np.mean([row["rows"] for row in rows])),
        all(row["n"] == "all" for row in rows),
        by_draw("accuracy", 100),
        by_draw("macro_f1", 100),
        by_draw("ece", 100),
        by_draw("train_seconds", 1),
        by_draw("extract_seconds", 1),
    )


def _order(key: Key) -> tuple[int, str, float]:
    sizes = [str(size) for size in SIZES]
    dataset = DATASETS.index(key[0]) if key[0] in DATASETS else len(DATASETS)
    return dataset, key[0], float("inf") if key[1] == sizes[-1] else float(key[1])


def mean(values: Mapping[int, float]) -> float:
    """Over draws."""
    return float(np.mean(list(values.values())))


def deviation(values: Mapping[int, float]) -> float:
    """Standard deviation (n − 1) over draws; 0 for a single draw."""
    return float(np.std(list(values.values()), ddof=1)) if len(values) > 1 else 0.0


def difference(main: Point, other: Point) -> Difference:
    """Main minus other over common draws; a system that was trained once, on all rows, counts for each draw."""
    accuracy = other.accuracy
    if len(accuracy) == 1 and other.whole:
        accuracy = dict.fromkeys(main.accuracy, mean(accuracy))
    draws = sorted(set(main.accuracy) & set(accuracy))
    if not draws:
        return Difference(mean(main.accuracy) - mean(other.accuracy), None, None, 0)
    values = np.array([main.accuracy[draw] - accuracy[draw] for draw in draws])
    if len(draws) < 2:
        return Difference(float(values.mean()), None, None, len(draws))
    error = float(values.std(ddof=1)) / len(values) ** 0.5
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    p = 1.0 if not values.any() else 0.0 if error == 0 else float(stats.ttest_1samp(values, 0).pvalue)
    return Difference(float(values.mean()), half, p, len(draws))


def best_peer(systems: Mapping[str, Point], main: str) -> str | None:
    """The most accurate of the other systems with a frozen encoder: peers and other heads."""
    others = {
        name: point for name, point in systems.items() if name != main and _plain(name) not in (*TRAINED, *FIVE_LINES)
    }
    return max(others, key=lambda name: mean(others[name].accuracy)) if others else None


def _plain(system: str) -> str:
    """A system's name without its encoder."""
    return system.partition("@")[0]


def _title(system: str) -> str:
    """A system's name in tables and plots, with its encoder if it has one of several."""
    plain, _, encoder = system.partition("@")
    return TITLES.get(plain, f"`{plain}`") + (f", {encoder}" if encoder else "")


def tables(points: Points, main: str) -> str:
    """All tables, Markdown."""
    parts = []
    datasets = list(dict.fromkeys(dataset for dataset, _ in points))
    for dataset in datasets:
        of_set = {size: systems for (name, size), systems in points.items() if name == dataset}
        for title, field in (
            ("accuracy, %", "accuracy"),
            ("macro F1, %", "macro_f1"),
            ("ECE, %", "ece"),
            ("training, s", "seconds"),
        ):
            parts.append(_table(f"{dataset}: {title}, mean ± standard deviation over draws", of_set, field, main))
    parts += [_against(points, main), _times(points, main)]
    return "\n\n".join(part for part in parts if part)


def _table(title: str, of_set: Mapping[str, Mapping[str, Point]], field: str, main: str) -> str:
    systems = sorted({name for found in of_set.values() for name in found}, key=lambda name: (name != main, name))
    heads = [f"{size} ({max(point.rows for point in found.values()):,.0f} rows)" for size, found in of_set.items()]
    lines = [f"**{title}**", "", "| | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for name in systems:
        cells = []
        for found in of_set.values():
            values = getattr(found[name], field) if name in found else {}
            digits = 2 if field == "seconds" else 1
            several = f" ± {deviation(values):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.{digits}f}{several}" if values else "–")
        shown = _title(name)
        lines.append(f"| {f'**{shown}**' if name == main else shown} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _against(points: Points, main: str) -> str:
    """Compare the main system with the best of the others at every point, and with each that trains the encoder."""
    lines = [
        f"**`{main}` minus others, points of accuracy, with the 95% interval of a paired t-test over draws**",
        "",
        "| data set | rows per class | best other | − it | − five lines, best C | − SetFit | − fine-tuning |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    found: dict[str, list[Difference]] = {}
    for (dataset, size), systems in points.items():
        if main not in systems:
            continue
        best = best_peer(systems, main)
        cells = []
        for column, name in (("best", best), (BEST_C, BEST_C), *((name, name) for name in TRAINED)):
            if name is None or name not in systems:
                cells.append("–")
                continue
            found.setdefault(column, []).append(difference(systems[main], systems[name]))
            cells.append(str(found[column][-1]))
        shown = "–" if best is None else f"{_title(best)} {mean(systems[best].accuracy):.1f}"
        lines.append(f"| {dataset} | {size} | {shown} | " + " | ".join(cells) + " |")
    lines.append("")
    titles = {"best": "the best other"} | {name: TITLES[name] for name in (BEST_C, *TRAINED)}
    for column, of in found.items():
        values = [one.value for one in of]
        below = sum(value < -MARGIN for value in values)
        lines.append(
            f"Against {titles[column]}: {np.mean(values):+.2f} points on average over {len(values)} points, lowest "
            f"{min(values):+.1f}; {below} of them more than {MARGIN} below."
        )
    return "\n".join(lines)


def _times(points: Points, main: str) -> str:
    """Training time of SetFit and fine-tuning relative to the main system, on the same CPU."""
    lines = []
    for name in TRAINED:
        plain, extracted = [], []
        for systems in points.values():
            if main not in systems or name not in systems:
                continue
            ours, theirs = systems[main], systems[name]
            for draw in set(ours.seconds) & set(theirs.seconds):
                plain.append(theirs.seconds[draw] / max(ours.seconds[draw], 1e-3))
                extracted.append(theirs.seconds[draw] / max(ours.seconds[draw] + ours.extract.get(draw, 0.0), 1e-3))
        if plain:
            lines.append(
                f"{TITLES[name]} takes {np.median(plain):.0f} times the training seconds of `{main}`, "
                f"{np.median(extracted):.0f} times with its features' extraction ({min(extracted):.0f} to "
                f"{max(extracted):.0f}; {len(plain)} trainings on one processor)."
            )
    return "\n".join(lines)


def plot(points: Points, main: str, folder: Path, ending: str) -> None:
    """Two plots per data set, accuracy and training seconds against training rows, and one of all accuracies."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - of the extra `report`

    folder.mkdir(parents=True, exist_ok=True)
    sets = {
        dataset: [systems for (name, _), systems in points.items() if name == dataset]
        for dataset in dict.fromkeys(dataset for dataset, _ in points)
    }
    systems = sorted({name for found in points.values() for name in found if _plain(name) not in FIVE_LINES})
    systems.sort(key=lambda name: name == main)  # drawn last, above the others
    figure = Figure(figsize=(11, 5), layout="constrained")
    panels = figure.subplots(2, -(-(len(sets) + 1) // 2)).ravel()
    for axes, (dataset, of_set) in zip(panels, sets.items(), strict=False):
        _draw(axes, of_set, "accuracy", "accuracy, %", dataset, main, systems)
    for axes in panels[len(sets) :]:
        axes.axis("off")
    shown = {title: line for axes in panels for line, title in zip(*axes.get_legend_handles_labels(), strict=True)}
    panels[len(sets)].legend(shown.values(), shown.keys(), frameon=False, loc="center")
    figure.savefig(folder / f"learning-curves.{ending}", metadata=_undated(ending))
    for dataset, of_set in sets.items():
        for field, label, stem in (
            ("accuracy", "accuracy, %", "accuracy"),
            ("seconds", "training, s (features ready)", "seconds"),
        ):
            figure = Figure(figsize=(7, 4.2), layout="constrained")
            axes = figure.subplots()
            _draw(axes, of_set, field, label, dataset, main, systems)
            axes.legend(fontsize="small", frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
            figure.savefig(folder / f"learning-curve-{dataset}-{stem}.{ending}", metadata=_undated(ending))


def _undated(ending: str) -> dict[str, None]:
    return {"Date": None} if ending == "svg" else {}


def _draw(
    axes: Any,
    of_set: Sequence[Mapping[str, Point]],
    field: str,
    label: str,
    dataset: str,
    main: str,
    systems: Sequence[str],
) -> None:
    for number, name in enumerate(systems):
        of = [found[name] for found in of_set if name in found and getattr(found[name], field)]
        if not of:
            continue
        x = np.array([point.rows for point in of])
        y = np.array([mean(getattr(point, field)) for point in of])
        spread = np.array([deviation(getattr(point, field)) for point in of])
        color = "black" if name == main else f"C{number % 10}"
        title = _title(name) if _plain(name) in TITLES else f"head {name}"
        axes.plot(x, y, marker="o", markersize=3.5, linewidth=2.4 if name == main else 1.2, color=color, label=title)
        low = np.maximum(y - spread, 1e-3) if field == "seconds" else y - spread
        axes.fill_between(x, low, y + spread, color=color, alpha=0.13, linewidth=0)
    axes.set_xscale("log")
    ticks = sorted({round(max(point.rows for point in found.values())) for found in of_set})
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_xticks([], minor=True)
    if field == "seconds":
        axes.set_yscale("log")
    axes.set(title=dataset, xlabel="training rows", ylabel=label)
    axes.grid(alpha=0.3, linewidth=0.4)
