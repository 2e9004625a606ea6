"""Folds for cross-validation: every row is predicted by a model that was not trained on it."""

import numpy as np

from fusion_classifier.tasks.loaded import rarest_label

FOLDS = 5
MAX_CROSS_VALIDATED = 5000  # enough rows to choose a penalty
ALWAYS = -1  # fold of a row that is always trained on, never evaluated, like a label name


def fold_numbers(
    x: np.ndarray, targets: np.ndarray, seed: int, n_label_names: int = 0, groups: np.ndarray | None = None
) -> np.ndarray:
    """Fold of each row, stratified by label, with equal rows in the same fold: (N,), int64, 0 to `FOLDS` − 1, or
    `ALWAYS` for label names.

    Args:
        x: Features (N, D); rows with equal features are equal.
        targets: Label numbers (N,), or (N, C) of 0 and 1: a row with several labels counts as its rarest.
        seed: Seed of the random order.
        n_label_names: Number of rows at the end that are label names.
        groups: Numbers (N,) that are the same for equal texts, whose features may differ (`text_groups`). Default:
            only features are compared.
    """
    count = len(x) - n_label_names
    rows = np.ascontiguousarray(x[:count])
    equal = np.unique(rows.view(f"V{rows.itemsize * rows.shape[1]}").ravel(), return_inverse=True)[1]
    if groups is not None:
        equal = _joined(equal, groups[:count])
    _, first, group = np.unique(equal, return_index=True, return_inverse=True)
    return np.concatenate(
        [stratified_folds(rarest_label(targets[:count])[first], seed)[group], np.full(n_label_names, ALWAYS)]
    )


def stratified_folds(labels: np.ndarray, seed: int) -> np.ndarray:
    """Fold of each row by its label (N,), each row separately: (N,), int64."""
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # label by label, each in random order
    folds = np.empty(len(labels), dtype=np.int64)
    folds[order] = np.arange(len(labels)) % FOLDS  # dealt out in turn, across labels, too
    return folds


def _joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """One number per row (N,), equal for rows that are linked by equal numbers in `one` or `other`.

    If `other` adds no links, these are the numbers of `one`.
    """
    from scipy.sparse import coo_array  # noqa: PLC0415 - slow to import
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    other = other + one.max(initial=-1) + 1
    size = other.max(initial=-1) + 1
    links = coo_array((np.ones(len(one)), (one, other)), shape=(size, size))
    return np.asarray(connected_components(links, directed=False)[1][one], dtype=np.int64)


def sample(rows: int, most: int, seed: int) -> np.ndarray:
    """Indices of all rows, or of a random sample of `most` rows; ascending."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).permutation(rows)[:most])
