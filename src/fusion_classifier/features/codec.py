"""Features as rows of Arrow tables, with a checksum each, and back."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from xxhash import xxh3_64_intdigest

from fusion_classifier.features import hashing
from fusion_classifier.features.arrays import Features, FeatureShape, PooledFeatures, TokenFeatures

FLOAT16_MAX = float(np.finfo(np.float16).max)
COLUMNS = ["text_hash", "feature", "wide", "checksum"]
MOST_NAMED = 5  # damaged rows in a block
READ_ROWS = 4096  # most rows fetched at once: bounds what a read needs beside its result
READ_BYTES = 2**24  # of their features: memory of larger reads is cleared by the system each time (docs/results.md)


def bytes_on_disk(dataset: Any) -> int:
    """Size of the features on the disk."""
    return sum(file.file_size_bytes or 0 for part in dataset.get_fragments() for file in part.data_files())


def shape_in(schema: pa.Schema) -> tuple[tuple[int, ...], bool]:
    described = json.loads(schema.metadata[b"fec.shape"])
    return tuple(described["shape"]), bool(described["ragged"])


def to_table(
    hashes: np.ndarray, block: np.ndarray, counts: list[int], shape: FeatureShape, schema: pa.Schema
) -> pa.Table:
    """Rows of the dataset.

    Args:
        hashes: (N,).
        block: the features one after another, (all vectors, width); float32 or int8.
        counts: vectors of each text, N; 1 unless ragged.
        shape: of the encoder.
        schema: of the dataset.
    """
    ends = np.cumsum(counts)
    texts = [block[end - count : end] for end, count in zip(ends, counts, strict=True)]
    if block.dtype == np.int8:
        wide: list[np.ndarray | None] = [None] * len(texts)
        values = pa.array(block.ravel(), pa.int8())
    else:
        # torch converts to float16 several times faster than numpy.
        narrow = torch.from_numpy(block)
        low, high = narrow.aminmax()
        overflows = max(-float(low), float(high)) > FLOAT16_MAX
        wide = [text.ravel() if overflows and np.abs(text).max() > FLOAT16_MAX else None for text in texts]
        if overflows:
            narrow = narrow.clamp(-FLOAT16_MAX, FLOAT16_MAX)
        values = pa.array(narrow.half().numpy().ravel(), pa.float16())
    column = pa.FixedSizeListArray.from_arrays(values, block.shape[1])
    if shape.ragged:
        column = pa.ListArray.from_arrays(pa.array(np.concatenate([[0], ends]).astype(np.int32)), column)
    sums = checksums(hashes, values.to_numpy(), np.concatenate([[0], ends]) * block.shape[1], wide)
    columns = [hashing.to_arrow(hashes), column, pa.array(wide, pa.list_(pa.float32())), pa.array(sums)]
    return pa.Table.from_arrays(columns, schema=schema)


def read_rows(dataset: Any, rows: np.ndarray) -> Features:
    """Features of rows, given in rising order, a block at a time."""
    shape, ragged = shape_in(dataset.schema)
    blocks: list[Features] = []
    text_bytes = bytes_on_disk(dataset) / max(dataset.count_rows(), 1)
    size = int(min(max(READ_BYTES // max(text_bytes, 1), 1), READ_ROWS))
    for start in range(0, len(rows), size):
        table = dataset.take(rows[start : start + size].tolist(), columns=COLUMNS)
        blocks.append(_block(table, shape, ragged))
    if not blocks:
        empty = np.empty((0, *shape), dtype=np.float16)
        return TokenFeatures(empty, np.zeros(1, dtype=np.int64)) if ragged else PooledFeatures(empty)
    values = np.concatenate([block.values for block in blocks])  # float32 if any block is
    if not ragged:
        return PooledFeatures(values)
    lengths = np.concatenate([block.lengths for block in blocks if isinstance(block, TokenFeatures)])
    return TokenFeatures(values, np.concatenate([[0], np.cumsum(lengths)]))


def _block(table: pa.Table, shape: tuple[int, ...], ragged: bool) -> Features:
    """The features of some rows.

    Raises:
        ValueError: one of them is not what was written.
    """
    values, ends, wide = _parts(table, ragged)
    damaged = checksums(hashing.from_arrow(table["text_hash"]), values, ends, wide) != table["checksum"].to_numpy()
    if damaged.any():
        raise ValueError(f"{int(damaged.sum()):,} of {len(table):,} rows do not fit their checksums")
    width = int(np.prod(shape))
    values, offsets = values.reshape(-1, *shape), ends // width
    if any(exact is not None for exact in wide):
        values = values.astype(np.float32)
        for row, exact in enumerate(wide):
            if exact is not None:
                values[offsets[row] : offsets[row + 1]] = exact.reshape(-1, *shape)
    return TokenFeatures(values, offsets) if ragged else PooledFeatures(values)


def _parts(table: pa.Table, ragged: bool) -> tuple[np.ndarray, np.ndarray, list[np.ndarray | None]]:
    """What rows hold: all values, flat; where each row begins and ends in them, (N + 1,); what float16 can't hold.

    Raises:
        ValueError: a row without a feature.
    """
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
    """A checksum of each row, (N,), uint64: XXH3, which notices accidents, not forgeries, at many GB a second.

    Args:
        hashes: (N,), of the texts.
        values: of all rows, flat.
        ends: where each row begins and ends in them, (N + 1,).
        wide: of each row, what float16 can't hold.
    """
    data = np.ascontiguousarray(values).view(np.uint8).data
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


def find_faults(table: pa.Table, shape: tuple[int, ...], ragged: bool) -> Iterator[str]:
    """What is wrong with some rows."""
    values, ends, wide = _parts(table, ragged)
    hashes = hashing.from_arrow(table["text_hash"])
    damaged = checksums(hashes, values, ends, wide) != table["checksum"].to_numpy(zero_copy_only=False)
    for name in hashing.hexadecimal(hashes[damaged][:MOST_NAMED]):
        yield f"the row of text {name} does not fit its checksum"
    if damaged.sum() > MOST_NAMED:
        yield f"and {int(damaged.sum()) - MOST_NAMED:,} more rows near it do not"
    if not all(np.isfinite(part).all() for part in (values, *(one for one in wide if one is not None))):
        yield "NaN or infinity in a feature"
    if len(values) != ends[-1] or (not ragged and len(values) != len(table) * int(np.prod(shape))):
        yield "rows of a wrong size"
