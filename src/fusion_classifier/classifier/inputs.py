"""Checks texts and labels given in Python, and encodes labels."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fusion_classifier.errors import DataError
from fusion_classifier.tasks.loaded import Label

Labels = Sequence[str] | Sequence[int] | Sequence[Sequence[str]] | np.ndarray


def encode_labels(
    y: Labels, name: str, count: int, classes: np.ndarray | None = None
) -> tuple[np.ndarray, tuple[Label, ...]]:
    """The different labels, sorted, and each row's as indices into them.

    Args:
        y: one string or whole number a row, or several: lists of strings, or an indicator matrix.
        name: what to call it in errors.
        count: rows there must be.
        classes: the labels there are; those of `y` unless given.

    Raises:
        DataError: something else, or labels that are not among `classes`.
    """
    y = column(y)
    if len(y) != count:
        raise DataError(f"{name}: {len(y)} labels for {count} texts")
    rows: list[list[Any]]
    several = len(y) > 0 and isinstance(y[0], (list, tuple, set, np.ndarray))
    if not several:
        flat = np.asarray(y)
        kinds = {int if isinstance(value, np.integer) else type(value) for value in flat.tolist()}
        if flat.ndim != 1 or kinds not in ({int}, {str}):
            raise DataError(f"{name}: give {count} strings or whole numbers, one a text")
        flat = flat if kinds == {str} else flat.astype(np.int64)
        rows = [[value] for value in flat]
    elif isinstance(y, np.ndarray) and y.ndim == 2:
        if not np.isin(y, (0, 1)).all():
            raise DataError(f"{name}: a matrix of labels holds only 0 and 1")
        rows = [np.flatnonzero(row).tolist() for row in y]
        own = np.arange(y.shape[1])
        if classes is not None and len(classes) != len(own):
            raise DataError(f"{name}: {len(own)} columns for {len(classes)} labels")
        classes = own
    else:
        rows = [list(row) for row in y]  # type: ignore[arg-type]
        if not all(isinstance(value, str) for row in rows for value in row):
            raise DataError(f"{name}: give lists of strings, or an indicator matrix (N, C) of 0 and 1")
    found = np.unique(np.asarray([value for row in rows for value in row])) if classes is None else classes
    if len(found) < 2:
        raise DataError(f"{name}: needs at least two different labels")
    index = {value: position for position, value in enumerate(found.tolist())}
    encoded: list[Label] = []
    for row in rows:
        unknown = [value for value in row if value not in index]
        if unknown:
            raise DataError(f"{name}: label {str(unknown[0])!r} does not occur in y")
        positions = tuple(sorted({index[value] for value in row}))
        encoded.append(positions if several else positions[0])
    return found, tuple(encoded)


def column(values: Any) -> Any:
    """A column or table of pandas, polars or Arrow as a numpy array; anything else as it is."""
    return values.to_numpy() if hasattr(values, "to_numpy") else values


def one_column(texts: Any, name: str) -> Iterable[object]:
    """Texts to go through one by one.

    Raises:
        DataError: one string, or a table: its elements would be letters, names of columns, or rows.
    """
    if isinstance(texts, str):
        raise DataError(f"{name}: give a list of texts, not one string")
    values: Iterable[object] = column(texts)
    shape = np.shape(values) if isinstance(values, np.ndarray) else (0,)
    if len(shape) != 1:
        raise DataError(f"{name}: give one column of texts, as X['text'] of a table, not an array of shape {shape}")
    return values


def check_texts(texts: Iterable[object], name: str) -> list[str]:
    """The texts as a list, each a string with something in it.

    Raises:
        DataError: one that is not, by its position.
    """
    result: list[str] = []
    for position, text in enumerate(one_column(texts, name)):
        if not isinstance(text, str) or not text.strip():
            what = "is empty" if isinstance(text, str) else f"is {text!r}, not a string"
            raise DataError(f"{name}: text {position} {what}")
        result.append(text)
    return result
