"""Map of the texts: the head's logits, projected to two dimensions."""

from typing import Any

import numpy as np

from fusion_classifier.evaluation.figures.values import COLOURS
from fusion_classifier.evaluation.report.record import RunRecord

WIDTH, EDGE = 760, 18  # pixels
MAX_TEXTS = 1500  # more points would overlap, and t-SNE is slow
MAX_NAMES = 60
HOVER_LENGTH = 110  # characters per text
PCA_DIMENSIONS = 50  # input dimensions of t-SNE


def text_map(run: RunRecord) -> dict[str, Any] | None:
    """Return the texts in two dimensions, from the logits of one seed; None if there are too few, or all are
    equal."""
    rows = np.arange(len(run.part.labels))
    if len(rows) > MAX_TEXTS:
        rows = np.sort(np.random.default_rng(0).choice(len(rows), MAX_TEXTS, replace=False))
    seed = run.model_seed if run.model_seed in run.part.by_seed else next(iter(run.part.by_seed))
    p = np.clip(run.part.by_seed[seed][rows].astype(np.float64), 1e-7, 1 - 1e-7)
    placed = plane(np.log(p / (1 - p)) if run.multilabel else np.log(p)) if len(rows) >= 5 else None
    if placed is None:
        return None
    points, method = placed
    xy, height = _pixels(points)
    true, answers = run.part.labels[rows], run.part.answers[seed][rows]
    if run.multilabel:
        right, main = (answers == true).all(1), np.where(true.any(1), (run.mean[rows] * true).argmax(1), -1)
    else:
        right, main = answers == true, true
    by_label = len(run.names) <= COLOURS  # few labels have one colour each; otherwise one per group
    colours = np.argsort(run.order.order) if by_label else np.array(run.order.groups)
    marks = []
    for i, row in enumerate(rows.tolist()):
        text = run.text(row, HOVER_LENGTH)
        tip = run.labels_text(true[i]) + ("" if right[i] else f", predicted as {run.labels_text(answers[i])}")
        marks.append(
            {
                "x": round(float(xy[i, 0]), 1),
                "y": round(float(xy[i, 1]), 1),
                "colour": int(colours[main[i]]) % COLOURS if main[i] >= 0 else -1,
                "right": bool(right[i]),
                "tip": tip if text is None else f"{tip}: {text}",
            }
        )
    return {
        "points": marks,
        "labels": _place_names(run, main, xy, height),
        "legend": [] if by_label else [(i, name) for i, name in enumerate(run.order.names) if name],
        "by_label": by_label,
        "width": WIDTH,
        "height": height,
        "seed": seed,
        "method": method,
        "all": len(rows) == len(run.part.labels),
    }


def plane(values: np.ndarray) -> tuple[np.ndarray, str] | None:
    """Return points (n, 2) by t-SNE on principal components, and the method; None if all are equal."""
    from sklearn.decomposition import PCA  # noqa: PLC0415 - slow to import
    from sklearn.manifold import TSNE  # noqa: PLC0415 - slow to import
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # noqa: PLC0415 - scikit-learn needs it

    values = values[:, values.std(0) > 0]
    if not values.shape[1] or not np.isfinite(values).all():
        return None
    dimensions = min(PCA_DIMENSIONS, *values.shape)
    reduced = PCA(dimensions, svd_solver="full" if values.shape[1] <= 2000 else "randomized", random_state=0)
    components = reduced.fit_transform(values)
    if dimensions < 3:
        return np.pad(components, ((0, 0), (0, 2 - dimensions))), "PCA"
    # About the number of points per label; fewer than the usual 30 for few points.
    perplexity = min(30.0, max(5.0, len(values) / 10), (len(values) - 1) / 3)
    # One thread: several would add in varying order, and t-SNE amplifies rounding differences.
    with threadpool_limits(1, "openmp"):
        points = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(components)
    return points, f"t-SNE (perplexity {perplexity:.0f}) of {dimensions} principal components"


def _pixels(points: np.ndarray) -> tuple[np.ndarray, int]:
    """Scale points (n, 2) to pixels, with the longer axis horizontal; also return the height."""
    if np.ptp(points[:, 1]) > np.ptp(points[:, 0]):
        points = points[:, ::-1]
    scale = (WIDTH - 2 * EDGE) / (np.ptp(points[:, 0]) or 1.0)
    xy = EDGE + (points - points.min(0)) * scale
    return xy, int(xy[:, 1].max()) + EDGE


def _place_names(run: RunRecord, main: np.ndarray, xy: np.ndarray, height: int) -> list[dict[str, Any]]:
    """Place label names where their texts are densest, moved up or down to avoid overlap."""
    counts = np.bincount(main[main >= 0], minlength=len(run.names))
    placed: list[tuple[float, float, float]] = []
    names = []
    for label in np.argsort(-counts, kind="stable")[:MAX_NAMES]:
        if counts[label] < 2:
            break
        name = run.names[label] if len(run.names[label]) <= 24 else run.names[label][:23] + "…"
        half = 3.9 * len(name) + 3
        x, y = _densest(xy[main == label])
        x = min(max(x, half), WIDTH - half)
        for step in range(24):  # one line up, one line down, two lines up, …
            moved = y + 8 * ((step + 1) // 2) * (1 if step % 2 else -1)
            free = all(abs(moved - v) >= 15 or abs(x - u) >= half + w for u, v, w in placed)
            if free and 12 <= moved <= height - 6:
                placed.append((x, moved, half))
                names.append({"name": name, "x": round(x, 1), "y": round(moved, 1)})
                break
    return names


def _densest(points: np.ndarray) -> tuple[float, float]:
    """Return the point of (n, 2) with the nearest neighbours at the smallest distance."""
    distances = np.sort(np.linalg.norm(points[:, None] - points, axis=2), axis=1)
    x, y = points[int(distances[:, : max(len(points) // 4, 2)].mean(1).argmin())]
    return float(x), float(y)
