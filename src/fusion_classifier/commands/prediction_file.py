"""Writes rows as CSV, JSONL or Parquet, in constant memory."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion_classifier.errors import DataError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

# pyarrow is imported on use: a single text from the command line does not need it.
# ruff: noqa: PLC0415

ENDINGS = (".csv", ".jsonl", ".parquet")
PARQUET_ROWS = 16384  # rows per row group
Write = Callable[[list[dict[str, Any]]], None]


def check_out(out: Path, file: Path) -> None:
    """Check that a file can be written."""
    if out.suffix.lower() not in ENDINGS:
        raise UsageError(f"`out`: {out} must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    if out.is_dir():
        raise UsageError(f"`out`: {out} is a folder; give a file")
    if out.exists() and file.exists() and out.samefile(file):
        raise UsageError(f"`out`: {out} is the file with the texts; choose another name")


def as_line(value: Any) -> str:
    """A row, or one of its values, as a JSON line."""
    return json.dumps(value, ensure_ascii=False, default=str)


@contextmanager
def writer(path: Path, given: Mapping[str, "pa.DataType | None"], columns: Mapping[str, str]) -> Iterator[Write]:
    """Yield a function that writes rows to a new file in the format given by its extension.

    Args:
        path: The file.
        given: Columns of the input file with their Parquet types; None: inferred from the first values.
        columns: Columns of the answers with their types.
    """
    ending = path.suffix.lower()
    if ending == ".parquet":
        with _parquet_writer(path, given, columns) as write:
            yield write
    elif ending == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.DictWriter(file, [*given, *columns])
            rows.writeheader()
            yield lambda part: rows.writerows({name: _cell(value) for name, value in row.items()} for row in part)
    else:
        with path.open("w", encoding="utf-8", newline="\n") as file:
            yield lambda part: file.writelines(as_line(row) + "\n" for row in part)


def _cell(value: Any) -> Any:
    """A value in a CSV file: true, false and lists in JSON notation."""
    return as_line(value) if isinstance(value, bool | list | dict) else value


@contextmanager
def _parquet_writer(
    path: Path, given: Mapping[str, "pa.DataType | None"], columns: Mapping[str, str]
) -> Iterator[Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds: dict[str, pa.DataType] = {"string": pa.string(), "float": pa.float32(), "bool": pa.bool_()}
    kinds |= {f"list<{name}>": pa.list_(kind) for name, kind in kinds.items()}
    answers = {name: kinds[kind] for name, kind in columns.items()}
    waiting: list[dict[str, Any]] = []
    file: pq.ParquetWriter | None = None

    def write(rows: list[dict[str, Any]], least: int = PARQUET_ROWS) -> None:
        nonlocal file
        waiting.extend(rows)
        if len(waiting) < least:
            return
        try:
            if file is None:
                own = {
                    name: kind or pa.array([row.get(name) for row in waiting]).type for name, kind in given.items()
                }
                file = pq.ParquetWriter(path, pa.schema(own | answers))
            file.write_table(pa.Table.from_pylist(waiting, file.schema))
        except pa.ArrowException as error:
            raise DataError(
                f"`out`: a column with values of several types does not fit into Parquet ({error}); write to a "
                ".jsonl file"
            ) from error
        waiting.clear()

    try:
        yield write
        write([], least=0)
    finally:
        if file is not None:
            file.close()
