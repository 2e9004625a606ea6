"""Conversion between features and rows of Arrow tables, each with a checksum."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from xxhash import xxh3_64_intdigest

from fusion_classifier.features import hashing
from fusion_classifier.features.arrays import Features, FeatureShape, PooledFeatures, TokenFeatures

FLOAT16_MAX = float(np.finfo(np.float16).max)
HASH_TYPE = pa.binary(hashing.HASH_BYTES)
COLUMNS = ["text_hash", "feature", "wide", "checksum"]
MAX_SHOWN = 5  # damaged rows per block
READ_ROWS = 4096  # rows read at once: bounds the additional memory of a read
READ_BYTES = (
    2**24
)  # of features read at once: the system zeroes the memory of larger reads each time (docs/notebook/speed.md)


def bytes_on_disk(dataset: Any) -> int:
    """Size of the features on disk."""
    return sum(file.file_size_bytes or 0 for part in dataset.get_fragments() for file in part.data_files())


def schema_of(shape: FeatureShape, dtype: np.dtype[Any], metadata: Mapping[str, str]) -> pa.Schema:
    """Schema of a dataset for features of this shape, float or int8."""
    flat = pa.list_(pa.int8() if dtype == np.int8 else pa.float16(), int(np.prod(shape.shape)))
    fields = [
        ("text_hash", HASH_TYPE),
        ("feature", pa.list_(flat) if shape.ragged else flat),
        ("wide", pa.list_(pa.float32())),
        ("checksum", pa.uint64()),
    ]
    described = json.dumps({"shape": list(shape.shape), "ragged": shape.ragged})
    return pa.schema(fields, metadata={**metadata, "fec.shape": described})


def shape_in(schema: pa.Schema) -> FeatureShape:
    """Shape of the features of a dataset."""
    described = json.loads(schema.metadata[b"fec.shape"])
    return FeatureShape(tuple(described["shape"]), bool(described["ragged"]))


def to_table(
    hashes: np.ndarray, features: Sequence[np.ndarray], shape: FeatureShape, metadata: Mapping[str, str]
) -> pa.Table:
    """Rows of a dataset with this metadata; other arguments as in `EncoderFeatures.append`."""
    block = np.concatenate([feature.reshape(-1, int(np.prod(shape.shape))) for feature in features])
    ends = np.cumsum([len(feature) if shape.ragged else 1 for feature in features])
    wide: list[np.ndarray | None] = [None] * len(features)
    if block.dtype != np.int8:
        if max(-float(block.min()), float(block.max())) > FLOAT16_MAX:
            wide = [one.ravel() if np.abs(one).max() > FLOAT16_MAX else None for one in features]
            block = block.clip(-FLOAT16_MAX, FLOAT16_MAX)
        import torch  # noqa: PLC0415 - already loaded where features are computed; twice as fast as numpy

        block = torch.from_numpy(block).half().numpy()
    column = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), block.shape[1])
    if shape.ragged:
        column = pa.ListArray.from_arrays(pa.array(np.concatenate([[0], ends]).astype(np.int32)), column)
    sums = checksums(hashes, block, np.concatenate([[0], ends]) * block.shape[1], wide)
    names = pa.FixedSizeBinaryArray.from_buffers(HASH_TYPE, len(hashes), [None, pa.py_buffer(hashes.tobytes())])
    columns = [names, column, pa.array(wide, pa.list_(pa.float32())), pa.array(sums)]
    return pa.Table.from_arrays(columns, schema=schema_of(shape, block.dtype, metadata))


def hashes_in(table: pa.Table) -> np.ndarray:
    """Hashes of a table's rows: (N,), dtype S16."""
    parts = [np.empty(0, dtype=hashing.HASH_DTYPE)]
    for chunk in table["text_hash"].chunks:
        parts.append(hashing.from_bytes(chunk.buffers()[1])[chunk.offset : chunk.offset + len(chunk)])
    return np.concatenate(parts)


def read_rows(dataset: Any, rows: np.ndarray) -> Features:
    """Features of rows, given in ascending order, read in blocks."""
    shape = shape_in(dataset.schema)
    blocks: list[Features] = []
    text_bytes = bytes_on_disk(dataset) / max(dataset.count_rows(), 1)
    size = int(min(max(READ_BYTES // max(text_bytes, 1), 1), READ_ROWS))
    for start in range(0, len(rows), size):
        table = dataset.take(rows[start : start + size].tolist(), columns=COLUMNS)
        blocks.append(_block(table, shape))
    if not blocks:
        empty = np.empty((0, *shape.shape), dtype=np.float16)
        return TokenFeatures(empty, np.zeros(1, dtype=np.int64)) if shape.ragged else PooledFeatures(empty)
    values = np.concatenate([block.values for block in blocks])  # float32 if any block is float32
    if not shape.ragged:
        return PooledFeatures(values)
    lengths = np.concatenate([block.lengths for block in blocks if isinstance(block, TokenFeatures)])
    return TokenFeatures(values, np.concatenate([[0], np.cumsum(lengths)]))


def _block(table: pa.Table, shape: FeatureShape) -> Features:
    """Features of some rows; ValueError if one does not match its checksum."""
    values, ends, wide = _parts(table, shape.ragged)
    damaged = checksums(hashes_in(table), values, ends, wide) != table["checksum"].to_numpy()
    if damaged.any():
        raise ValueError(f"{int(damaged.sum()):,} of {len(table):,} rows do not match their checksums")
    offsets, values = ends // int(np.prod(shape.shape)), values.reshape(-1, *shape.shape)
    if any(exact is not None for exact in wide):
        values = values.astype(np.float32)
        for row, exact in enumerate(wide):
            if exact is not None:
                values[offsets[row] : offsets[row + 1]] = exact.reshape(-1, *shape.shape)
    return TokenFeatures(values, offsets) if shape.ragged else PooledFeatures(values)


def _parts(table: pa.Table, ragged: bool) -> tuple[np.ndarray, np.ndarray, list[np.ndarray | None]]:
    """All values, flat; the boundaries of the rows in them, (N + 1,); each row's values outside the range of
    float16."""
    column, wide = table["feature"].combine_chunks(), table["wide"].combine_chunks()
    width = (column.type.value_type if ragged else column.type).list_size
    vectors = column.value_lengths().to_numpy(zero_copy_only=False) if ragged else np.ones(len(table), dtype=np.int64)
    if column.null_count or not (vectors > 0).all():
        raise ValueError("texts without a feature")
    values = (column.flatten() if ragged else column).flatten().to_numpy(zero_copy_only=False)
    exact: list[np.ndarray | None] = [None] * len(table)
    for row in np.flatnonzero(wide.is_valid().to_numpy(zero_copy_only=False)):
        exact[row] = wide[int(row)].values.to_numpy()
    return values, np.concatenate([[0], np.cumsum(vectors, dtype=np.int64)]) * width, exact


def checksums(
    hashes: np.ndarray, values: np.ndarray, ends: np.ndarray, wide: Sequence[np.ndarray | None]
) -> np.ndarray:
    """Checksum of each row, (N,), uint64: XXH3, which detects accidental damage, not forgery, at many GB per second.

    Args:
        hashes: Hashes of the texts, (N,).
        values: Values of all rows.
        ends: Boundaries of the rows in the flat values, (N + 1,).
        wide: Each row's values outside the range of float16.
    """
    data = np.ascontiguousarray(values).view(np.uint8).reshape(-1).data
    places = (ends * values.itemsize).tolist()
    names = np.ascontiguousarray(hashes).view(np.uint8).data
    sums = np.empty(len(hashes), dtype=np.uint64)
    for row in range(len(hashes)):
        seed = xxh3_64_intdigest(names[row * hashing.HASH_BYTES : (row + 1) * hashing.HASH_BYTES])
        exact = wide[row]
        if exact is not None:
            seed = xxh3_64_intdigest(np.ascontiguousarray(exact).tobytes(), seed)
        sums[row] = xxh3_64_intdigest(data[places[row] : places[row + 1]], seed)
    return sums


def find_faults(table: pa.Table, shape: FeatureShape) -> Iterator[str]:
    """Problems of some rows."""
    values, ends, wide = _parts(table, shape.ragged)
    hashes = hashes_in(table)
    damaged = checksums(hashes, values, ends, wide) != table["checksum"].to_numpy(zero_copy_only=False)
    for name in hashing.hexadecimal(hashes[damaged][:MAX_SHOWN]):
        yield f"the row of text {name} does not match its checksum"
    if damaged.sum() > MAX_SHOWN:
        yield f"and {int(damaged.sum()) - MAX_SHOWN:,} more rows near it do not"
    if not all(np.isfinite(part).all() for part in (values, *(one for one in wide if one is not None))):
        yield "NaN or infinity in a feature"
    if len(values) != ends[-1] or (not shape.ragged and len(values) != len(table) * int(np.prod(shape.shape))):
        yield "rows of the wrong size"
