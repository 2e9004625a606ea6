"""The predictions of a run as a Parquet table: a row a text and seed.

split, seed, row       where the text stands
text_hash              32 hexadecimal digits, the store's name of the text (the text itself is not kept)
label, predicted       names; in a multi-label task lists of names
probabilities          list of C floats, in the order of the metadata field `labels` (JSON)
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fusion_classifier.errors import DataError, UsageError, reason
from fusion_classifier.support.parquet import read_whole

PREDICTIONS_FILE = "predictions.parquet"


@dataclass(frozen=True)
class SplitPredictions:
    """What every seed predicts for one split.

    `hashes` N of 32 hexadecimal digits; `labels` and, by seed, `answers`: (N,), int64, or in a multi-label task
    (N, C) of 0 and 1; `by_seed` probabilities (N, C), float32.
    """

    split: str
    hashes: Sequence[str]
    labels: np.ndarray
    by_seed: dict[int, np.ndarray]
    answers: dict[int, np.ndarray]

    def take(self, rows: np.ndarray) -> "SplitPredictions":
        """Some texts, by a mask (N,)."""
        hashes = [one for one, kept in zip(self.hashes, rows, strict=True) if kept]
        by_seed = {seed: values[rows] for seed, values in self.by_seed.items()}
        answers = {seed: values[rows] for seed, values in self.answers.items()}
        return SplitPredictions(self.split, hashes, self.labels[rows], by_seed, answers)


def write_predictions(parts: Sequence[SplitPredictions], names: Sequence[str], path: Path) -> None:
    """Write the predictions of all splits."""
    tables = [_table(part, seed, names) for part in parts for seed in part.by_seed]
    pq.write_table(pa.concat_tables(tables), path)


@dataclass(frozen=True)
class StoredPredictions:
    """What a table says of one split, texts in the order of their rows.

    `names` of the C labels; `rows` (N,), int64; `hashes` N of 32 hexadecimal digits; `labels` (N,), int64; by
    seed, `predicted` (N,), int64, and `probabilities` (N, C), float32. In a multi-label task `labels` and `predicted`
    are (N, C) of 0 and 1.
    """

    names: tuple[str, ...]
    rows: np.ndarray
    hashes: tuple[str, ...]
    labels: np.ndarray
    predicted: dict[int, np.ndarray]
    probabilities: dict[int, np.ndarray]


def read_predictions(path: Path, *, multilabel: bool = False) -> dict[str, StoredPredictions]:
    """The predictions of a run by split: what `write_predictions` has written. Further columns do not matter.

    Args:
        path: the table.
        multilabel: whether those of a multi-label task are welcome, too.

    Raises:
        DataError: the file is missing, damaged, or no such table; the message names field and row.
        UsageError: the predictions of a multi-label task, where they are not welcome.
    """
    try:
        table = read_whole(path)
        table.validate(full=True)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; `fec run` writes it") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{path}: can't be read ({reason(error)}); `fec run` in the same folder writes it anew"
        ) from error
    table = _checked_columns(path, table, multilabel=multilabel)
    names = _label_names(path, table)
    found = {}
    for split in pc.unique(table["split"]).to_pylist():
        found[split] = _stored(path, split, table.filter(pc.equal(table["split"], split)), names)
    if not found:
        raise DataError(f"{path}: has no rows; `fec run --overwrite` writes it anew")
    return found


def _checked_columns(path: Path, table: pa.Table, *, multilabel: bool) -> pa.Table:
    """The columns that are read, in their types."""
    several = [
        name
        for name in ("label", "predicted")
        if name in table.column_names and pa.types.is_list(table.schema.field(name).type)
    ]
    if several and not multilabel:
        raise UsageError(f"{path}: holds several labels a text; only runs with one label a text are read here")
    lists = dict.fromkeys(("label", "predicted"), pa.list_(pa.string())) if several else {}
    columns = {}
    for name, kind in (COLUMN_TYPES | lists).items():
        if table.column_names.count(name) != 1:
            raise DataError(f"{path}: no column {name!r}; is it the predictions of a run?")
        try:
            columns[name] = table[name].cast(kind)
        except pa.ArrowException as error:
            raise DataError(f"{path}: column {name!r} is {table.schema.field(name).type}, not {kind}") from error
        if columns[name].null_count:
            row = pc.index(columns[name].is_null(), True).as_py()
            raise DataError(f"{path}, row {row}: {name} is empty")
    return pa.table(columns).replace_schema_metadata(table.schema.metadata)


COLUMN_TYPES = {
    "split": pa.string(),
    "seed": pa.int64(),
    "row": pa.int64(),
    "text_hash": pa.string(),
    "label": pa.string(),
    "predicted": pa.string(),
    "probabilities": pa.list_(pa.float32()),
}


def _label_names(path: Path, table: pa.Table) -> tuple[str, ...]:
    try:
        names = json.loads((table.schema.metadata or {})[b"labels"])
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: does not say its labels (metadata field `labels`)") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
        raise DataError(f"{path}: its metadata field `labels` is not a list of different names")
    return tuple(names)


def _stored(path: Path, split: str, table: pa.Table, names: tuple[str, ...]) -> StoredPredictions:
    """One split, of which every seed must have the same texts and labels."""
    where = f"{path}, {split} split"
    first: tuple[list[int], list[str], list[Any]] | None = None
    predicted, probabilities = {}, {}
    for seed in sorted(pc.unique(table["seed"]).to_pylist()):
        part = table.filter(pc.equal(table["seed"], seed)).sort_by("row")
        try:
            true, given = (_indices(part[column], names, column) for column in ("label", "predicted"))
        except DataError as error:
            raise DataError(f"{where}, seed {seed}: {error}") from error
        texts = part["row"].to_pylist(), part["text_hash"].to_pylist(), true.tolist()
        if len({*texts[0]}) < len(texts[0]):
            raise DataError(f"{where}, seed {seed}: two predictions for one row")
        first = first or texts
        if texts != first:
            raise DataError(f"{where}: seed {seed} has other texts or labels than the seeds before it")
        lists = part["probabilities"].combine_chunks()
        flat = lists.flatten().to_numpy(zero_copy_only=False)
        if (
            len(flat) != len(part) * len(names)
            or pc.any(pc.not_equal(pc.list_value_length(lists), len(names))).as_py()
        ):
            raise DataError(f"{where}, seed {seed}: not {len(names)} probabilities a text, one a label")
        if not np.isfinite(flat).all():
            raise DataError(f"{where}, seed {seed}: NaN or infinity among the probabilities")
        predicted[seed] = given
        probabilities[seed] = flat.reshape(len(part), len(names))
    assert first is not None
    rows, hashes, labels = first
    return StoredPredictions(
        names, np.array(rows, np.int64), tuple(hashes), np.array(labels, np.int64), predicted, probabilities
    )


def _indices(column: pa.ChunkedArray, names: tuple[str, ...], what: str) -> np.ndarray:
    """Label indices of names, (N,), int64, or of lists of them (N, C) of 0 and 1."""
    array = column.combine_chunks()
    several = pa.types.is_list(array.type)
    found = pc.index_in(array.flatten() if several else array, pa.array(names, pa.string()))
    if found.null_count:
        unknown = (array.flatten() if several else array).filter(found.is_null())[0].as_py()
        raise DataError(f"{what} {unknown!r} is not among the table's labels")
    indices: np.ndarray = found.to_numpy(zero_copy_only=False).astype(np.int64)
    if not several:
        return indices
    matrix = np.zeros((len(array), len(names)), np.int64)
    matrix[pc.list_parent_indices(array).to_numpy(), indices] = 1
    return matrix


def _table(part: SplitPredictions, seed: int, names: Sequence[str]) -> pa.Table:
    probabilities = part.by_seed[seed].astype(np.float32)
    count, width = probabilities.shape
    columns = {
        "split": pa.array([part.split] * count),
        "seed": pa.array([seed] * count, pa.int64()),
        "row": pa.array(np.arange(count), pa.int64()),
        "text_hash": pa.array(part.hashes),
        "label": _names(part.labels, names),
        "predicted": _names(part.answers[seed], names),
        "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), width),
    }
    return pa.table(columns).replace_schema_metadata({"labels": json.dumps(list(names))})


def _names(labels: np.ndarray, names: Sequence[str]) -> pa.Array:
    """Label names by index, or lists of them."""
    if labels.ndim == 1:
        return pa.array(names, pa.string()).take(pa.array(labels))
    lists = [[names[i] for i in np.flatnonzero(row).tolist()] for row in labels]
    return pa.array(lists, pa.list_(pa.string()))
