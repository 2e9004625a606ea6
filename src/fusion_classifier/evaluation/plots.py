"""Pictures of a run as PNG: confusion matrix, training curves, risk–coverage curve, F1 by label."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import confusion_matrix

from fusion_classifier.evaluation.selective import risk_coverage
from fusion_classifier.training.loop import Epoch


def _save(figure: Figure, path: Path) -> None:
    """Write a picture; a label without a glyph, or one too long for the page, is no news for the terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(path, dpi=150)


def plot_confusion(labels: np.ndarray, by_seed: Sequence[np.ndarray], names: Sequence[str], path: Path) -> None:
    """Confusion matrix, rows normalized, mean over seeds; `by_seed` are predicted labels (N,)."""
    matrices = [
        confusion_matrix(labels, predicted, labels=np.arange(len(names)), normalize="true") for predicted in by_seed
    ]
    matrix = np.mean(matrices, axis=0)
    side = max(4.5, 0.32 * len(names) + 2)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title("Share of each true label" + (f", mean of {len(by_seed)} seeds" if len(by_seed) > 1 else ""))
    for row, column in zip(*np.nonzero(matrix >= 0.1), strict=True):
        shade = "white" if matrix[row, column] > 0.5 else "black"
        text = f"{matrix[row, column]:.2f}".lstrip("0")
        axes.text(column, row, text, ha="center", va="center", color=shade, fontsize=6)
    figure.colorbar(image, shrink=0.7)
    _save(figure, path)


def plot_training(histories: dict[int, Sequence[Epoch]], path: Path) -> None:
    """Loss and validation weighted F1 by epoch, a line a seed."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, f1 = figure.subplots(1, 2)
    for position, (seed, history) in enumerate(histories.items()):
        color = f"C{position % 10}"
        epochs = [epoch.epoch for epoch in history]
        loss.plot(epochs, [epoch.train_loss for epoch in history], color=color, linestyle=":")
        loss.plot(epochs, [epoch.valid_loss for epoch in history], color=color, label=f"seed {seed}")
        f1.plot(epochs, [epoch.valid_weighted_f1 for epoch in history], color=color, label=f"seed {seed}")
        best = max(history, key=lambda epoch: epoch.valid_weighted_f1)
        f1.plot(best.epoch, best.valid_weighted_f1, "o", color=color)
    loss.set_title("Loss (dotted: train, solid: validation)")
    loss.set_ylabel("cross-entropy, nats")
    f1.set_title("Validation weighted F1 (dot: the epoch kept)")
    f1.set_ylabel("weighted F1")
    for axes in (loss, f1):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    f1.legend()
    _save(figure, path)


def plot_risk_coverage(labels: np.ndarray, by_seed: Mapping[int, np.ndarray], path: Path) -> None:
    """Accuracy on the texts answered against their share, the most confident first; `by_seed` are (N, C)."""
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axes = figure.subplots()
    for position, (seed, probabilities) in enumerate(by_seed.items()):
        curve = risk_coverage(labels, probabilities)
        # The first few texts are too few to say anything.
        shown = curve.coverage >= min(1.0, 20 / len(labels))
        label = f"seed {seed} (AURC {curve.area:.3f})"
        axes.plot(100 * curve.coverage[shown], 100 * (1 - curve.risk[shown]), color=f"C{position % 10}", label=label)
    axes.set_xlabel("texts answered, % (the most confident first)")
    axes.set_ylabel("accuracy on them, %")
    axes.set_title("What abstaining brings: accuracy by coverage")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend()
    _save(figure, path)


def plot_f1_by_label(figures: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """F1 of each label, best first, with the number of texts that have it."""
    order = sorted(figures.items(), key=lambda item: item[1]["f1"])
    figure = Figure(figsize=(7, max(3.0, 0.27 * len(order) + 1)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(order)), [100 * values["f1"] for _, values in order], color="C0")
    axes.set_yticks(range(len(order)), [f"{name} ({values['support']:,.0f})" for name, values in order])
    axes.set_xlabel("F1, %")
    axes.set_xlim(0, 100)
    axes.set_title("F1 by label (texts)")
    axes.grid(alpha=0.3, axis="x")
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, path)


def plot_ablation(figures: Mapping[str, Any], path: Path) -> None:
    """Accuracy of every combination of encoders, a colour a head: mean over seeds with the bootstrap interval."""
    heads = list(dict.fromkeys(one["head"] for one in figures["combinations"]))
    names = list(dict.fromkeys(" + ".join(one["encoders"]) for one in figures["combinations"]))
    figure = Figure(figsize=(8.5, max(2.5, 0.36 * len(names) * max(1, len(heads) * 0.7) + 1.2)), layout="constrained")
    axes = figure.subplots()
    for position, head in enumerate(heads):
        chosen = [one for one in figures["combinations"] if one["head"] == head]
        rows = np.array([names.index(" + ".join(one["encoders"])) for one in chosen])
        rows = rows + (position - (len(heads) - 1) / 2) * 0.7 / len(heads)
        accuracy = [one["metrics"]["accuracy"] for one in chosen]
        means = np.array([one["mean"] for one in accuracy])
        ends = np.array([one.get("ci95", [one["mean"]] * 2) for one in accuracy])
        spread = np.abs(ends.T - means)
        axes.errorbar(100 * means, rows, xerr=100 * spread, fmt="o", color=f"C{position}", capsize=2, label=head)
        for row, mean in zip(rows, means, strict=True):
            axes.annotate(
                f"{100 * mean:.1f}",
                (100 * mean, row),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                fontsize=7,
            )
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(f"accuracy on {figures['split']}, % (bars: 95 % bootstrap interval over texts)")
    axes.grid(alpha=0.3, axis="x")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower left")
    _save(figure, path)
