"""Folds for cross-validation: every row is predicted by a model that was not trained on it."""

import numpy as np

FOLDS = 5
MAX_CROSS_VALIDATED = 5000  # enough rows to choose a penalty
NAME = -1  # fold of a label name: trained on, never evaluated


def fold_numbers(x: np.ndarray, targets: np.ndarray, seed: int, n_label_names: int = 0) -> np.ndarray:
    """Fold of each row, stratified by label, with equal rows in the same fold: (N,), int64, 0 to `FOLDS` − 1, or
    `NAME`.

    Args:
        x: Features (N, D), which identify equal rows.
        targets: Label numbers (N,), or (N, C) of 0 and 1: a row with several labels counts as its rarest.
        seed: Seed of the random order.
        n_label_names: Number of rows at the end that are label names.
    """
    count = len(x) - n_label_names
    given = targets[:count]
    if given.ndim > 1:
        rarest = np.where(given, given.sum(0), len(given) + 1).argmin(1)
        given = np.where(given.any(1), rarest, -1)
    rows = np.ascontiguousarray(x[:count])
    _, first, group = np.unique(
        rows.view(f"V{rows.itemsize * rows.shape[1]}").ravel(), return_index=True, return_inverse=True
    )
    order = np.random.default_rng(seed).permutation(len(first))
    order = order[np.argsort(given[first][order], kind="stable")]  # label by label, each in random order
    fold_of_group = np.empty(len(first), dtype=np.int64)
    fold_of_group[order] = np.arange(len(first)) % FOLDS  # assigned in turn, continuing across labels
    return np.concatenate([fold_of_group[group], np.full(n_label_names, NAME)])


def sample(rows: int, most: int, seed: int) -> np.ndarray:
    """Indices of all rows, or of a random sample of `most` rows; ascending."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).permutation(rows)[:most])
