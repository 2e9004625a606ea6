"""Predictions of a run as a Parquet table with one row per text and seed.

split, seed
file, row, line        location of the text: row from 0, as in pandas, line from 1 (null in Parquet)
text_hash              32 hexadecimal digits, the store's key for the text (the text itself is not stored)
label, predicted       label names; in a multi-label task lists of names
probabilities          list of C floats, in the order of the metadata field `labels` (JSON)
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fusion_classifier.errors import DataError, UsageError, reason
from fusion_classifier.support.parquet import read_whole
from fusion_classifier.tasks.loaded import RowPlace

PREDICTIONS_FILE = "predictions.parquet"
REPORTED_SPLITS = ("test", "valid")
COLUMN_TYPES = {
    "split": pa.string(),
    "seed": pa.int64(),
    "file": pa.string(),
    "row": pa.int64(),
    "line": pa.int64(),
    "text_hash": pa.string(),
    "label": pa.string(),
    "predicted": pa.string(),
    "probabilities": pa.list_(pa.float32()),
}


@dataclass(frozen=True)
class SplitPredictions:
    """Predictions of every seed for one split.

    Label indices are (N,), int64; in a multi-label task they are (N, C) of 0 and 1.
    """

    split: str
    hashes: Sequence[str]
    """Hash of each text: N strings of 32 hexadecimal digits."""
    labels: np.ndarray
    """True labels."""
    by_seed: dict[int, np.ndarray]
    """Probabilities by seed, (N, C), float32."""
    answers: dict[int, np.ndarray]
    """Predicted labels by seed."""
    names: tuple[str, ...] = ()
    """Names of the C labels. Empty unless read from a file."""
    places: tuple[RowPlace, ...] = ()
    """Location of each text. Default: its position."""

    def __post_init__(self) -> None:
        if len(self.places) != len(self.labels):
            object.__setattr__(self, "places", tuple(RowPlace("", row) for row in range(len(self.labels))))

    def ensemble(self) -> np.ndarray:
        """Predict with all seeds together: label indices (N,), or multi-label (N, C) of 0 and 1.

        The most probable label by the mean over seeds. With offsets (macro F1) a seed's answer may differ from its
        most probable label: the probabilities of the two are exchanged before the mean, so that the answer counts
        as much as without offsets. Multi-label: the labels that more than half of the seeds predict.

        Not the majority vote: it can tie (two disagreeing seeds always do), and the rule for ties would affect
        comparisons.
        """
        if self.labels.ndim == 2:
            return np.asarray(np.mean(list(self.answers.values()), axis=0) > 0.5, dtype=np.int64)
        every, total = np.arange(len(self.labels)), np.zeros(())
        for seed, probabilities in self.by_seed.items():
            exchanged, answers = probabilities.astype(np.float64), self.answers[seed]
            best = exchanged.argmax(1)
            exchanged[every, best] = probabilities[every, answers]
            exchanged[every, answers] = probabilities[every, best]
            total = total + exchanged
        found: np.ndarray = total.argmax(1)
        return found

    def take(self, rows: np.ndarray) -> "SplitPredictions":
        """Select texts by a mask (N,)."""
        hashes, places = list(compress(self.hashes, rows)), tuple(compress(self.places, rows))
        by_seed = {seed: values[rows] for seed, values in self.by_seed.items()}
        answers = {seed: values[rows] for seed, values in self.answers.items()}
        return SplitPredictions(self.split, hashes, self.labels[rows], by_seed, answers, self.names, places)


def write_predictions(parts: Sequence[SplitPredictions], names: Sequence[str], path: Path) -> None:
    """Write the predictions of all splits."""
    tables = [_table(part, seed, names) for part in parts for seed in part.by_seed]
    pq.write_table(pa.concat_tables(tables), path)


def read_predictions(path: Path, *, multilabel: bool = False) -> dict[str, SplitPredictions]:
    """Read the predictions of a run by split. Additional columns are ignored.

    Args:
        path: File written by `write_predictions`.
        multilabel: Whether predictions of a multi-label task are accepted. Default: False.
    """
    try:
        table = read_whole(path)
        table.validate(full=True)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; choose a folder written by `fec run`") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(
            f"{path} can't be read ({reason(error)}); `fec run` in the same folder writes it again"
        ) from error
    table = _checked_columns(path, table, multilabel=multilabel)
    names = _label_names(path, table)
    splits = pc.unique(table["split"]).to_pylist()
    if not splits:
        raise DataError(f"{path} has no rows; delete it and run `fec run` again")
    return {split: _read_split(path, split, table.filter(pc.equal(table["split"], split)), names) for split in splits}


def reported_split(runs: Mapping[Path, Mapping[str, SplitPredictions]], split: str | None) -> str:
    """Return the split to report of run folders: the requested one, else test if all have it, else valid."""
    if split is not None and split not in REPORTED_SPLITS:
        raise UsageError(f"`split`: {split!r} is not one of {', '.join(REPORTED_SPLITS)}")
    for name in REPORTED_SPLITS if split is None else [split]:
        if all(name in parts for parts in runs.values()):
            return name
    there = "; ".join(f"{folder} has {', '.join(parts)}" for folder, parts in runs.items())
    raise DataError(f"there are no predictions for the {split or 'same'} split: {there}")


def _checked_columns(path: Path, table: pa.Table, *, multilabel: bool) -> pa.Table:
    """Return the columns that are read, with their types."""
    is_list = "label" in table.column_names and pa.types.is_list(table.schema.field("label").type)
    if is_list and not multilabel:
        raise UsageError(
            f"{path} contains several labels per text; only runs with one label per text are accepted here"
        )
    lists = dict.fromkeys(("label", "predicted"), pa.list_(pa.string())) if is_list else {}
    columns = {}
    for name, kind in (COLUMN_TYPES | lists).items():
        if table.column_names.count(name) != 1:
            raise DataError(f"{path}: no column {name!r}; is this the predictions file of a run?")
        try:
            columns[name] = table[name].cast(kind)
        except pa.ArrowException as error:
            raise DataError(f"{path}: column {name!r} is {table.schema.field(name).type}, not {kind}") from error
        if columns[name].null_count and name != "line":
            row = pc.index(columns[name].is_null(), True).as_py()
            raise DataError(f"{path}, row {row}: {name} is empty")
    return pa.table(columns).replace_schema_metadata(table.schema.metadata)


def _label_names(path: Path, table: pa.Table) -> tuple[str, ...]:
    try:
        names = json.loads((table.schema.metadata or {})[b"labels"])
    except (KeyError, ValueError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
        raise DataError(f"{path}: the metadata field `labels` is not a list of distinct names")
    return tuple(names)


def _read_split(path: Path, split: str, table: pa.Table, names: tuple[str, ...]) -> SplitPredictions:
    """Read one split, in which all seeds must have the same texts and labels."""
    found = SplitPredictions(split, (), np.empty(0), {}, {}, names)
    for seed in sorted(pc.unique(table["seed"]).to_pylist()):
        where = f"{path}, {split} split, seed {seed}"
        part = table.filter(pc.equal(table["seed"], seed)).sort_by([("file", "ascending"), ("row", "ascending")])
        read = zip(*(part[name].to_pylist() for name in ("file", "row", "line")), strict=True)
        places = tuple(RowPlace(file, row, line) for file, row, line in read)
        if len({(place.file, place.row) for place in places}) < len(places):
            raise DataError(f"{where}: a row of a file is duplicated in columns 'file' and 'row'")
        labels, answers = (_indices(where, part[column], names) for column in ("label", "predicted"))
        hashes = part["text_hash"].to_pylist()
        if not found.by_seed:
            found = SplitPredictions(split, tuple(hashes), labels, {}, {}, names, places)
        elif places != found.places or hashes != list(found.hashes) or not np.array_equal(labels, found.labels):
            raise DataError(f"{where} has different texts or labels from the seeds before it")
        lists = part["probabilities"].combine_chunks()
        flat = lists.flatten().to_numpy(zero_copy_only=False)
        if pc.any(pc.not_equal(pc.list_value_length(lists), len(names))).as_py():
            raise DataError(f"{where}: expected {len(names)} probabilities per text, one per label")
        if not np.isfinite(flat).all():
            raise DataError(f"{where}: NaN or infinity among the probabilities")
        found.answers[seed], found.by_seed[seed] = answers, flat.reshape(len(part), len(names))
    return found


def _indices(where: str, column: pa.ChunkedArray, names: tuple[str, ...]) -> np.ndarray:
    """Convert label names to indices, (N,), int64, and lists of names to (N, C) of 0 and 1."""
    array = column.combine_chunks()
    several = pa.types.is_list(array.type)
    flat = array.flatten() if several else array
    found = pc.index_in(flat, pa.array(names, pa.string()))
    if found.null_count:
        raise DataError(f"{where}: {flat.filter(found.is_null())[0].as_py()!r} is not among the labels of the table")
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
        "file": pa.array([place.file for place in part.places], pa.string()),
        "row": pa.array([place.row for place in part.places], pa.int64()),
        "line": pa.array([place.line for place in part.places], pa.int64()),
        "text_hash": pa.array(part.hashes),
        "label": _names(part.labels, names),
        "predicted": _names(part.answers[seed], names),
        "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), width),
    }
    return pa.table(columns).replace_schema_metadata({"labels": json.dumps(list(names))})


def _names(labels: np.ndarray, names: Sequence[str]) -> pa.Array:
    """Convert label indices to names, and rows of 0 and 1 to lists of names."""
    if labels.ndim == 1:
        return pa.array(names, pa.string()).take(pa.array(labels))
    lists = [[names[i] for i in np.flatnonzero(row).tolist()] for row in labels]
    return pa.array(lists, pa.list_(pa.string()))
