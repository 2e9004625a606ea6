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

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


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
