"""Checks texts, labels and weights given to `fit` and `predict`, and converts them to arrays."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np

from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.support.text import counted, first_few
from fusion_classifier.tasks.labels import is_list
from fusion_classifier.tasks.loaded import rarest_label
from fusion_classifier.tasks.readers import is_missing
from fusion_classifier.tasks.split import VALID_FRACTION, held_out

MAX_NAMES = 8  # columns in a message
MAX_ROWS = 20  # rows in a message
Labels = Sequence[Any] | np.ndarray
ClassWeight = Mapping[Any, float] | Literal["balanced"] | None


def column(values: Any) -> Any:
    """A column or table of pandas, polars or Arrow, or a tensor, as a numpy array; other values unchanged."""
    if hasattr(values, "null_count") and hasattr(values, "to_pylist"):  # a column of Arrow
        return values.to_numpy(zero_copy_only=False)
    if hasattr(values, "to_numpy"):
        return values.to_numpy()
    return np.asarray(values) if hasattr(values, "__array__") else values


def column_names(values: Any) -> list[Any] | None:
    """The names of the columns of a table of pandas, polars, Arrow or datasets, or of a mapping; None: no table."""
    if isinstance(values, Mapping):
        return list(values)
    names = getattr(values, "column_names", None)  # Arrow's `columns` are the values
    names = getattr(values, "columns", None) if names is None else names
    return None if names is None or callable(names) else list(names)


def _only_column(values: Any, name: str) -> Any:
    """The column of a one-column table; other values unchanged."""
    if hasattr(values, "collect") and not hasattr(values, "to_numpy"):
        raise DataError(f"`{name}`: a {type(values).__name__} has no values yet; call `collect()` first")
    names = column_names(values)
    return values[names[0]] if names is not None and len(names) == 1 else values


def one_column(texts: Any, name: str) -> Iterable[object]:
    """Texts to iterate over."""
    if isinstance(texts, str | bytes):
        raise DataError(f"`{name}`: give a list of texts, not one string")
    texts = _only_column(texts, name)
    names = column_names(texts)
    if names is not None:
        shown = first_few(list(map(repr, names)), MAX_NAMES)
        raise DataError(f"`{name}`: give one column of texts, as {name}['text'], not a table with {shown}")
    values: Any = _flat(column(texts))
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise DataError(f"`{name}`: give one column of texts, not an array of shape {values.shape}")
    found: Iterable[object] = values
    return found


def check_texts(texts: Iterable[object], name: str, start: int = 0) -> list[str]:
    """The texts as a list; bytes are read as UTF-8."""
    result: list[str] = []
    problems: dict[int, str] = {}
    for position, value in enumerate(one_column(texts, name), start):
        text = decoded(value, f"{name}[{position}]")
        if not isinstance(text, str):
            problems[position] = f"{'is missing' if is_missing(text) else 'is not a string'} ({text!r})"
        elif not text.strip():
            problems[position] = "is empty"
        else:
            result.append(text)
    if problems:
        position, problem = next(iter(problems.items()))
        raise DataError(f"`{name}[{position}]` {problem}{_all_of(list(problems))}")
    return result


def _all_of(positions: Sequence[int]) -> str:
    """List of the rows that can't be used, at most 20, for the end of a message about the first."""
    if len(positions) == 1:
        return ""
    listed = first_few(positions, MAX_ROWS)
    return f"; {len(positions):,} rows can't be used: {listed}; leave them out of texts and labels"


def decoded(value: Any, where: str) -> Any:
    """Bytes as a string; other values unchanged."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"`{where}`: bytes that are not UTF-8 ({value[:40]!r}); decode them first") from error


# --- labels ------------------------------------------------------------------------------------------------


def encode_labels(y: Any, name: str, count: int, classes: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Labels as indices.

    Args:
        y: One label per row (strings, whole numbers, floats or bools), or any number: lists of strings, an indicator
            matrix (N, C) of 0 and 1, or a table of indicator columns, whose names become the labels.
        name: Parameter name in errors.
        count: Number of rows N.
        classes: Known labels (C,). Default: those of `y`, sorted; for an indicator matrix its column numbers, for
            a table its column names in their order.

    Returns:
        Labels (C,), and targets: indices (N,), or an indicator matrix (N, C); int64.
    """
    if y is None:
        raise DataError(f"`{name}` requires y to be passed, but the target y is None")
    values, names = _label_column(y, name), column_names(y)
    if hasattr(values, "toarray"):  # a sparse matrix
        values = values.toarray()
    if isinstance(values, (list, tuple)) and _are_numbers(values):
        values = np.array(values)
    found = np.shape(values)[0] if hasattr(values, "shape") else len(values)
    if found != count:
        raise DataError(f"`{name}`: {counted(found, 'label')} for {counted(count, 'row')} of `X`")
    if isinstance(values, np.ndarray) and values.ndim == 2:
        labels, targets = _from_matrix(values, name, None if names is None else list(map(str, names)), classes)
    elif any(isinstance(value, (list, tuple, set, frozenset, np.ndarray)) for value in values):
        labels, targets = _from_lists(values, name, classes)
    else:
        labels, targets = _from_column(values, name, classes)
    if len(labels) < 2:
        raise DataError(f"`{name}` needs at least two different labels (classes)")
    return labels, targets


def _are_numbers(rows: Sequence[Any]) -> bool:
    """Whether these are lists of numbers of equal length."""
    lists = all(isinstance(row, (list, tuple, np.ndarray)) and len(row) == len(rows[0]) for row in rows)
    return lists and all(isinstance(value, Real) for row in rows for value in row)


def _from_column(values: Any, name: str, classes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """One label per row."""
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise DataError(f"`{name}`: give one column of labels, not an array of shape {values.shape}")
    flat = label_values(values, name)
    if missing := [position for position, value in enumerate(flat) if is_missing(value)]:
        first = f"`{name}[{missing[0]}]` is missing ({flat[missing[0]]!r}); every row needs a label"
        raise DataError(first + _all_of(missing))
    kind = None
    for position, value in enumerate(flat):
        own = _kind(value)
        kind = kind or own
        if own is None or (own != kind and {own, kind} != {"an integer", "a float"}):
            expected = "strings, integers, floats or bools" if own is None else f"{kind} like `{name}[0]`"
            raise DataError(f"`{name}[{position}]`: {value!r} is {own or type(value).__name__}; expected {expected}")
        if isinstance(value, str) and value[:1] in ("[", "(", "{") and is_list(value):
            raise DataError(
                f"`{name}[{position}]`: {value!r} is a list written as a string; give lists of strings, such "
                "as [ast.literal_eval(value) for value in y]"
            )
    array = values if isinstance(values, np.ndarray) and values.dtype.kind in "biuf" else np.array(flat)
    if classes is None:
        labels, targets = np.unique(array, return_inverse=True)
        return labels, targets.astype(np.int64)
    index = _index(classes)
    return classes, np.array(
        [_position(index, value, f"{name}[{i}]") for i, value in enumerate(flat)], dtype=np.int64
    )


def _label_column(y: Any, name: str) -> Any:
    return _flat(column(_only_column(y, name)))


def _flat(values: Any) -> Any:
    """An array of one column as a vector; other values unchanged."""
    is_column = isinstance(values, np.ndarray) and values.ndim == 2 and values.shape[1] == 1
    return values[:, 0] if is_column else values


def label_values(y: Any, name: str) -> list[Any]:
    """A column of labels as Python objects."""
    values = _label_column(y, name)
    flat = values.tolist() if isinstance(values, np.ndarray) else list(values)
    return [decoded(value, f"{name}[{position}]") for position, value in enumerate(flat)]


def _kind(value: object) -> str | None:
    if isinstance(value, (bool, np.bool_)):
        return "a bool"
    if isinstance(value, str):
        return "a string"
    return "an integer" if isinstance(value, Integral) else "a float" if isinstance(value, Real) else None


def _from_lists(values: Any, name: str, classes: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Lists of strings."""
    for position, row in enumerate(values):
        if not isinstance(row, (list, tuple, set, frozenset, np.ndarray)) or not all(isinstance(x, str) for x in row):
            raise DataError(
                f"`{name}[{position}]`: {row!r} is not a list of strings; "
                "for several labels per row give lists of strings, or an indicator matrix (N, C) of 0 and 1"
            )
    labels = np.array(sorted({str(one) for row in values for one in row})) if classes is None else classes
    index = _index(labels)
    targets = np.zeros((len(values), len(labels)), dtype=np.int64)
    for position, row in enumerate(values):
        targets[position, [_position(index, one, f"{name}[{position}]") for one in row]] = 1
    return labels, targets


def _from_matrix(
    matrix: np.ndarray, name: str, columns: list[str] | None, classes: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """An indicator matrix."""
    for row, within in zip(*np.nonzero(~np.isin(matrix, (0, 1))), strict=True):
        where = within if columns is None else columns[within]
        raise DataError(
            f"`{name}[{row}]`: {matrix[row, within]} in column {where}; a matrix of labels contains only 0 and 1"
        )
    labels = np.arange(matrix.shape[1]) if columns is None else np.array(columns)
    if len(set(labels.tolist())) < len(labels):
        raise DataError(f"`{name}`: two columns have the same name")
    targets = matrix.astype(np.int64)
    if classes is None:
        return labels, targets
    if columns is not None and sorted(columns) == sorted(map(str, classes)):  # perhaps in another order
        return classes, targets[:, [columns.index(str(one)) for one in classes]]
    if columns is not None or len(labels) != len(classes):
        raise DataError(f"the {len(labels)} columns of `{name}` are not the {len(classes)} labels of `y`")
    return classes, targets


def _index(labels: np.ndarray) -> dict[Any, int]:
    return {label: position for position, label in enumerate(labels.tolist())}


def _position(index: Mapping[Any, int], label: Any, where: str) -> int:
    if label not in index:
        raise DataError(f"`{where}`: label {label!r} does not occur in y")
    return index[label]


# --- weights -----------------------------------------------------------------------------------------------


def row_weights(
    sample_weight: Any, class_weight: ClassWeight, classes: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Weight of each row, times the weight of its class (default: 1): (N,), float64."""
    weights = np.ones(len(targets)) if sample_weight is None else np.array(column(sample_weight), dtype=np.float64)
    if weights.shape != (len(targets),):
        raise DataError(f"`sample_weight` has the shape {weights.shape}, but `X` has {len(targets)} rows")
    unusable = ~(weights >= 0) | np.isinf(weights)
    if unusable.any():
        position = int(unusable.argmax())
        raise DataError(f"`sample_weight[{position}]`: {weights[position]} is not a finite number of at least 0")
    if not weights.any():
        raise DataError("`sample_weight`: all weights are zero")
    if class_weight is None:
        return weights
    of_classes = _of_classes(class_weight, classes, targets, weights)
    weighted: np.ndarray = weights * of_classes[targets]
    return weighted


def used_rows(targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rows with a weight above 0: (N,), bool."""
    used: np.ndarray = weights > 0
    if targets.ndim == 1 and len(np.unique(targets[used])) < 2:
        raise DataError("`y` needs rows of at least two different classes with a weight above 0")
    return used


def _of_classes(
    class_weight: ClassWeight, classes: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Weight of each class, (C,)."""
    if targets.ndim > 1:
        raise UsageError("`class_weight` supports only one label per row; give `sample_weight`")
    if class_weight == "balanced":
        sums = np.bincount(targets, weights, len(classes))
        balanced: np.ndarray = np.zeros(len(classes))
        np.divide(sums.sum(), (sums > 0).sum() * sums, out=balanced, where=sums > 0)
        return balanced
    if not isinstance(class_weight, Mapping):
        raise UsageError(
            f"`class_weight`: {class_weight!r} is neither None, 'balanced' nor a mapping of label to weight"
        )
    index, result = _index(classes), np.ones(len(classes))
    complete = all(label in class_weight for label in index)  # a part of the data may lack a rare label
    value: Any
    for label, value in class_weight.items():
        if label not in index and not complete:
            raise UsageError(f"`class_weight`: label {label!r} does not occur in y")
        if not (isinstance(value, Real) and 0 <= float(value) < np.inf):
            raise UsageError(f"`class_weight`: {value!r} for {label!r} is not a finite number of at least 0")
        if label in index:
            result[index[label]] = value
    return result


def normalized(weights: np.ndarray) -> np.ndarray | None:
    """Weights with mean 1 as training takes them, float32; None if all are equal."""
    if (weights == weights[0]).all():
        return None
    scaled: np.ndarray = (weights / weights.mean()).astype(np.float32)
    return scaled


# --- validation rows ---------------------------------------------------------------------------------------


def validation_rows(rows: Sequence[Hashable], targets: np.ndarray, seed: int) -> np.ndarray:
    """Choose a tenth of the rows for validation, stratified, equal rows together: (N,), bool.

    A row with several labels counts for its rarest. No row is chosen if no label has two different rows.
    """
    held = held_out(rows, rarest_label(targets).tolist(), VALID_FRACTION, seed)
    return np.array([row in held for row in rows])
