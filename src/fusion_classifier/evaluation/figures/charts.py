"""Charts of a run: training curves, reliability, accuracy by coverage, F1 by label, ablation."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fusion_classifier.evaluation.figures.values import COLOURS, Axis, Bar, Chart, Line, Ranking
from fusion_classifier.evaluation.metrics import expected_calibration_error, hits_and_confidence, reliability
from fusion_classifier.evaluation.predictions import SplitPredictions
from fusion_classifier.evaluation.selective import risk_coverage

MIN_ANSWERED = 20  # the curve ends where fewer texts are answered


def training_charts(records: Mapping[int, Mapping[str, Any]]) -> list[Chart]:
    """Draw loss and validation weighted F1 by epoch, with a dot at the kept epoch.

    Args:
        records: `history` and `best_epoch` of each seed, as in training.json. Seeds with fewer than two epochs are
            omitted: heads fitted in one step have no curve.
    """
    loss_lines, f1_lines = [], []
    for i, (seed, record) in enumerate(records.items()):
        history = record.get("history") or ()
        if len(history) < 2:
            continue
        epochs, train, valid, f1 = (
            np.array([epoch[key] for epoch in history], dtype=np.float64)
            for key in ("epoch", "train_loss", "valid_loss", "valid_weighted_f1")
        )
        name, colour, kept = f"seed {seed}", i % COLOURS, int(record.get("best_epoch", 0))
        loss_lines.append(Line(name, epochs, train, colour, dotted=True))
        loss_lines.append(Line(name, epochs, valid, colour))
        dot = (float(kept), 100 * float(f1[kept - 1])) if 0 < kept <= len(f1) else None
        f1_lines.append(Line(name, epochs, 100 * f1, colour, dot=dot))
    if not f1_lines:
        return []
    epoch = Axis("epoch", 1, max(len(line.x) for line in f1_lines), whole=True)
    loss = Axis("loss, nats", 0, float(max(line.y.max() for line in loss_lines)))
    scores = np.concatenate([line.y for line in f1_lines])
    weighted_f1 = Axis("weighted F1, %", float(scores.min()) - 1, min(float(scores.max()) + 1, 100))
    return [
        Chart("Loss (dotted: train, solid: validation)", epoch, loss, tuple(loss_lines)),
        Chart("Validation weighted F1 (dot: the epoch kept)", epoch, weighted_f1, tuple(f1_lines)),
    ]


def risk_chart(part: SplitPredictions) -> Chart:
    """Draw accuracy by coverage: accuracy on the answered texts, the most confident first."""
    curves = [risk_coverage(part.labels, p, part.answers[seed]) for seed, p in part.by_seed.items()]
    lines = []
    for i, (seed, curve) in enumerate(zip(part.by_seed, curves, strict=True)):
        shown = curve.coverage >= min(1.0, MIN_ANSWERED / len(part.labels))
        lines.append(Line(f"seed {seed}", 100 * curve.coverage[shown], 100 * (1 - curve.risk[shown]), i % COLOURS))
    lowest = min(float(line.y.min()) for line in lines)
    area = np.mean([curve.area for curve in curves])
    return Chart(
        f"Accuracy by coverage · AURC {area:.3f}",
        Axis("texts answered, % (the most confident first)", 0, 100),
        Axis("accuracy on them, %", max(0, 5 * math.floor(lowest / 5)), 100),
        tuple(lines),
    )


def reliability_chart(part: SplitPredictions) -> Chart:
    """Draw the accuracy of the predictions of all seeds against their probability."""
    multilabel, seeds = part.labels.ndim == 2, len(part.by_seed)
    pairs = [hits_and_confidence(part.labels, p, part.answers[seed]) for seed, p in part.by_seed.items()]
    hits, confidence = (np.concatenate(one) for one in zip(*pairs, strict=True))
    counts, accuracies, means = reliability(hits, confidence)
    # In a multi-label task nearly all predictions are in the first bin: use a logarithmic scale.
    heights = np.log1p(counts) if multilabel else counts
    edges = np.linspace(0, 100, len(counts) + 1)
    bars = []
    for i in np.flatnonzero(counts).tolist():
        accuracy, mean = 100 * accuracies[i], 100 * means[i]
        tip = (
            f"{edges[i]:.0f} to {edges[i + 1]:.0f}%: {counts[i] / seeds:,.0f} predictions, mean probability "
            f"{mean:.1f}%, accuracy {accuracy:.1f}%"
        )
        bars.append(Bar(edges[i], edges[i + 1], accuracy, heights[i] / heights.max(), tip))
    error = np.mean(
        [expected_calibration_error(part.labels, p, part.answers[seed]) for seed, p in part.by_seed.items()]
    )
    return Chart(
        f"Reliability · ECE {100 * error:.1f}%",
        Axis("probability of the label, %" if multilabel else "probability of the answer, %", 0, 100),
        Axis("came true, %" if multilabel else "right, %", 0, 100),
        bars=tuple(bars),
    )


def f1_ranking(table: Mapping[str, Mapping[str, float]]) -> Ranking:
    """Draw F1 of each label, best first; `table` as returned by `metrics.per_class`."""
    order = sorted(table.items(), key=lambda item: -item[1]["f1"])
    names = tuple(f"{name} ({row['support']:,.0f})" for name, row in order)
    values = np.array([100 * row["f1"] for _, row in order])
    return Ranking("F1 by label (texts)", "F1, %", names, {"F1": values})


def ablation_ranking(result: Mapping[str, Any]) -> Ranking:
    """Draw accuracy and interval of every combination of encoders for each head; `result` as in ablation.json."""
    combinations = result["combinations"]
    names = list(dict.fromkeys(" + ".join(one["encoders"]) for one in combinations))
    heads = list(dict.fromkeys(one["head"] for one in combinations))
    values = {head: np.full(len(names), np.nan) for head in heads}
    intervals = {head: np.full((len(names), 2), np.nan) for head in heads}
    for one in combinations:
        row, accuracy = names.index(" + ".join(one["encoders"])), one["metrics"]["accuracy"]
        values[one["head"]][row] = 100 * accuracy["mean"]
        intervals[one["head"]][row] = 100 * np.array(accuracy.get("ci95", [accuracy["mean"]] * 2))
    axis = f"accuracy on {result['split']}, % (bars: 95% bootstrap interval over texts)"
    return Ranking("Accuracy by combination of encoders", axis, tuple(names), values, intervals)
