"""Reads rows of CSV, TSV, JSONL and Parquet files, and the texts of any of them."""

import codecs
import csv
import json
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fusion_classifier.errors import DataError
from fusion_classifier.support.files import user_path
from fusion_classifier.support.parquet import check_claims, most_bytes, too_large

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
READ_ROWS = 4096  # of Parquet, made Python values at once; pyarrow's own 65,536 take tens of megabytes


@dataclass(frozen=True)
class Row:
    """One row of a table: where it stands, its values by column, and the names of all columns."""

    where: str
    values: dict[str, object]
    columns: Collection[str]


def read_rows(path: Path, columns: Collection[str]) -> Iterator[Row]:
    """The rows of a CSV, TSV, JSONL or Parquet file, in order, with at least the values of these columns.

    Raises:
        DataError: the file can't be read, or a row has not the shape of its header.
    """
    ending = path.suffix.lower()
    if not user_path(str(path)).exists():
        raise DataError(f"{path}: no such file")
    if path.is_dir():
        raise DataError(f"{path}: is a folder, not a file")
    if not path.is_file():  # it is read more than once, and a pipe would be waited for
        raise DataError(f"{path}: is no regular file but a pipe or a device; save what it gives to a file")
    if ending == ".parquet":
        return _parquet_rows(path, columns)
    if ending == ".jsonl":
        return _jsonl_rows(path)
    if ending in (".csv", ".tsv"):
        return _csv_rows(path, "\t" if ending == ".tsv" else _separator(path))
    raise DataError(f"{path}: can't read {ending or 'a file without an ending'}; use one of {', '.join(ENDINGS)}")


def read_utf8(path: Path) -> str:
    """A whole text file; a byte order mark is dropped, line ends are kept."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from error
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, data.count(b"\n", 0, error.start) + 1, error) from error


def utf8_lines(path: Path, newline: str | None = None) -> Iterator[str]:
    """The lines of a text file one at a time, in constant memory; a byte order mark is dropped.

    Args:
        path: the file.
        newline: which line ends there are, and whether they are kept, as for `open`.

    Raises:
        DataError: the file can't be read, or at the line that is not UTF-8 or some lines before it.
    """
    try:
        with path.open(encoding="utf-8-sig", newline=newline) as file:
            yield from file
    except UnicodeDecodeError:
        # The position is one in a block of the file: look for the line.
        with path.open("rb") as raw:
            for number, line in enumerate(raw, start=1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise _not_utf8(path, number, error) from error
        raise DataError(f"{path}: changed while it was read; run the same command again") from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from error


# How files begin that are no text in UTF-8, by what they are and the way out.
OTHER_FILES = {
    b"\xff\xfe": ("text in UTF-16", "save it as UTF-8, or iconv -f UTF-16 -t UTF-8"),
    b"\xfe\xff": ("text in UTF-16", "save it as UTF-8, or iconv -f UTF-16 -t UTF-8"),
    b"\x1f\x8b": ("compressed by gzip", "unpack it by gunzip"),
    b"PK\x03\x04": ("a zip archive or a spreadsheet", "unpack it, or save the sheet as CSV UTF-8"),
    b"PAR1": ("a Parquet file", "name it .parquet"),
}


def _not_utf8(path: Path, line: int, error: UnicodeDecodeError) -> DataError:
    with path.open("rb") as raw:
        begins = raw.read(4)
    for beginning, (what, way_out) in OTHER_FILES.items():
        if begins.startswith(beginning):
            return DataError(f"{path}: is {what}, not text in UTF-8; {way_out}")
    return DataError(
        f"{path}, line {line}: not UTF-8 (byte 0x{error.object[error.start]:02x}); save the file as UTF-8 "
        "(in a spreadsheet: CSV UTF-8; else iconv -f LATIN1 -t UTF-8)"
    )


def _separator(path: Path) -> str:
    """What stands between the fields of a CSV file: a comma, unless the header has none and is cut by another.

    Spreadsheets write semicolons where the comma is the decimal sign.
    """
    header = next(utf8_lines(path, newline=""), "")
    with suppress(csv.Error):
        for separator in (",", ";", "\t"):
            if len(next(csv.reader([header], delimiter=separator), [])) > 1:
                return separator
    return ","


def _csv_rows(path: Path, delimiter: str) -> Iterator[Row]:
    line = 1  # where the row at hand begins
    reader = csv.reader(utf8_lines(path, newline=""), delimiter=delimiter, strict=True)
    try:
        header = next(reader, None)
        if not header or not any(name.strip() for name in header):
            more = any(name.strip() for row in reader for name in row)
            what = "has an empty first line" if more else "is empty"
            raise DataError(f"{path}: {what}; the first line must name the columns")
        if any("\x00" in name for name in header):
            raise DataError(f"{path}, line 1: NUL bytes in the header, as in UTF-16; save the file as UTF-8")
        doubled = sorted({name for name in header if header.count(name) > 1})
        if doubled:
            raise DataError(f"{path}, line 1: column {doubled[0]!r} stands there twice")
        line = reader.line_num + 1
        for cells in reader:
            if cells:  # a blank line is no row
                if len(cells) != len(header):
                    raise DataError(
                        f"{path}, line {line}: {len(cells)} fields where the header has {len(header)}; "
                        "put quotes around a field that holds the separator"
                    )
                yield Row(f"line {line}", dict(zip(header, cells, strict=True)), header)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: {error}; look for a stray quote") from error


def _jsonl_rows(path: Path) -> Iterator[Row]:
    # Not splitlines(): a JSON string may hold U+2028 and its like unescaped.
    for number, line in enumerate(utf8_lines(path, newline="\n"), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line, object_pairs_hook=_unique_keys)
        except (ValueError, RecursionError) as error:
            # Its own "line 1" would be taken for the file's.
            what = f"{error.msg} at character {error.colno}" if isinstance(error, json.JSONDecodeError) else error
            raise DataError(f"{path}, line {number}: not JSON ({what})") from error
        if not isinstance(values, dict):
            raise DataError(f'{path}, line {number}: not a JSON object such as {{"text": …, "label": …}}')
        yield Row(f"line {number}", values, values)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} stands there twice")
    return values


def _parquet_rows(path: Path, columns: Collection[str]) -> Iterator[Row]:
    number = taken = 0
    try:
        schema = pq.read_schema(path)
        # A value that stands there once for many rows stays one in memory.
        repeated = [field.name for field in schema if pa.types.is_string(field.type)]
        with pq.ParquetFile(path, read_dictionary=repeated) as table:
            names = schema.names
            most = most_bytes(path)
            check_claims(path, table.metadata)
            doubled = sorted({name for name in names if names.count(name) > 1})
            if doubled:
                raise DataError(f"{path}: column {doubled[0]!r} stands there twice")
            # Only what is asked for: another column may hold what Python can't (a time beyond its calendar).
            chosen = [name for name in names if name in columns]
            # One row group a call: Arrow first reads the columns, compressed, of all that it is asked for.
            for group in range(table.num_row_groups):
                for batch in table.iter_batches(READ_ROWS, row_groups=[group], columns=chosen):
                    batch.validate(full=True)  # of a damaged file a value's number may be none of the dictionary's
                    values = [_shared_values(part) for part in batch.columns]
                    for of_row in zip(*values, strict=True) if values else [()] * len(batch):
                        number += 1
                        taken += sum(len(value) for value in of_row if isinstance(value, str))
                        if taken > most:
                            raise too_large(path, f"rows up to {number:,} make {taken:,} characters")
                        yield Row(f"row {number}", dict(zip(batch.schema.names, of_row, strict=True)), names)
    except DataError:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path}, after row {number}: not a readable Parquet file ({error})") from error


def _shared_values(part: pa.Array) -> list[object]:
    """The values of a column, those of a dictionary made once."""
    if not pa.types.is_dictionary(part.type):
        return list(part.to_pylist())
    known = part.dictionary.to_pylist()
    return [None if index is None else known[index] for index in part.indices.to_pylist()]


def column(path: Path, row: Row, name: str, option: str) -> object:
    """The value of a column, or an error that names the columns there are."""
    if name not in row.values:
        have = ", ".join(repr(key) for key in row.columns)
        # In a CSV or Parquet file it is the header that lacks the column, in JSONL this line.
        where = f"{path}, {row.where}" if path.suffix.lower() == ".jsonl" else f"{path}"
        raise DataError(f"{where}: no column {name!r} (there: {have}); name it with {option}")
    return row.values[name]


def checked_text(path: Path, where: str, value: object) -> str:
    """The text to the letter, or an error if it is none."""
    if not isinstance(value, str):
        raise DataError(f"{path}, {where}: the text is {value!r}, not a string; mend or remove the row")
    if not value.strip():
        raise DataError(f"{path}, {where}: the text is empty; mend or remove the row")
    return encodable(path, where, value, "text")


def encodable(path: Path, where: str, value: str, what: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{path}, {where}: the {what} holds half a surrogate pair at character {error.start + 1}; "
            "mend or remove the row"
        ) from error
    return value


def texts_of(path: Path, text_column: str) -> Iterator[str]:
    """The texts of a file one by one: a column of a table, or the lines of a .txt.

    Raises:
        DataError: the file can't be read, or a text is empty; the message names file and row.
    """
    if path.suffix.lower() == ".txt":
        if not user_path(str(path)).is_file():
            raise DataError(f"{path}: no such file")
        for number, line in enumerate(utf8_lines(path), start=1):
            yield checked_text(path, f"line {number}", line.rstrip("\n"))
        return
    for row in read_rows(path, (text_column,)):
        yield checked_text(path, row.where, column(path, row, text_column, "--text-column"))
