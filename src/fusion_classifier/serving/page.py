"""The web page at /, and its routes for files of texts.

GET  /                  the page; its parts under /static
POST /file/columns      the columns of a table that is the body
POST /file/predict      its texts with their labels, as CSV or JSONL

A file is the body as it is, so the server's limit of a body holds for it, and no form has to be parsed.
"""

import asyncio
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote

import pyarrow.parquet as pq
from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from fusion_classifier.commands.answers import Answers
from fusion_classifier.commands.prediction_file import writer
from fusion_classifier.errors import DataError
from fusion_classifier.serving.errors import ServiceError, in_json_terms
from fusion_classifier.serving.service import ServiceDep
from fusion_classifier.tasks.readers import read_rows, texts_of

STATIC = Path(__file__).parent / "static"
ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet", ".txt")
MAX_TEXTS = 10_000  # of a file: some minutes of work
MAX_EXPANSION = 20  # times the limit of a body, that a compressed file may grow to
MEDIA_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}

FileName = Annotated[str, Query(description="Name of the file; its ending says how it is read", max_length=255)]
Result = TypeVar("Result")

router = APIRouter(include_in_schema=False)  # no part of the documented interface
static_files = StaticFiles(directory=STATIC)


@router.get("/")
async def index() -> Response:
    """The page."""
    # Requested each time, so that a new version's page is never mixed with an old one's script.
    return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})


@router.get("/favicon.ico")
async def icon() -> Response:
    """The page's icon."""
    return FileResponse(STATIC / "icon.svg", media_type="image/svg+xml")


@router.post("/file/columns")
async def columns(request: Request, name: FileName, service: ServiceDep) -> Any:
    """The columns of a table."""
    return {"columns": await _from_file(request, name, service.settings.payload_limit, columns_of)}


@router.post("/file/predict")
async def predict(
    request: Request,
    name: FileName,
    service: ServiceDep,
    text_column: Annotated[str, Query(max_length=1000)] = "text",
    kind: Annotated[Literal["csv", "jsonl"], Query(alias="format")] = "csv",
) -> Response:
    """The texts of a file with their labels."""
    model, settings = service.model, service.settings
    answers = Answers(model.labels, model.classifier.config_.decision)
    texts = await _from_file(request, name, settings.payload_limit, lambda path: _texts(path, text_column))
    key = text_column if text_column not in answers.columns() else "text"
    with tempfile.TemporaryDirectory(prefix="fec-") as folder:
        file = Path(folder) / f"answers.{kind}"
        with writer(file, {key: None}, answers.columns()) as write:
            # A request's worth at a time: other clients' texts come in between.
            for start in range(0, len(texts), settings.max_client_batch_size):
                part = texts[start : start + settings.max_client_batch_size]
                scores = await service.scores(request, part, truncate=True)
                found = [answers.of(one.probabilities) for one in scores]
                write([{key: text} | answer for text, answer in zip(part, found, strict=True)])
        content = file.read_bytes()
    file_name = quote(f"{Path(name).stem[:100]}-labels.{kind}")
    return Response(
        content,
        media_type=MEDIA_TYPES[kind],
        headers={"content-disposition": f"attachment; filename*=utf-8''{file_name}", "fec-texts": str(len(texts))},
    )


async def _from_file(request: Request, name: str, limit: int, read: Callable[[Path], Result]) -> Result:
    """What `read` gives of the request's body, as a file with the ending of `name`; in a thread.

    Raises:
        ServiceError: The file can't be read, or unpacks to far more than it is.
    """
    ending = Path(name).suffix.lower()
    if ending not in ENDINGS:
        raise ServiceError("Validation", f"The file must end in one of {', '.join(ENDINGS)}")
    body = await request.body()

    def work() -> Result:
        with tempfile.TemporaryDirectory(prefix="fec-") as folder:
            path = Path(folder) / f"file{ending}"
            path.write_bytes(body)
            if ending == ".parquet":
                _check_parquet(path, limit)
            try:
                return read(path)
            except DataError as error:  # without the place where the file is kept
                message = str(error).replace(f"{path}, ", "").replace(f"{path}: ", "").replace(str(path), "the file")
                message = in_json_terms(message)
                raise ServiceError("Validation", message[:1].upper() + message[1:]) from error

    return await asyncio.to_thread(work)


def _check_parquet(path: Path, limit: int) -> None:
    try:
        about = pq.ParquetFile(path).metadata
    except (OSError, ValueError) as error:
        raise ServiceError("Validation", "The file is no readable Parquet file") from error
    unpacked = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
    if unpacked > MAX_EXPANSION * limit or about.num_rows > MAX_TEXTS:
        raise _too_many()


def _too_many() -> ServiceError:
    message = f"The file has more than {MAX_TEXTS:,} texts; for such files there is fec predict"
    return ServiceError("Validation", message, 413)


def columns_of(path: Path) -> list[str]:
    """The columns of a table; none of a file of lines."""
    if path.suffix == ".txt":
        return []
    first = next(read_rows(path, ()), None)
    if first is None:
        raise DataError(f"{path}: has no rows")
    return [str(name) for name in first.columns]


def _texts(path: Path, text_column: str) -> list[str]:
    texts = list(islice(texts_of(path, text_column), MAX_TEXTS + 1))
    if len(texts) > MAX_TEXTS:
        raise _too_many()
    if not texts:
        raise DataError(f"{path}: has no rows")
    return texts
