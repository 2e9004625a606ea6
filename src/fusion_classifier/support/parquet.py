"""How much a Parquet file may hold, unpacked: compression and dictionaries let a kilobyte claim a terabyte."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fusion_classifier.errors import DataError

SMALL = 2**28  # bytes, whatever the size of the file
MOST_EXPANSION = 1000  # times its size
ROW_BYTES = 100  # that a row takes at least


def most_bytes(path: Path) -> int:
    """What a file of this size may hold."""
    return max(SMALL, MOST_EXPANSION * path.stat().st_size)


def check_claims(path: Path, metadata: pq.FileMetaData) -> None:
    """See that the footer claims no more than a file of this size may hold.

    Raises:
        DataError: it does.
    """
    # Not the columns' own sizes: asked for a column of a damaged footer, Arrow ends the process.
    rows, groups = metadata.num_rows, map(metadata.row_group, range(metadata.num_row_groups))
    size = sum(group.total_byte_size for group in groups)
    if max(rows * ROW_BYTES, size) > most_bytes(path):
        raise too_large(path, f"it claims {rows:,} rows and {size:,} bytes")


def too_large(path: Path, claim: str) -> DataError:
    """The error for what a file claims or turns out to hold."""
    return DataError(
        f"{path}: {claim}, and a file of {path.stat().st_size:,} bytes is read up to {most_bytes(path):,}; it is "
        "damaged or made to fill the memory, or else write it as .jsonl"
    )


def read_whole(path: Path) -> pa.Table:
    """The table of a file.

    Raises:
        DataError: it would take more memory than a file of this size may.
        OSError, ValueError, pa.ArrowException: it can't be read.
    """
    with pq.ParquetFile(path) as file:
        check_claims(path, file.metadata)
        leaves = [file.schema.column(i).path for i in range(len(file.schema.names))]
    # Strings that stand there once for many rows stay one in memory, until it is known what they come to.
    for column in pq.read_table(path, partitioning=None, read_dictionary=leaves).columns:
        for part in column.chunks:
            inner = part.flatten() if pa.types.is_list(part.type) else part
            if not pa.types.is_dictionary(inner.type):
                continue
            longest = pc.max(pc.binary_length(inner.dictionary)).as_py() or 0
            if longest * len(inner) > most_bytes(path):
                raise too_large(path, f"{len(inner):,} values of up to {longest:,} bytes")
    return pq.read_table(path, partitioning=None)
