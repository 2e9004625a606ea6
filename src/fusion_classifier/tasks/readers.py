"""Rows and texts of CSV, TSV, JSONL and Parquet files, read one by one in constant memory."""

import csv
import json
import math
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion_classifier.errors import DataError, RowError
from fusion_classifier.support.files import user_path
from fusion_classifier.support.text import surrogate_position
from fusion_classifier.tasks.loaded import Place

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
LONGEST_FIELD = 2**31 - 1  # characters; the csv module's own limit is 131,072
PARQUET_BATCH = 4096  # rows converted to Python values at once; pyarrow's own 65,536 take tens of megabytes
# First bytes of files that are not text in UTF-8: what they are, and the way out.
OTHER_FILES = {
    b"\xff\xfe": ("text in UTF-16", "save it as UTF-8, or iconv -f UTF-16 -t UTF-8"),
    b"\x1f\x8b": ("compressed by gzip", "unpack it by gunzip"),
    b"PK\x03\x04": ("a zip archive or a spreadsheet", "unpack it, or save the sheet as CSV UTF-8"),
}
REMOVE = "fix or remove the row"
_csv_limit = threading.Lock()


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table; `header` is None if rows name their own columns."""

    place: Place
    values: Mapping[str, object]
    header: Collection[str] | None = None

    @property
    def columns(self) -> Collection[str]:
        """Names of all columns."""
        return self.values if self.header is None else self.header


def read_rows(path: Path, columns: Collection[str] | None, header: Sequence[str] | None = None) -> Iterator[Row]:
    """The rows of a CSV, TSV, JSONL or Parquet file in order, with at least the values of these columns.

    Args:
        path: the file.
        columns: names of the columns that are needed; None: all.
        header: names of a CSV's columns. Default: None, its first line.
    """
    _check_file(path)
    ending = path.suffix.lower()
    if ending == ".parquet":
        return _parquet_rows(path, columns)
    if ending == ".jsonl":
        return _jsonl_rows(path)
    if ending in (".csv", ".tsv"):
        return _csv_rows(path, "\t" if ending == ".tsv" else _separator(path), header)
    raise DataError(f"{path}: can't read {ending or 'a file without an ending'}; use one of {', '.join(ENDINGS)}")


def _check_file(path: Path) -> None:
    if not user_path(str(path)).exists():
        raise DataError(f"{path}: no such file")
    if not path.is_file():  # files are read more than once, and reading a pipe would block
        raise DataError(f"{path}: is a folder, a pipe or a device, not a file")


def utf8_lines(path: Path, newline: str | None = None) -> Iterator[str]:
    """The lines of a text file, without a byte order mark; `newline` as for `open`."""
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as file:
            yield from file
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from error


def _not_utf8(path: Path) -> DataError:
    with path.open("rb") as raw:
        beginning = raw.read(4)
        for bytes_, (what, way_out) in OTHER_FILES.items():
            if beginning.startswith(bytes_):
                return DataError(f"{path}: is {what}, not text in UTF-8; {way_out}")
        raw.seek(0)
        # The error that was caught names the position in a block of the file only.
        for number, line in enumerate(raw, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return DataError(
                    f"{path}, line {number}: not UTF-8 (byte 0x{line[error.start]:02x}); save the file as UTF-8 "
                    "(in a spreadsheet: CSV UTF-8; else iconv -f LATIN1 -t UTF-8)"
                )
    return DataError(f"{path}: changed while it was read; run the same command again")


def _csv_lines(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The first line's number and the fields of each row; blank lines are skipped."""
    reader = csv.reader(utf8_lines(path, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        while (cells := _next_row(reader)) is not None:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: {error}; look for a stray quote") from error


def _next_row(reader: Iterator[list[str]]) -> list[str] | None:
    with _csv_limit:  # the module's limit is that of the whole process: leave it as it was
        before = csv.field_size_limit(LONGEST_FIELD)
        try:
            return next(reader, None)
        finally:
            csv.field_size_limit(before)


def _separator(path: Path) -> str:
    """The first of comma, semicolon (of spreadsheets with a decimal comma) and tab that the header contains."""
    header = next(utf8_lines(path, newline=""), "")
    with suppress(csv.Error):
        for separator in (",", ";", "\t"):
            if len(_next_row(csv.reader([header], delimiter=separator)) or ()) > 1:
                return separator
    return ","


def _csv_rows(path: Path, delimiter: str, header: Sequence[str] | None) -> Iterator[Row]:
    rows = _csv_lines(path, delimiter)
    if header is None:
        line, header = next(rows, (1, []))
        if line > 1 or not any(name.strip() for name in header):
            raise DataError(f"{path}: is empty or has an empty first line; the first line must name the columns")
        _check_unique(header, f"{path}, line 1")
    for number, (line, cells) in enumerate(rows):
        if len(cells) != len(header):
            raise DataError(
                f"{path}, line {line}: {len(cells)} fields where there are {len(header)} columns; "
                "put quotes around a field that contains the separator"
            )
        yield Row(Place(str(path), number, line), dict(zip(header, cells, strict=True)), header)


def _check_unique(columns: Sequence[str], where: str) -> None:
    for name in columns:
        if columns.count(name) > 1:
            raise DataError(f"{where}: column {name!r} is duplicated")


def _jsonl_rows(path: Path) -> Iterator[Row]:
    # Not splitlines(): a JSON string may contain U+2028 and its like unescaped.
    row = 0
    for number, line in enumerate(utf8_lines(path, newline="\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            what = getattr(error, "msg", error)  # without the position, whose "line 1" would be taken for the file's
            raise DataError(f"{path}, line {number}: not JSON ({what})") from error
        if not isinstance(values, dict):
            raise DataError(f'{path}, line {number}: not a JSON object such as {{"text": …, "label": …}}')
        yield Row(Place(str(path), row, number), values)
        row += 1


def _parquet_rows(path: Path, columns: Collection[str] | None) -> Iterator[Row]:
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
            _check_unique(schema.names, str(path))
            # Not more columns than are needed: another may hold what Python can't (a time beyond its calendar).
            chosen = [name for name in schema.names if columns is None or name in columns]
            # One row group per call: Arrow first reads the compressed columns of all that it is asked for.
            for group in range(table.num_row_groups):
                for batch in table.iter_batches(PARQUET_BATCH, row_groups=[group], columns=chosen):
                    batch.validate(full=True)  # in a damaged file an index may be outside the dictionary
                    values = [_shared_values(part) for part in batch.columns]
                    for cells in zip(*values, strict=True) if values else [()] * len(batch):
                        taken += sum(len(value) for value in cells if isinstance(value, str))
                        if taken > most:
                            raise too_large(path, f"rows up to {number:,} make {taken:,} characters")
                        row = dict(zip(batch.schema.names, cells, strict=True))
                        yield Row(Place(str(path), number), row, schema.names)
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


def column(row: Row, name: str, parameter: str) -> object:
    """The value of a column, or an error that names the existing ones and the parameter that chooses it."""
    if name in row.values:
        return row.values[name]
    where = row.place if row.header is None else row.place.file
    raise DataError(f"{where}: no column {name!r} (there: {', '.join(map(repr, row.columns))}); set `{parameter}`")


def checked_text(value: object, place: object) -> str:
    """The text, unchanged, or an error that begins with `place` if it is none or blank."""
    if not isinstance(value, str):
        raise RowError(place, f"the text is {value!r}, not a string", REMOVE, missing=is_missing(value))
    if not value.strip():
        raise RowError(place, "the text is empty", REMOVE, missing=True)
    return encodable(value, place, "text")


def is_missing(value: object) -> bool:
    """Whether a value is None or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def encodable(value: str, place: object, what: str) -> str:
    """The string, or an error if UTF-8 can't encode it."""
    if at := surrogate_position(value):
        raise RowError(place, f"the {what} has half a surrogate pair at character {at}", REMOVE)
    return value


def given_text(value: object, place: object) -> str | None:
    """A text to classify, unchanged; None if it is missing or blank."""
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        return None
    return checked_text(value, place)


def given_rows(path: Path, text_column: str) -> Iterator[tuple[Mapping[str, object], str | None]]:
    """The rows of a file with all their columns, and their texts: a column of a table, or the lines of a .txt."""
    for row in _all_rows(path):
        name = "text" if path.suffix.lower() == ".txt" else text_column
        yield row.values, given_text(column(row, name, "text_column"), row.place)


def given_columns(path: Path) -> dict[str, Any]:
    """The columns of a file that has the same in all rows, with their types in Parquet; None: those of the values."""
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet as pq  # noqa: PLC0415 - slow to import, and only this format needs it

        next(_all_rows(path, ()), None)  # checks the file
        schema = pq.read_schema(path)
        return dict(zip(schema.names, schema.types, strict=True))
    first = next(_all_rows(path), None)
    return {} if first is None else dict.fromkeys(map(str, first.columns))


def texts_of(path: Path, text_column: str) -> Iterator[str]:
    """The texts of a file one by one: a column of a table, or the lines of a .txt.

    Raises:
        DataError: The file can't be read, or a text is missing.
    """
    for row in _all_rows(path, (text_column,)):
        name = "text" if path.suffix.lower() == ".txt" else text_column
        yield checked_text(column(row, name, "text_column"), row.place)


def _all_rows(path: Path, columns: Collection[str] | None = None) -> Iterator[Row]:
    """The rows of a table, or the lines of a .txt."""
    if path.suffix.lower() != ".txt":
        yield from read_rows(path, columns)
        return
    _check_file(path)
    for number, line in enumerate(utf8_lines(path), start=1):
        yield Row(Place(str(path), number - 1, number), {"text": line.rstrip("\n")}, ("text",))
