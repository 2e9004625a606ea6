"""Files of texts as the body of a request: the formats of `fec predict --file`, within limits.

A file of a few bytes may unpack to gigabytes, and this process serves other clients, too. So a file is unpacked in
pieces and its size checked before anything reads it as a whole. Among spreadsheets, only .xlsx can be checked in this
way.
"""

import asyncio
import re
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.parquet as pq
from fastapi import Request

from fusion_classifier.commands.predict import Given, GivenFile
from fusion_classifier.config import TextColumns
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.serving.errors import ServiceError, in_json_terms
from fusion_classifier.tasks.readers import TEXT_ENDINGS, names_of, read_rows
from fusion_classifier.tasks.text_file import COMPRESSED, ending_of, opened

TEXTS = (*TEXT_ENDINGS, ".ndjson", ".txt")
ENDINGS = (*TEXTS, *(text + packed for text in TEXTS for packed in COMPRESSED), ".parquet", ".xlsx")
MAX_TEXTS = 10_000  # of a file: some minutes of work
MAX_EXPANSION = 20  # times the limit of a body, that a compressed file may grow to
MAX_CELLS = 2_000_000  # of a sheet, whose reader holds every cell up to the last
PIECE = 1 << 20  # bytes unpacked at once
REFERENCE = re.compile(rb"""\br\s*=\s*["']([A-Za-z]{1,3})(\d{1,7})""")  # of a cell of .xlsx, such as r="B12"
REFERENCE_BYTES = 32  # that a reference may have

Result = TypeVar("Result")


@dataclass(frozen=True)
class Upload:
    """A file of texts.

    Attributes:
        columns: Its columns.
        rows: Values of each row, and its text, or None if it is missing.
    """

    columns: tuple[str, ...]
    rows: list[Given]


async def read_upload(request: Request, name: str, limit: int, read: Callable[[Path], Result]) -> Result:
    """Result of `read` for the request's body as a file with the extension of `name`; runs in a thread."""
    packed = Path(name).suffix.lower() if Path(name).suffix.lower() in COMPRESSED else ""
    ending = ending_of(Path(name)) + packed
    if ending not in ENDINGS:
        shown = ", ".join((*TEXTS, ".parquet", ".xlsx"))
        raise ServiceError(
            "Validation", f"The file must end in one of {shown} (text files also compressed: {', '.join(COMPRESSED)})"
        )
    body = await request.body()

    def work() -> Result:
        with tempfile.TemporaryDirectory(prefix="fec-") as folder:
            path = Path(folder) / f"file{ending}"
            path.write_bytes(body)
            try:
                _check_size(path, MAX_EXPANSION * limit)
                return read(path)
            except (DataError, UsageError) as error:  # without the path of the temporary file
                message = str(error).replace(f"{path}, ", "").replace(f"{path}: ", "").replace(str(path), "the file")
                message = in_json_terms(message)
                raise ServiceError("Validation", message[:1].upper() + message[1:]) from error

    return await asyncio.to_thread(work)


def _check_size(path: Path, limit: int) -> None:
    """Check that a file unpacks to at most `limit` bytes."""
    try:
        if path.suffix == ".parquet":
            about = pq.ParquetFile(path).metadata
            size = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
            too_large = size > limit or about.num_rows > MAX_TEXTS
        elif path.suffix == ".xlsx":
            too_large = _is_large_sheet(path, limit)
        else:
            too_large = _unpacked(path, limit) > limit
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path}: not a readable {path.suffix} file") from error
    if too_large:
        raise too_many()


def _unpacked(path: Path, limit: int) -> int:
    """Number of bytes of a text file when unpacked; counting stops above the limit."""
    size = 0
    if path.suffix in COMPRESSED:
        with opened(path) as file:
            while size <= limit and (piece := file.read(PIECE)):
                size += len(piece)
    return size


def _is_large_sheet(path: Path, limit: int) -> bool:
    size, columns, rows = 0, 0, 0
    with zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            with archive.open(part) as file:
                rest = b""
                while piece := file.read(PIECE):
                    size += len(piece)
                    for column, row in REFERENCE.findall(rest + piece):
                        columns, rows = max(columns, _column_number(column)), max(rows, int(row))
                    if size > limit or columns * rows > MAX_CELLS:
                        return True
                    rest = piece[-REFERENCE_BYTES:]
    return False


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters.upper():
        number = 26 * number + letter - ord("A") + 1
    return number


def too_many() -> ServiceError:
    """The error for a file over the limit of a request."""
    message = f"The file has more than {MAX_TEXTS:,} texts, or is very large; use fec predict for such files"
    return ServiceError("Validation", message, 413)


def columns_of(path: Path, among: TextColumns, encoding: str | None = None) -> list[str]:
    """The columns of a table, in a workbook those of the sheet with the columns `among`; none for a file of lines."""
    if ending_of(path) == ".txt":
        return []
    first = next(read_rows(path, (), None, encoding, among=names_of(among)), None)
    if first is None:
        raise DataError(f"{path} has no rows")
    return [str(name) for name in first.columns]


def rows_of(path: Path, text_column: TextColumns, encoding: str | None = None) -> Upload:
    """The rows of a file with all their columns, as `fec predict --file` reads them."""
    given = GivenFile.read(path, text_column, encoding)
    if not given.count:
        raise DataError(f"{path} has no rows")
    if given.count > MAX_TEXTS:
        raise too_many()
    return Upload(tuple(given.columns), [(_plain(values), text) for values, text in given.rows()])


def _plain(values: Any) -> dict[str, Any]:
    return {str(name): value for name, value in values.items()}
