"""Rows of spreadsheets (.xlsx, .xls, .ods), as the strings that a CSV of them would have."""

from collections.abc import Collection, Iterator, Sequence
from datetime import date, time
from pathlib import Path

from fusion_classifier.errors import DataError, UsageError, library_errors
from fusion_classifier.support.extras import require
from fusion_classifier.tasks.loaded import Place
from fusion_classifier.tasks.row import Row, check_unique

Sheet = list[tuple[int, list[str]]]  # row of the spreadsheet, from 1, and its cells


def sheet_rows(path: Path, columns: Collection[str] | None) -> Iterator[Row]:
    """The rows of the sheet that has these columns; its first row that is not empty names them."""
    require(f"{path}: reading a spreadsheet", "excel", "python_calamine")
    from python_calamine import CalamineWorkbook  # noqa: PLC0415 - an extra

    with library_errors(lambda why: DataError(f"{path}: not a readable spreadsheet ({why})")):
        book = CalamineWorkbook.from_path(str(path))
        read = {name: book.get_sheet_by_name(name).to_python(skip_empty_area=False) for name in book.sheet_names}
    sheets = {name: sheet for name, cells in read.items() if (sheet := _filled(cells))}
    if not sheets:
        raise DataError(f"{path}: is empty; the first row must name the columns")
    wanted = [name for name, sheet in sheets.items() if columns and set(columns) <= set(sheet[0][1])]
    chosen = wanted or list(sheets)
    if len(chosen) > 1:
        names = ", ".join(map(repr, chosen))
        raise UsageError(f"{path}: has the sheets {names}; save the right one as a separate file")
    (line, header), *rows = sheets[chosen[0]]
    while header and not header[-1]:
        header.pop()
    check_unique(header, f"{path}, line {line}")
    for number, (line, cells) in enumerate(rows):
        if any(cells[len(header) :]):
            raise DataError(
                f"{path}, line {line}: a cell beyond the {len(header)} columns; name its column or empty it"
            )
        padded = cells[: len(header)] + [""] * (len(header) - len(cells))
        yield Row(Place(str(path), number, line), dict(zip(header, padded, strict=True)), header)


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
