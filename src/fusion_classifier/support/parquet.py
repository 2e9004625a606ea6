"""Limits on the uncompressed size of a Parquet file: a kilobyte can claim to hold a terabyte."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fusion_classifier.errors import DataError

MIN_LIMIT = 2**28  # bytes that any file may unpack to
MAX_EXPANSION = 1000  # times the file's size
ROW_BYTES = 100  # minimum memory per row


def max_bytes(path: Path) -> int:
    """Maximum uncompressed size, in bytes, for a file of this size."""
    return max(MIN_LIMIT, MAX_EXPANSION * path.stat().st_size)


def check_claims(path: Path, metadata: pq.FileMetaData) -> None:
    """Check the footer against the limit."""
    # Not the columns' own sizes: reading a column of a damaged footer crashes the process.
    rows, groups = metadata.num_rows, map(metadata.row_group, range(metadata.num_row_groups))
    size = sum(group.total_byte_size for group in groups)
    if max(rows * ROW_BYTES, size) > max_bytes(path):
        raise too_large(path, f"it claims {rows:,} rows and {size:,} bytes")


def too_large(path: Path, claim: str) -> DataError:
    """The error for a file over the limit."""
    return DataError(
        f"{path}: {claim}, but a file of {path.stat().st_size:,} bytes may unpack to at most {max_bytes(path):,}; "
        "it is damaged or malicious; if neither, write it as .jsonl"
    )


def read_whole(path: Path) -> pa.Table:
    """Read a file.

    Raises:
        DataError: It unpacks to more than a file of this size may.
        OSError, ValueError, pa.ArrowException: It can't be read.
    """
    with pq.ParquetFile(path) as file:
        check_claims(path, file.metadata)
        leaves = [file.schema.column(i).path for i in range(len(file.schema.names))]
    # Read as dictionaries, repeated strings are stored once; only then is their full size known.
    for column in pq.read_table(path, partitioning=None, read_dictionary=leaves).columns:
        for part in column.chunks:
            inner = part.flatten() if pa.types.is_list(part.type) else part
            if not pa.types.is_dictionary(inner.type):
                continue
            longest = pc.max(pc.binary_length(inner.dictionary)).as_py() or 0
            if longest * len(inner) > max_bytes(path):
                raise too_large(path, f"{len(inner):,} values of up to {longest:,} bytes")
    return pq.read_table(path, partitioning=None)
