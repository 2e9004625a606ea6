"""Figures of the report: reliability, accuracy by coverage, training, the map of the texts."""

import math
from typing import Any

import numpy as np

from fusion_classifier.evaluation.metrics import reliability
from fusion_classifier.evaluation.report.charts import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    Chart,
    Line,
    axis,
    densest,
    path_of,
    plane,
)
from fusion_classifier.evaluation.report.label_order import LabelOrder
from fusion_classifier.evaluation.report.record import (
    FEWEST_ANSWERED,
    HOVER_LENGTH,
    MAP_TEXTS,
    MAP_WIDTH,
    MOST_COLOURS,
    RunRecord,
)
from fusion_classifier.evaluation.selective import risk_coverage


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
    count, accuracy, mean = reliability(hits, confidence)
    edges = np.linspace(0, 1, len(count) + 1)
    bins = [
        {
            "low": edges[i],
            "high": edges[i + 1],
            "count": int(count[i]),
            "accuracy": accuracy[i],
            "confidence": mean[i],
        }
        for i in range(len(count))
    ]
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
