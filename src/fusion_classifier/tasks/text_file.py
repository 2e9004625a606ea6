"""Rows of CSV, TSV, JSONL and JSON files, unpacked and decoded; all but JSON are read in constant memory."""

import csv
import io
import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from fusion_classifier.errors import DataError, UsageError, reason
from fusion_classifier.tasks.loaded import RowPlace
from fusion_classifier.tasks.row import Row, check_unique

COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
MAX_FIELD_LENGTH = 2**31 - 1  # characters; the csv module's own limit is 131,072
# First bytes of files that are no text: what they are, and the way out.
OTHER_FILES = {
    b"\x1f\x8b": ("compressed by gzip", "end its name in .gz"),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", "end its name in .zst"),
    b"PK\x03\x04": ("a zip archive or a spreadsheet", "unpack it, or end the name of a spreadsheet in .xlsx"),
}
SNIFFED_LINES = 100  # used to detect the separator
SEPARATOR_LINE = re.compile(r'"?sep=([^\w\s"]|\t)"?[\r\n]*', re.IGNORECASE)
QUOTED = re.compile(r'"(?:[^"]|"")*"')  # a whole cell in quotes
_csv_limit = threading.Lock()


def ending_of(path: Path) -> str:
    """The extension that determines a file's format, in lower case and without that of a compression."""
    endings = [ending.lower() for ending in path.suffixes]
    if endings and endings[-1] in COMPRESSED:
        endings.pop()
    return endings[-1] if endings else ""


def utf8_lines(path: Path, newline: str | None = None, encoding: str | None = None) -> Iterator[str]:
    """The lines of a text file, unpacked, without a byte order mark.

    Args:
        path: file.
        newline: as for `open`.
        encoding: as for `open`. Default: UTF-8, or UTF-16 with a byte order mark.
    """
    try:
        with opened(path) as raw, io.TextIOWrapper(raw, _encoding(path, encoding), newline=newline) as file:
            yield from file
    except UnicodeError:
        if encoding is not None:
            raise DataError(f"{path}: not text in {encoding}; set `encoding` to the right one") from None
        raise _not_utf8(path) from None
    except LookupError:
        raise UsageError(
            f"`encoding`: unknown encoding {encoding!r}; use one such as utf-8, utf-16, cp1252 or latin-1"
        ) from None
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror or reason(error)})") from error


def opened(path: Path) -> Any:
    """The file's bytes as a stream, unpacked."""
    kind = COMPRESSED.get(path.suffix.lower())
    if kind is None:
        return path.open("rb")
    import pyarrow as pa  # noqa: PLC0415 - slow to import, and few files are compressed

    return pa.input_stream(str(path), compression=kind)


def _encoding(path: Path, encoding: str | None) -> str:
    if encoding is not None:
        return "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
    with opened(path) as raw:
        beginning = raw.read(4)
    return "utf-16" if beginning[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _not_utf8(path: Path) -> DataError:
    with opened(path) as raw:
        beginning = raw.read(4)
        for bytes_, (what, way_out) in OTHER_FILES.items():
            if beginning.startswith(bytes_):
                return DataError(f"{path} is {what}, not text in UTF-8; {way_out}")
    # Opened again: a compressed file can't be rewound.
    with opened(path) as raw, io.BufferedReader(raw) as file:  # pyarrow's streams have no lines
        # The error that was caught names the position in a block of the file only.
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return DataError(
                    f"{path}, line {number}: not UTF-8 (byte 0x{line[error.start]:02x}); save the file as UTF-8 "
                    "(in a spreadsheet: CSV UTF-8), or set `encoding`: cp1252 for a CSV file from Excel in Western "
                    "Europe, cp1250 in Central Europe, cp1251 Cyrillic, cp932 Japanese, gb18030 Chinese"
                )
    return DataError(f"{path} changed while it was read; run the same command again")


def _csv_lines(path: Path, delimiter: str, encoding: str | None) -> Iterator[tuple[int, list[str]]]:
    """The first line's number and the fields of each row; blank lines are skipped."""
    lines = utf8_lines(path, "", encoding)
    if delimiter == "\t" and _has_no_quoting(path, encoding):
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
    line = 1
    try:
        while (cells := _next_row(reader)) is not None:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: {error}; look for a stray quote") from error


def _has_no_quoting(path: Path, encoding: str | None) -> bool:
    """Whether quotation marks in a TSV are ordinary characters.

    They are in most published data sets. They are assumed to be ordinary if every line has all columns, and a cell
    begins with a quotation mark but does not end with one: read as quoting, it would join the line with later ones.
    """
    columns, stray = 0, False
    for line in utf8_lines(path, "", encoding):
        cells = line.rstrip("\r\n").split("\t")
        if cells == [""]:
            continue
        columns = columns or len(cells)
        if len(cells) != columns or columns == 1:
            return False
        stray = stray or any(cell.startswith('"') and not QUOTED.fullmatch(cell) for cell in cells)
    return stray


def _next_row(reader: Iterator[list[str]]) -> list[str] | None:
    with _csv_limit:  # the module's limit is that of the whole process: leave it as it was
        before = csv.field_size_limit(MAX_FIELD_LENGTH)
        try:
            return next(reader, None)
        finally:
            csv.field_size_limit(before)


def _separator(path: Path, encoding: str | None) -> str:
    """The separator of a CSV: comma, semicolon (of spreadsheets with a decimal comma), tab or bar.

    With it, the header and the first row have the same number of columns, the largest of all separators.
    """
    beginning = list(islice(utf8_lines(path, "", encoding), SNIFFED_LINES))
    found = {}
    for separator in (",", ";", "\t", "|"):
        with suppress(csv.Error):
            reader = csv.reader(beginning, delimiter=separator)
            header, first = len(_next_row(reader) or ()), len(_next_row(reader) or ())
            if header > 1:
                found[separator] = header if header == first else 0
    return max(found, key=lambda separator: found[separator]) if found else ","


def csv_rows(path: Path, header: Sequence[str] | None, encoding: str | None) -> Iterator[Row]:
    """The rows of a CSV or TSV; `header` are its columns, by default its first line.

    A first line such as `sep=;`, from which Excel takes the separator, is not a row.
    """
    said = SEPARATOR_LINE.fullmatch(next(utf8_lines(path, "", encoding), ""))
    delimiter = said[1] if said else "\t" if ending_of(path) == ".tsv" else _separator(path, encoding)
    rows = _csv_lines(path, delimiter, encoding)
    if said:
        next(rows)
    if header is None:
        line, header = next(rows, (1, []))
        if line > (2 if said else 1) or not any(name.strip() for name in header):
            raise DataError(f"{path} is empty or has an empty first line; the first line must name the columns")
        check_unique(header, f"{path}, line {line}")
    for number, (line, cells) in enumerate(rows):
        if len(cells) != len(header):
            raise DataError(
                f"{path}, line {line}: {len(cells)} fields where there are {len(header)} columns; "
                "put quotes around a field that contains the separator"
            )
        yield Row(RowPlace(str(path), number, line), dict(zip(header, cells, strict=True)), header)


def jsonl_rows(path: Path, encoding: str | None) -> Iterator[Row]:
    """The rows of a file with an object per line."""
    # Not splitlines(): a JSON string may contain U+2028 and similar characters unescaped.
    row = 0
    for number, line in enumerate(utf8_lines(path, "\n", encoding), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            what = getattr(error, "msg", error)  # without the position, whose "line 1" would be taken for the file's
            raise DataError(f"{path}, line {number}: not JSON ({what})") from error
        if not isinstance(values, dict):
            raise DataError(f'{path}, line {number}: not a JSON object such as {{"text": …, "label": …}}')
        yield Row(RowPlace(str(path), row, number), values)
        row += 1


def json_rows(path: Path, encoding: str | None) -> Iterator[Row]:
    """The rows of a .json: a list of objects, an object per line, or columns as pandas' `to_json` writes them."""
    lines = (line for line in utf8_lines(path, "\n", encoding) if line.strip())
    first, second = next(lines, ""), next(lines, None)
    if second is not None and _is_object(first):
        return jsonl_rows(path, encoding)
    try:
        whole = json.loads("".join(utf8_lines(path, "\n", encoding)))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error})") from error
    records = _records(whole)
    if records is None:
        raise DataError(
            f'{path}: not a list of objects such as [{{"text": …, "label": …}}]; write such a list, or one object '
            "per line"
        )
    return (Row(RowPlace(str(path), number), values) for number, values in enumerate(records))


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _records(whole: Any) -> list[dict[str, Any]] | None:
    """The objects of a list, of the only list in an object, or of columns; None if it is something else."""
    if isinstance(whole, list):
        return whole if all(isinstance(one, dict) for one in whole) else None
    if not isinstance(whole, dict) or not whole:
        return None
    columns = list(whole.values())
    if len(columns) == 1 and isinstance(columns[0], list):
        return _records(columns[0])
    if all(isinstance(one, dict) for one in columns) and len({tuple(one) for one in columns}) == 1:
        columns = [list(one.values()) for one in columns]
    elif not all(isinstance(one, list) for one in columns) or len(set(map(len, columns))) > 1:
        scalars = not any(isinstance(one, dict | list) for one in columns)
        return [whole] if scalars else None
    return [dict(zip(whole, cells, strict=True)) for cells in zip(*columns, strict=True)]
