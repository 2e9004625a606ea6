"""Rows of Parquet files, in constant memory."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from fusion_classifier.errors import DataError
from fusion_classifier.tasks.loaded import RowPlace
from fusion_classifier.tasks.row import Row, check_unique, has_field
from fusion_classifier.tasks.saved_dataset import class_names, with_names

PARQUET_BATCH = 4096  # rows converted to Python values at once; pyarrow's own 65,536 take tens of megabytes


def parquet_rows(path: Path, columns: Collection[str] | None) -> Iterator[Row]:
    """The rows with these columns and the names of classes; by default all columns, as they are stored."""
    import pyarrow as pa  # noqa: PLC0415 - slow to import, and only this format needs it
    import pyarrow.parquet as pq  # noqa: PLC0415

    from fusion_classifier.support.parquet import check_claims, max_bytes, too_large  # noqa: PLC0415

    number = taken = 0
    try:
        schema = pq.read_schema(path)
        # A value that is stored once for many rows stays one in memory.
        strings = [field.name for field in schema if pa.types.is_string(field.type)]
        with pq.ParquetFile(path, read_dictionary=strings) as table:
            most = max_bytes(path)
            check_claims(path, table.metadata)
            check_unique(schema.names, str(path))
            classes = {} if columns is None else class_names(schema)
            # Only the required columns: others may have values that Python can't represent (such as year 10,000).
            chosen = [name for name in schema.names if columns is None or has_field(name, columns)]
            # One row group per call: Arrow first reads the compressed columns of all that it is asked for.
            for group in range(table.num_row_groups):
                for batch in table.iter_batches(PARQUET_BATCH, row_groups=[group], columns=chosen):
                    batch.validate(full=True)  # in a damaged file an index may be outside the dictionary
                    values = [_shared_values(part) for part in batch.columns]
                    for cells in zip(*values, strict=True) if values else [()] * len(batch):
                        taken += sum(len(value) for value in cells if isinstance(value, str))
                        if taken > most:
                            raise too_large(path, f"rows up to {number:,} contain {taken:,} characters")
                        row = dict(zip(batch.schema.names, cells, strict=True))
                        yield Row(RowPlace(str(path), number), with_names(row, classes), schema.names)
                        number += 1
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path}, from row {number} on: not a readable Parquet file ({error})") from error


def _shared_values(part: Any) -> list[object]:
    """The values of an Arrow array; equal values of a dictionary are one object."""
    if not hasattr(part, "dictionary"):
        return list(part.to_pylist())
    known = part.dictionary.to_pylist()
    return [None if index is None else known[index] for index in part.indices.to_pylist()]
