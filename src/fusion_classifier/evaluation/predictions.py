"""The predictions of a run as a Parquet table: a row a text and seed.

split, seed, row       where the text stands
text_hash              32 hexadecimal digits, the store's name of the text (the text itself is not kept)
label, predicted       names
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

    `hashes` N of 32 hexadecimal digits; `labels` (N,), int64; `by_seed` probabilities (N, C), float32.
    """

    split: str
    hashes: Sequence[str]
    labels: np.ndarray
    by_seed: dict[int, np.ndarray]


def write_predictions(parts: Sequence[SplitPredictions], names: Sequence[str], path: Path) -> None:
    """Write the predictions of all splits."""
    tables = [_table(part, seed, names) for part in parts for seed in part.by_seed]
    pq.write_table(pa.concat_tables(tables), path)


def _table(part: SplitPredictions, seed: int, names: Sequence[str]) -> pa.Table:
    probabilities = part.by_seed[seed].astype(np.float32)
    count, width = probabilities.shape
    labels = pa.array(names)
    columns = {
        "split": pa.array([part.split] * count),
        "seed": pa.array([seed] * count, pa.int64()),
        "row": pa.array(np.arange(count), pa.int64()),
        "text_hash": pa.array(part.hashes),
        "label": labels.take(pa.array(part.labels)),
        "predicted": labels.take(pa.array(probabilities.argmax(1))),
        "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), width),
    }
    return pa.table(columns).replace_schema_metadata({"labels": json.dumps(list(names))})
