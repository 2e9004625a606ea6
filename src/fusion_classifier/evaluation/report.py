"""The report of a run: everything that its page shows, as plain values, and the page itself.

`page` fills `report.html.j2` with what these functions give: one HTML file that needs nothing beside it. Metrics come
from `metrics.json`; only what a picture needs beyond them is computed here, from the stored predictions.
"""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve

from fusion_classifier.evaluation import per_class
from fusion_classifier.evaluation.charts import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Axis,
    Chart,
    Line,
    axis,
    densest,
    path_of,
    plane,
)
from fusion_classifier.evaluation.label_order import LabelOrder, by_confusion, by_tree
from fusion_classifier.evaluation.metrics import reliability
from fusion_classifier.evaluation.predictions import SplitPredictions
from fusion_classifier.evaluation.selective import at_coverages, risk_coverage
from fusion_classifier.tables import METRIC_TITLES, NOT_PERCENT, size

FOLDER = Path(__file__).parent
SHORT_TITLES = {"nll": "NLL", "ece": "ECE", "top3_accuracy": "top-3", "map": "mAP", "subset_accuracy": "all right"}
PAIRS, EXAMPLES, MISTAKES = 12, 2, 12  # shown: confused pairs, texts of each, confident mistakes
TEXT_LENGTH, HOVER_LENGTH = 280, 110  # characters of a text that are shown
MAP_WIDTH = 760  # pixels
MAP_TEXTS = 1500  # more points hide each other, and t-SNE takes long
MOST_COLOURS = 8
LABELLED_CELLS = 0.095  # shares of a true label from which a cell of the confusion matrix has its number
FEWEST_ANSWERED = 20  # texts: an accuracy of fewer says nothing


@dataclass(frozen=True)
class RunRecord:
    """All that a run folder says of itself, and what was found beside it.

    `config`: config.yaml; `metrics`: metrics.json; `seeds`: each seed's training.json; `part`: predictions of the
    reported split; `names` of the C labels; `texts` by hash, None where they are left out, with the reason in
    `no_texts`; `model_seed`: the seed of the saved model.
    """

    folder: str
    date: str
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    seeds: Mapping[int, Mapping[str, Any]]
    part: SplitPredictions
    names: Sequence[str]
    texts: Mapping[str, str] | None = None
    no_texts: str = ""
    label_tree: Sequence[tuple[str, str]] = ()
    model_seed: int | None = None

    @property
    def multilabel(self) -> bool:
        """Whether a text may have any number of labels."""
        return self.part.labels.ndim == 2

    @property
    def mean(self) -> np.ndarray:
        """Probabilities, mean over seeds: (N, C)."""
        mean: np.ndarray = np.mean(list(self.part.by_seed.values()), axis=0)
        return mean

    def text(self, row: int, length: int = TEXT_LENGTH) -> str | None:
        """A text of the split for the eye: white space as single spaces, cut where it is long."""
        found = None if self.texts is None else self.texts.get(self.part.hashes[row])
        if found is None:
            return None
        shown = " ".join(found[: 4 * length].split())
        return shown if len(shown) <= length else shown[: length - 1].rstrip() + "…"


# --- parts of the page --------------------------------------------------------------------------------------


def results(run: RunRecord) -> dict[str, Any]:
    """The table of metrics by split, and the values of each seed."""
    metrics, split = run.metrics, run.part.split
    columns = {"validation": metrics["valid"]}
    if metrics.get("test") is not None:
        columns["test"] = metrics["test"]
    if metrics.get("test_without_overlap") is not None:
        columns["test without overlap"] = metrics["test_without_overlap"]
    there = [name for name in METRIC_TITLES if name in metrics[split]]
    rows = [
        {"title": METRIC_TITLES[name], "cells": [figure(name, column[name]) for column in columns.values()]}
        for name in there
    ]
    sizes = metrics.get("rows", {})
    counts = [sizes.get("valid"), sizes.get("test"), sizes.get("test_without_overlap")][: len(columns)]
    by_seed = [
        {
            "seed": seed,
            "cells": [figure(name, {"mean": metrics[split][name]["values"][i]})["mean"] for name in there],
            "epoch": metrics.get("best_epochs", {}).get(str(seed)),
            "temperature": metrics.get("temperatures", {}).get(str(seed)),
            "beta": metrics.get("betas", {}).get(str(seed)),
        }
        for i, seed in enumerate(metrics["seeds"])
    ]
    return {
        "columns": list(zip(columns, counts, strict=True)),
        "rows": rows,
        "by_seed": by_seed,
        "titles": [SHORT_TITLES.get(name, METRIC_TITLES[name]) for name in there],
    }


def figure(metric: str, values: Mapping[str, Any]) -> dict[str, str | None]:
    """Mean, standard deviation and interval of a metric as they are shown: in % but for log-likelihood."""
    scale, digits = (1, 3) if metric in NOT_PERCENT else (100, 2)
    several = len(values.get("values", ())) > 1
    low, high = (scale * end for end in values.get("ci95", (math.nan, math.nan)))
    return {
        "mean": f"{scale * values['mean']:.{digits}f}",
        "std": f"{scale * values['std']:.{digits}f}" if several else None,
        "interval": f"{low:.1f}–{high:.1f}" if "ci95" in values else None,
    }


def headline(run: RunRecord) -> list[dict[str, Any]]:
    """The figures that come first."""
    metrics = run.metrics[run.part.split]
    chosen = (
        ("macro_f1", "micro_f1", "map", "ece") if run.multilabel else ("accuracy", "weighted_f1", "macro_f1", "ece")
    )
    return [{"title": METRIC_TITLES[name], **figure(name, metrics[name])} for name in chosen if name in metrics]


def commonest(run: RunRecord) -> dict[str, Any]:
    """The label with the most texts, and how many of them have it: what guessing would reach."""
    labels = run.part.labels
    counts = labels.sum(0) if run.multilabel else np.bincount(labels, minlength=len(run.names))
    best = int(counts.argmax())
    return {"label": run.names[best], "share": float(counts[best] / max(len(labels), 1))}


def label_rows(run: RunRecord, order: LabelOrder) -> list[dict[str, Any]]:
    """Each label's precision, recall, F1 and support, best F1 first; multi-label: threshold, average precision."""
    split = run.part.split
    table = run.metrics.get("per_class", {}).get(split) or per_class(run.part, run.names)
    cuts = thresholds(run)
    rows = []
    for i, name in enumerate(run.names):
        row = {"name": name, "group": order.groups[i] % MOST_COLOURS, **table[name], "threshold": None, "ap": None}
        if run.multilabel:
            truth = run.part.labels[:, i]
            row["threshold"] = float(np.mean(cuts[:, i])) if len(cuts) else None
            row["ap"] = (
                float(np.mean([average_precision_score(truth, p[:, i]) for p in run.part.by_seed.values()]))
                if truth.any()
                else None
            )
        rows.append(row)
    return sorted(rows, key=lambda row: (-row["f1"], row["name"]))


def thresholds(run: RunRecord) -> np.ndarray:
    """Thresholds of each seed, (S, C); of a run with one label a text none."""
    found = [(record.get("decision") or {}).get("thresholds") for record in run.seeds.values()]
    return np.array([one for one in found if one is not None], dtype=np.float64)


def precision_recall(run: RunRecord) -> list[dict[str, Any]]:
    """The precision–recall curve (mean of the seeds' probabilities) of each label that texts have, in 120 by 84."""
    x, y = Axis(0, 1, 4, 116, "recall"), Axis(0, 1, 80, 4, "precision")
    mean, found = run.mean, []
    table = {row["name"]: row for row in label_rows(run, order_of(run))}
    for i, name in enumerate(run.names):
        truth = run.part.labels[:, i]
        if not truth.any():
            continue
        # The last point, precision 1 at recall 0, belongs to no threshold.
        precision, recall = (one[:-1] for one in precision_recall_curve(truth, mean[:, i])[:2])
        row = table[name]
        found.append(
            {
                "name": name,
                "path": path_of(x, y, recall[::-1], precision[::-1]),
                "dot": (x.at(row["recall"]), y.at(row["precision"])),
                "base": y.at(float(truth.mean())),
                **row,
            }
        )
    return found


def counts_of(run: RunRecord) -> np.ndarray:
    """The confusion matrix, true labels in rows, mean over seeds: (C, C)."""
    classes = np.arange(len(run.names))
    found: np.ndarray = np.mean(
        [confusion_matrix(run.part.labels, one, labels=classes) for one in run.part.answers.values()], axis=0
    )
    return found


def shares_of(counts: np.ndarray) -> np.ndarray:
    """The same as shares of each true label; a label without a text has a row of zeros."""
    shares: np.ndarray = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return shares


def order_of(run: RunRecord) -> LabelOrder:
    """The labels by their tree where there is one, else by what is confused or, multi-label, predicted together."""
    found = by_tree(run.names, run.label_tree) if run.label_tree else None
    if found is not None:
        return found
    if not run.multilabel:
        return by_confusion(shares_of(counts_of(run)))
    together = run.mean.T @ run.mean
    norm = np.sqrt(np.maximum(together.diagonal(), 1e-12))
    return by_confusion(np.clip(together / np.outer(norm, norm), 0, 1))


def confusion(run: RunRecord, order: LabelOrder) -> dict[str, Any]:
    """The confusion matrix to draw: cells with a share above zero, labels in order, lines between groups."""
    counts, n = counts_of(run), len(run.names)
    shares = shares_of(counts)
    cell = 34 if n <= 14 else 22 if n <= 40 else 12 if n <= 80 else 6
    position = {label: place for place, label in enumerate(order.order)}
    cells = []
    for true, predicted in zip(*np.nonzero(counts), strict=True):
        share = float(shares[true, predicted])
        cells.append(
            {
                "row": position[int(true)],
                "column": position[int(predicted)],
                "hit": bool(true == predicted),
                # The root, so that a few per cent can be seen.
                "opacity": round(math.sqrt(share), 2),
                "number": f"{100 * share:.0f}" if share >= LABELLED_CELLS and cell >= 22 else "",
                "true": run.names[int(true)],
                "predicted": run.names[int(predicted)],
                "share": share,
                "count": float(counts[true, predicted]),
            }
        )
    names = [run.names[i] for i in order.order]
    groups = [order.groups[i] for i in order.order]
    edges = [place for place in range(1, n) if groups[place] != groups[place - 1]]
    return {
        "cells": cells,
        "names": [name if len(name) <= 18 else name[:17] + "…" for name in names],
        "full": names,
        "support": [float(counts[i].sum()) for i in order.order],
        "edges": edges if len(edges) < n - 1 else [],
        "cell": cell,
        "side": n * cell,
        "margin": min(16 + int(6.6 * min(max(map(len, names)), 18)), 140),
        "fewest": LABELLED_CELLS,
    }


def confused_pairs(run: RunRecord) -> list[dict[str, Any]]:
    """The pairs of true and predicted label with the most texts (mean over seeds), with the clearest examples."""
    counts, mean = counts_of(run), run.mean
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    flat = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    given = np.stack(list(run.part.answers.values()))  # (S, N)
    found = []
    for true, predicted in (np.unravel_index(one, wrong.shape) for one in flat):
        if not wrong[true, predicted]:
            break
        rows = np.flatnonzero((run.part.labels == true) & (given == predicted).any(0))
        rows = rows[np.argsort(-mean[rows, predicted], kind="stable")]
        # A text may stand there more than once.
        distinct: dict[str, float] = {}
        for row in rows:
            text = run.text(int(row))
            if text is not None and len(distinct) < EXAMPLES:
                distinct.setdefault(text, float(mean[row, predicted]))
        found.append(
            {
                "true": run.names[true],
                "predicted": run.names[predicted],
                "count": float(counts[true, predicted]),
                "support": float(counts[true].sum()),
                "share": float(counts[true, predicted] / counts[true].sum()),
                "back": float(counts[predicted, true]),
                "examples": [{"text": text, "p": p} for text, p in distinct.items()],
            }
        )
    return found


def confident_mistakes(run: RunRecord) -> list[dict[str, Any]]:
    """The texts on which the mean of the seeds' probabilities is wrong and surest of it.

    In a multi-label task: pairs of text and label whose probability is farthest from the truth.
    """
    mean, labels = run.mean, run.part.labels
    found: list[dict[str, Any]] = []
    if run.multilabel:
        gap = np.abs(mean - labels)
        seen: set[int] = set()
        for flat in np.argsort(-gap, axis=None, kind="stable"):
            row, label = (int(i) for i in np.unravel_index(flat, gap.shape))
            if len(found) == MISTAKES or gap[row, label] < 0.5:
                break
            if row in seen:
                continue
            seen.add(row)
            true = [run.names[int(i)] for i in np.flatnonzero(labels[row])]
            found.append(
                {
                    "text": run.text(row),
                    "true": ", ".join(true) or "no label",
                    "predicted": ("" if not labels[row, label] else "not ") + run.names[label],
                    "p": float(mean[row, label] if not labels[row, label] else 1 - mean[row, label]),
                    "p_true": None,
                    "row": row,
                }
            )
        return found
    answers = mean.argmax(1)
    wrong = np.flatnonzero(answers != labels)
    for row in wrong[np.argsort(-mean[wrong, answers[wrong]], kind="stable")][:MISTAKES]:
        found.append(
            {
                "text": run.text(int(row)),
                "true": run.names[int(labels[row])],
                "predicted": run.names[int(answers[row])],
                "p": float(mean[row, answers[row]]),
                "p_true": float(mean[row, labels[row]]),
                "row": int(row),
            }
        )
    return found


def reliability_chart(run: RunRecord) -> Chart:
    """How often predictions come true against their probability, of all seeds together, with their numbers below."""
    labels, seeds = run.part.labels, list(run.part.by_seed.values())
    if run.multilabel:
        hits = np.concatenate([labels.ravel() == 1 for _ in seeds])
        confidence = np.concatenate([p.ravel() for p in seeds])
    else:
        hits = np.concatenate([p.argmax(1) == labels for p in seeds])
        confidence = np.concatenate([p.max(1) for p in seeds])
    x = axis(0, 100, LEFT, RIGHT, "probability of the label, %" if run.multilabel else "probability of the answer, %")
    y = axis(0, 100, TOP + 176, TOP, "came true, %" if run.multilabel else "right, %")
    bins = reliability(hits, confidence)
    most = max(one["count"] for one in bins)
    # A share of the predictions; in a multi-label task nearly all lie in the first bin, so by its logarithm.
    height = (lambda n: math.log1p(n) / math.log1p(most)) if run.multilabel else (lambda n: n / most)
    bars, strip = [], []
    for one in bins:
        if not one["count"]:
            continue
        left, width = x.at(100 * one["low"]) + 1, x.at(100 * one["high"]) - x.at(100 * one["low"]) - 2
        top = y.at(100 * one["accuracy"])
        tip = (
            f"{100 * one['low']:.0f} to {100 * one['high']:.0f} %: {one['count'] / len(seeds):,.0f} predictions, "
            f"mean probability {100 * one['confidence']:.1f} %, right {100 * one['accuracy']:.1f} %"
        )
        bars.append((left, top, round(width, 1), round(y.start - top, 1), tip))
        tall = round(34 * height(one["count"]), 1)
        strip.append((left, round(BOTTOM - tall, 1), round(width, 1), tall, tip))
    return Chart("Reliability", x, y, bars=tuple(bars), strip=tuple(strip), diagonal=True)


def risk_chart(run: RunRecord) -> tuple[Chart, float]:
    """Accuracy on the texts answered by their share, a line a seed, and the mean area under the risk curve."""
    curves = {seed: risk_coverage(run.part.labels, p) for seed, p in run.part.by_seed.items()}
    fewest = min(1.0, FEWEST_ANSWERED / len(run.part.labels))
    shown = {seed: curve.coverage >= fewest for seed, curve in curves.items()}
    lowest = min((100 * (1 - curve.risk[shown[seed]]).min() for seed, curve in curves.items()), default=0)
    x = axis(0, 100, LEFT, RIGHT, "texts answered, % (the surest first)")
    y = axis(max(0, 5 * math.floor(lowest / 5)), 100, BOTTOM, TOP, "accuracy on them, %")
    lines = [
        Line(
            path_of(x, y, 100 * curve.coverage[shown[seed]], 100 * (1 - curve.risk[shown[seed]])),
            i % MOST_COLOURS,
            f"seed {seed}",
        )
        for i, (seed, curve) in enumerate(curves.items())
    ]
    area = float(np.mean([curve.area for curve in curves.values()]))
    return Chart("Accuracy by coverage", x, y, tuple(lines)), area


def training_charts(run: RunRecord) -> list[Chart]:
    """Loss and validation weighted F1 by epoch, a line a seed; a dot at the epoch that was kept."""
    histories = {seed: record["history"] for seed, record in run.seeds.items() if record.get("history")}
    if not histories:
        return []
    epochs = axis(1, max(len(h) for h in histories.values()), LEFT, RIGHT, "epoch", whole=True)
    losses = [e[key] for h in histories.values() for e in h for key in ("train_loss", "valid_loss")]
    scores = [100 * e["valid_weighted_f1"] for h in histories.values() for e in h]
    loss = axis(0, max(losses), BOTTOM, TOP, "loss, nats")
    f1 = axis(min(scores) - 1, min(max(scores) + 1, 100), BOTTOM, TOP, "weighted F1, %")
    of_loss, of_f1 = [], []
    for i, (seed, history) in enumerate(histories.items()):
        xs = [e["epoch"] for e in history]
        kept = int(run.seeds[seed].get("best_epoch", 0))
        colour, name = i % MOST_COLOURS, f"seed {seed}"
        train, valid = [e["train_loss"] for e in history], [e["valid_loss"] for e in history]
        of_loss.append(Line(path_of(epochs, loss, xs, train), colour, name, dotted=True))
        of_loss.append(Line(path_of(epochs, loss, xs, valid), colour, name))
        ys = [100 * e["valid_weighted_f1"] for e in history]
        dot = (epochs.at(kept), f1.at(ys[kept - 1])) if 0 < kept <= len(ys) else None
        of_f1.append(Line(path_of(epochs, f1, xs, ys), colour, name, dot=dot))
    return [
        Chart("Loss (dotted: train, solid: validation)", epochs, loss, tuple(of_loss)),
        Chart("Validation weighted F1 (dot: the epoch kept)", epochs, f1, tuple(of_f1)),
    ]


def map_rows(count: int) -> np.ndarray:
    """The texts that the map shows: all, or so many drawn at random with a fixed seed; ascending."""
    if count <= MAP_TEXTS:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, MAP_TEXTS, replace=False))


def text_map(run: RunRecord, order: LabelOrder) -> dict[str, Any] | None:
    """The texts in the plane (t-SNE) by the fused evidence for each label, labels where their texts are densest.

    The evidence are one seed's logits, which its probabilities give back: up to a number a text, and to calibration.
    None with too few texts, or if all are alike.
    """
    rows = map_rows(len(run.part.labels))
    seed = run.model_seed if run.model_seed in run.part.by_seed else next(iter(run.part.by_seed))
    p = np.clip(run.part.by_seed[seed][rows].astype(np.float64), 1e-7, 1 - 1e-7)
    values = np.log(p / (1 - p)) if run.multilabel else np.log(p)
    if len(rows) < 5:
        return None
    points_at, method = plane(values)
    if points_at is None:
        return None
    xy, height = _on_paper(points_at)
    mean = run.mean[rows]
    if run.multilabel:
        answers = np.stack(list(run.part.answers.values()))[0][rows]
        true = run.part.labels[rows]
        right = (answers == true).all(1)
        main = np.where(true.any(1), (mean * true).argmax(1), -1)
        names = [", ".join(run.names[int(i)] for i in np.flatnonzero(row)) or "no label" for row in true]
        given = [", ".join(run.names[int(i)] for i in np.flatnonzero(row)) or "no label" for row in answers]
    else:
        main = run.part.labels[rows]
        right = mean.argmax(1) == main
        names = [run.names[int(i)] for i in main]
        given = [run.names[int(i)] for i in mean.argmax(1)]
    # Few labels have a colour each.
    by_label = len(run.names) <= MOST_COLOURS
    places = {label: place for place, label in enumerate(order.order)}
    colour = [
        -1 if one < 0 else (places[int(one)] if by_label else order.groups[int(one)]) % MOST_COLOURS for one in main
    ]
    points = []
    for i, row in enumerate(rows):
        text = run.text(int(row), HOVER_LENGTH)
        tip = names[i] if right[i] else f"{names[i]}, taken for {given[i]}"
        points.append(
            {
                "x": round(float(xy[i, 0]), 1),
                "y": round(float(xy[i, 1]), 1),
                "colour": colour[i],
                "right": bool(right[i]),
                "tip": tip + (f": {text}" if text is not None else ""),
            }
        )
    labels = _map_labels(run, main, xy, height)
    legend = [(i, name) for i, name in enumerate(order.names) if name] if not by_label else []
    return {
        "points": points,
        "labels": labels,
        "legend": legend,
        "by_label": by_label,
        "width": MAP_WIDTH,
        "height": height,
        "seed": seed,
        "method": method,
        "all": len(rows) == len(run.part.labels),
    }


def _on_paper(points: np.ndarray) -> tuple[np.ndarray, int]:
    """Points (n, 2) as pixels, both axes to one scale and the longer one across; and the height of the paper."""
    edge = 18
    if np.ptp(points[:, 1]) > np.ptp(points[:, 0]):
        points = points[:, ::-1]
    scale = (MAP_WIDTH - 2 * edge) / (np.ptp(points[:, 0]) or 1.0)
    xy = edge + (points - points.min(0)) * scale
    return xy, int(xy[:, 1].max()) + edge


def _map_labels(run: RunRecord, main: np.ndarray, xy: np.ndarray, height: int) -> list[dict[str, Any]]:
    """The labels' names where their texts are densest, moved apart where they would cover each other."""
    counts = np.bincount(main[main >= 0], minlength=len(run.names))
    placed: list[tuple[float, float, float]] = []
    labels = []
    for label in np.argsort(-counts, kind="stable")[:60]:
        if counts[label] < 2:
            break
        name = run.names[label] if len(run.names[label]) <= 24 else run.names[label][:23] + "…"
        half = 3.9 * len(name) + 3
        x, y = densest(xy[main == label])
        x = min(max(x, half), MAP_WIDTH - half)
        for step in range(24):  # a line up, a line down, two lines up, …
            moved = y + 8 * ((step + 1) // 2) * (1 if step % 2 else -1)
            free = all(abs(moved - v) >= 15 or abs(x - u) >= half + w for u, v, w in placed)
            if free and 12 <= moved <= height - 6:
                placed.append((x, moved, half))
                labels.append({"name": name, "x": round(x, 1), "y": round(moved, 1)})
                break
    return labels


def stage_rows(run: RunRecord) -> list[dict[str, Any]]:
    """Time, peak memory and texts of each stage; of an old run only the times of its last call."""
    stages: dict[str, Any] = {name: dict(one) for name, one in (run.metrics.get("stages") or {}).items()} or {
        name: {"seconds": seconds} for name, seconds in (run.metrics.get("seconds") or {}).items()
    }
    epochs = sum(epoch["seconds"] for record in run.seeds.values() for epoch in record.get("history", ()))
    if "train" in stages:
        # Of seeds that fec train or an older version trained, their epochs alone know the time.
        stages["train"]["seconds"] = max(stages["train"]["seconds"], epochs)
    longest = max((one["seconds"] for one in stages.values()), default=0) or 1
    return [
        {
            "name": name,
            "seconds": one["seconds"],
            "share": one["seconds"] / longest,
            "memory": size(one["peak_memory"]) if one.get("peak_memory") else None,
            "encoded": one.get("encoded") if name == "extract" else None,
            "calls": one.get("calls"),
        }
        for name, one in stages.items()
    ]


@dataclass(frozen=True)
class Entry:
    """A line of what was run: a name and values, of which those in `code` are shown as such."""

    name: str
    value: str
    code: bool = False


def what_was_run(run: RunRecord) -> dict[str, list[Entry]]:
    """Data, encoders, head, training and versions, by heading."""
    config, described = run.config["run"], run.config
    data, task = described.get("data", {}), config["task"]
    sections: dict[str, list[Entry]] = {}
    sections["Data"] = [
        Entry("task", str(run.metrics.get("task", task["name"]))),
        Entry("source", str(data.get("source", "unknown")), code=True),
        Entry("licence", str(data.get("licence", "unknown"))),
        Entry("labels", f"{len(run.names)}, " + ("any number of them a text" if run.multilabel else "one a text")),
    ]
    if task.get("limit"):
        sections["Data"].append(Entry("limit", f"the first {task['limit']:,} rows of each split"))
    for name, one in data.get("splits", {}).items():
        sections["Data"].append(Entry(f"{name}, SHA-256", f"{one['rows']:,} rows · {one['sha256'][:16]}…", code=True))
    weights = described.get("weights", {})
    for encoder in config["encoders"]:
        layers = "the default ones" if encoder["layers"] is None else ", ".join(map(str, encoder["layers"]))
        rows = [
            Entry("model", encoder["model"] + (f" @ {encoder['revision']}" if encoder.get("revision") else "")),
            Entry("layers", layers),
            Entry("pooling", encoder["pooling"]),
            Entry("longest input", f"{encoder['max_length']} tokens"),
            Entry("precision", encoder["dtype"]),
        ]
        if encoder.get("template", "{text}") != "{text}":
            rows.append(Entry("template", encoder["template"], code=True))
        if encoder.get("projection"):
            rows.append(Entry("projection", str(encoder["projection"]), code=True))
        if encoder["name"] in weights:
            rows.append(Entry("weights", f"{weights[encoder['name']]['fingerprint'][:16]}…", code=True))
        key = described.get("encoder_keys", {}).get(encoder["name"])
        if key:
            rows.append(Entry("key in the store", key, code=True))
        sections[f"Encoder {encoder['name']}"] = rows
    head = config["head"]
    sections[f"Head {head['name']}"] = [
        *(
            Entry(key.replace("_", " "), f"{value:g}" if isinstance(value, float) else str(value))
            for key, value in head.items()
            if key != "name"
        ),
        *([Entry("trained parameters", f"{run.metrics['parameters']:,}")] if "parameters" in run.metrics else []),
    ]
    sections["Training"] = [
        Entry("seeds", ", ".join(map(str, config["seeds"]))),
        *(
            Entry(key.replace("_", " "), f"{value:g}" if isinstance(value, float) else str(value))
            for key, value in config["training"].items()
            if value is not None
        ),
    ]
    sections["Versions"] = [
        Entry(key.replace("fusion_classifier", "llm-fusion-classifier"), str(value))
        for key, value in described.get("environment", {}).items()
    ]
    return sections


# --- the page -----------------------------------------------------------------------------------------------


def values_of(run: RunRecord) -> dict[str, Any]:
    """All values of the template."""
    order = order_of(run)
    values: dict[str, Any] = {
        "run": run,
        "order": order,
        "by_tree": bool(run.label_tree) and any(order.names),
        "split": run.part.split,
        "texts": len(run.part.labels),
        "headline": headline(run),
        "results": results(run),
        "commonest": commonest(run),
        "labels": label_rows(run, order),
        "reliability": reliability_chart(run),
        "mistakes": confident_mistakes(run),
        "map": text_map(run, order),
        "training": training_charts(run),
        "stages": stage_rows(run),
        "what": what_was_run(run),
        "missing": sum(one not in run.texts for one in set(run.part.hashes)) if run.texts is not None else 0,
    }
    if run.multilabel:
        return values | {"curves": precision_recall(run)}
    chart, area = risk_chart(run)
    return values | {
        "confusion": confusion(run, order),
        "pairs": confused_pairs(run),
        "risk": chart,
        "aurc": area,
        "coverages": (run.metrics.get("risk_coverage") or {}).get(run.part.split)
        or at_coverages(run.part.labels, list(run.part.by_seed.values())),
    }


def page(run: RunRecord) -> str:
    """The report as one HTML file, which loads nothing: style, script and pictures are in it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.undefined = jinja2.StrictUndefined
    environment.filters |= {
        "pct": _percent,
        "num": _number,
        "duration": _duration,
    }
    script = (FOLDER / "report.js").read_text("utf-8")
    # Only this script may run, and nothing may be fetched, whatever stands in the texts.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = (FOLDER / "report.css").read_text("utf-8")
    template = environment.get_template("report.html.j2")
    return template.render(values_of(run), script=script, style=style, script_hash=f"sha256-{digest}")


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}"


def _number(value: float) -> str:
    """A count; the mean of several with one digit where it has any."""
    return f"{value:,.0f}" if abs(value - round(value)) < 0.05 else f"{value:,.1f}"


def _duration(seconds: float) -> str:
    """A time as a person reads it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
