"""Rows and texts of files in any format."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from fusion_classifier.config import TextColumns
from fusion_classifier.errors import DataError, RowError
from fusion_classifier.support.files import user_path
from fusion_classifier.support.text import surrogate_position
from fusion_classifier.tasks.loaded import RowPlace
from fusion_classifier.tasks.parquet_file import parquet_rows
from fusion_classifier.tasks.row import Row
from fusion_classifier.tasks.saved_dataset import is_saved_dataset, saved_columns, saved_rows, saved_splits
from fusion_classifier.tasks.sheet_file import sheet_rows
from fusion_classifier.tasks.text_file import COMPRESSED, csv_rows, ending_of, json_rows, jsonl_rows, utf8_lines

TEXT_ENDINGS = (".csv", ".tsv", ".jsonl", ".json")  # may be followed by one of COMPRESSED
SHEET_ENDINGS = (".xlsx", ".xls", ".ods")
ENDINGS = (*TEXT_ENDINGS, ".parquet", *SHEET_ENDINGS)
REMOVE = "fix or remove the row"


def read_rows(
    path: Path,
    columns: Collection[str] | None,
    header: Sequence[str] | None = None,
    encoding: str | None = None,
    *,
    among: Collection[str] | None = None,
) -> Iterator[Row]:
    """The rows of a table in order, with at least the values of these columns.

    Args:
        path: the file, whose extension determines the format, or a folder that `datasets` has saved.
        columns: names of the columns that are needed; None: all.
        header: names of a CSV's columns. Default: its first line.
        encoding: encoding of a text file. Default: UTF-8, or UTF-16 with a byte order mark.
        among: columns that identify a sheet of a spreadsheet and its header row. Default: `columns`.
    """
    if is_saved_dataset(path):
        return saved_rows(path, columns)
    _check_file(path)
    ending = ending_of(path)
    compressed = path.suffix.lower() in COMPRESSED
    if ending == ".parquet" and not compressed:
        return parquet_rows(path, columns)
    if ending in SHEET_ENDINGS and not compressed:
        return sheet_rows(path, columns if among is None else among)
    if ending in (".jsonl", ".ndjson"):
        return jsonl_rows(path, encoding)
    if ending == ".json":
        return json_rows(path, encoding)
    if ending in (".csv", ".tsv"):
        return csv_rows(path, header, encoding)
    raise DataError(
        f"{path}: can't read {path.suffix.lower() or 'a file without an extension'}; use one of {', '.join(ENDINGS)} "
        f"(texts also with {', '.join(COMPRESSED)})"
    )


def _check_file(path: Path) -> None:
    if not user_path(str(path)).exists():
        raise DataError(f"{path}: no such file")
    if splits := saved_splits(path):
        raise DataError(f"{path} has the splits {', '.join(splits)}; choose one of them, such as {path / splits[0]}")
    if path.is_dir():
        raise DataError(f"{path} is a folder; choose one of its files")
    if not path.is_file():  # files are read more than once, and reading a pipe would block
        raise DataError(f"{path} is a pipe or a device, not a file")


def column(row: Row, name: str, parameter: str) -> object:
    """The value of a column, or of a field within one (`message.body`); None in a column that is missing."""
    where = row.place if row.header is None else row.place.file
    try:
        value = _value(row.values, name)
        if isinstance(value, dict) and value:
            fields = ", ".join(repr(f"{name}.{field}") for field in value)
            raise DataError(f"{where}: column {name!r} has fields; set `{parameter}` to one of them: {fields}")
        return value
    except KeyError:
        there = ", ".join(map(repr, _names(row.columns, row.values)))
        raise DataError(f"{where}: no column {name!r} (found: {there}); set `{parameter}`") from None


def _value(values: Mapping[str, object], name: str) -> object:
    if name in values:
        return values[name]
    outer, _, inner = name.partition(".")
    within = values[outer]
    if within is None:
        return None
    if not isinstance(within, dict):
        raise KeyError(name)
    return _value(within, inner)


def _names(columns: Collection[str], values: Mapping[str, object]) -> list[str]:
    """Names of columns, and of the fields within them."""
    found = []
    for name in map(str, columns):
        found.append(name)
        within = values.get(name)
        if isinstance(within, dict):
            found += [f"{name}.{field}" for field in _names(within, within)]
    return found


def row_text(row: Row, columns: TextColumns) -> object:
    """The text of a row; the texts of several columns are joined by line breaks; None if all are missing."""
    if isinstance(columns, str):
        return column(row, columns, "text_column")
    parts = []
    for name in columns:
        value = column(row, name, "text_column")
        if not isinstance(value, str) and not is_missing(value):
            raise RowError(row.place, f"column {name!r} is {value!r}, not a string", REMOVE)
        parts.append(value)
    return "\n".join(part for part in parts if isinstance(part, str) and part.strip()) or None


def names_of(columns: TextColumns) -> tuple[str, ...]:
    """The columns as a tuple."""
    return (columns,) if isinstance(columns, str) else tuple(columns)


def checked_text(value: object, place: object) -> str:
    """The text, unchanged, or an error that begins with `place` if it is missing or blank."""
    if not isinstance(value, str):
        raise RowError(place, f"the text is {value!r}, not a string", REMOVE, missing=is_missing(value))
    if not value.strip():
        raise RowError(place, "the text is empty", REMOVE, missing=True)
    return encodable(value, place, "text")


def is_missing(value: object) -> bool:
    """Whether a value is None, NaN, or pandas' NA or NaT."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, Real) and not isinstance(value, Integral) and math.isnan(value)


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


def given_rows(
    path: Path, text_column: TextColumns, encoding: str | None = None
) -> Iterator[tuple[Mapping[str, object], str | None]]:
    """The rows of a file with all their columns, and their texts: a column of a table, or the lines of a .txt."""
    for row in _all_rows(path, None, encoding, names_of(text_column)):
        yield row.values, given_text(row_text(row, _columns_in(path, text_column)), row.place)


def given_columns(path: Path, text_column: TextColumns, encoding: str | None = None) -> dict[str, Any]:
    """The columns of a file that has the same in all rows, with their types in Parquet; None: those of the values."""
    if is_saved_dataset(path):
        return saved_columns(path)
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet as pq  # noqa: PLC0415 - slow to import, and only this format needs it

        next(_all_rows(path, ()), None)  # checks the file
        schema = pq.read_schema(path)
        return dict(zip(schema.names, schema.types, strict=True))
    first = next(_all_rows(path, None, encoding, names_of(text_column)), None)
    return {} if first is None else dict.fromkeys(map(str, first.columns))


def texts_of(path: Path, text_column: TextColumns, encoding: str | None = None) -> Iterator[str]:
    """The texts of a file one by one: a column of a table, or the lines of a .txt."""
    for row in _all_rows(path, names_of(text_column), encoding):
        yield checked_text(row_text(row, _columns_in(path, text_column)), row.place)


def _columns_in(path: Path, text_column: TextColumns) -> TextColumns:
    return "text" if ending_of(path) == ".txt" else text_column


def _all_rows(
    path: Path, columns: Collection[str] | None, encoding: str | None = None, among: Collection[str] | None = None
) -> Iterator[Row]:
    """The rows of a table, or the lines of a .txt."""
    if ending_of(path) != ".txt":
        yield from read_rows(path, columns, None, encoding, among=among)
        return
    _check_file(path)
    for number, line in enumerate(utf8_lines(path, None, encoding), start=1):
        yield Row(RowPlace(str(path), number - 1, number), {"text": line.rstrip("\n")}, ("text",))
