"""Rows of spreadsheets (.xlsx, .xls, .ods), as the strings that a CSV of them would have."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date, time
from pathlib import Path

from fusion_classifier.errors import DataError, UsageError, library_errors
from fusion_classifier.support.extras import require
from fusion_classifier.tasks.loaded import RowPlace
from fusion_classifier.tasks.row import Row, check_unique

HEADER_ROWS = 20  # rows among which the names of the columns are looked for
Sheet = list[tuple[int, list[str]]]  # row of the spreadsheet, from 1, and its cells


def sheet_rows(path: Path, columns: Collection[str] | None) -> Iterator[Row]:
    """The rows of the sheet that has these columns, below the row that names them.

    Without `columns`, or if no row has these names, it is the first row with more than one value.
    """
    require(f"{path}: reading a spreadsheet", "excel", "python_calamine")
    from python_calamine import CalamineWorkbook  # noqa: PLC0415 - an extra

    with library_errors(lambda why: DataError(f"{path}: not a readable spreadsheet ({why})")):
        book = CalamineWorkbook.from_path(str(path))
        read = {name: book.get_sheet_by_name(name).to_python(skip_empty_area=False) for name in book.sheet_names}
    sheets = {name: sheet for name, cells in read.items() if (sheet := _filled(cells))}
    if not sheets:
        raise DataError(f"{path} is empty; a row must name the columns")
    (first, header), *rows = _chosen(path, sheets, columns or ())
    while header and not header[-1]:
        header.pop()
    check_unique(header, f"{path}, line {first}")
    for line, cells in rows:
        if any(cells[len(header) :]):
            raise DataError(
                f"{path}, line {line}: a cell beyond the {len(header)} columns; name its column or empty it"
            )
        padded = cells[: len(header)] + [""] * (len(header) - len(cells))
        yield Row(RowPlace(str(path), line - first - 1, line), dict(zip(header, padded, strict=True)), header)


def _chosen(path: Path, sheets: Mapping[str, Sheet], columns: Collection[str]) -> Sheet:
    """The sheet with these columns, from the row that names them; a title above that row is skipped."""
    wanted = set(columns)
    found = {name: sheet[row:] for name, sheet in sheets.items() if (row := _header(sheet, wanted)) is not None}
    if not found or not wanted:
        found = {name: sheet[_header(sheet, ()) or 0 :] for name, sheet in sheets.items()}
        if wanted and len(found) > 1:
            there = "; ".join(f"{name}: {', '.join(filter(None, sheet[0][1]))}" for name, sheet in found.items())
            raise DataError(f"{path}: no sheet has the columns {', '.join(columns)} (found: {there})")
    if len(found) > 1:
        names = ", ".join(map(repr, found))
        raise UsageError(f"{path} has the sheets {names}; save the right one as a separate file")
    return next(iter(found.values()))


def _header(sheet: Sheet, wanted: Collection[str]) -> int | None:
    """Index of the first row that names these columns (none: with more than one value); None if there is none."""
    for row, (_, cells) in enumerate(sheet[:HEADER_ROWS]):
        if set(wanted) <= set(cells) if wanted else sum(map(bool, cells)) > 1:
            return row
    return None


def _filled(cells: Sequence[Sequence[object]]) -> Sheet:
    """The rows with a value."""
    rows = [(line, [_text(value) for value in row]) for line, row in enumerate(cells, start=1)]
    return [(line, row) for line, row in rows if any(row)]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if isinstance(value, date | time) else str(value)
