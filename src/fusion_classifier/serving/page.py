"""The web page at /, and what it needs for files of texts.

GET  /                  the page; its parts under /static
POST /file/columns      the columns of a table that is the body
POST /file/predict      its texts with their labels, as CSV or JSONL

A file is the request's body as it is, so the server's limit of a body holds for it, and no form has to be taken
apart. It is kept in a folder of its own until the answer is sent.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow.parquet as pq
from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse, Response
from starlette.background import BackgroundTask
from starlette.staticfiles import StaticFiles

from fusion_classifier.commands.predict import as_pipeline, flat, text_key, writer
from fusion_classifier.config import ServerSettings
from fusion_classifier.errors import DataError
from fusion_classifier.serving.explain import Scored
from fusion_classifier.serving.model import ServedModel
from fusion_classifier.serving.schemas import ServiceError
from fusion_classifier.tasks.readers import read_rows, texts_of

STATIC = Path(__file__).parent / "static"
ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet", ".txt")
MOST_TEXTS = 10_000  # of a file: some minutes of work; larger ones are for fec predict
MOST_UNPACKED = 20  # times the limit of a body, that a compressed file may grow to

FileName = Annotated[str, Query(description="Name of the file; its ending says how it is read", max_length=255)]
MEDIA_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}


def add_page(app: FastAPI, scored: Scored) -> None:
    """Add the page and its routes; none of them is part of the documented interface."""
    model: ServedModel = app.state.model
    settings: ServerSettings = app.state.settings
    app.mount("/static", StaticFiles(directory=STATIC), name="static")

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        # Asked for anew each time, so that a new version's page is never mixed with an old one's script.
        return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        return FileResponse(STATIC / "icon.svg", media_type="image/svg+xml")

    @app.post("/file/columns", include_in_schema=False)
    async def columns(request: Request, name: FileName) -> Any:
        async with received(request, name, settings.payload_limit) as path:
            return {"columns": await asyncio.to_thread(said, path, lambda: columns_of(path))}

    @app.post("/file/predict", include_in_schema=False)
    async def predict(
        request: Request,
        name: FileName,
        text_column: Annotated[str, Query(max_length=1000)] = "text",
        kind: Annotated[Literal["csv", "jsonl"], Query(alias="format")] = "csv",
    ) -> Any:
        decision = model.classifier.config_.decision
        if decision.multilabel and kind == "csv":
            raise ServiceError("Validation", "Several labels a text don't fit into a CSV; take JSONL")
        async with received(request, name, settings.payload_limit) as path:
            texts = await asyncio.to_thread(said, path, lambda: list(_texts(path, text_column)))
            key = text_key(text_column)
            answers = Path(tempfile.mkdtemp(prefix="fec-")) / f"answers.{kind}"
            try:
                with writer(answers, key, lists=decision.multilabel) as write:
                    for start in range(0, len(texts), settings.max_client_batch_size):
                        part = texts[start : start + settings.max_client_batch_size]
                        scores = await scored(request, part, truncate=True, side="right", batch=True)
                        found = [as_pipeline(s.probabilities, model.labels, decision, None, None) for s in scores]
                        write([{key: text} | flat(one) for text, one in zip(part, found, strict=True)])
            except BaseException:
                shutil.rmtree(answers.parent, ignore_errors=True)
                raise
        return FileResponse(
            answers,
            media_type=MEDIA_TYPES[kind],
            filename=f"{Path(name).stem[:100]}-labels.{kind}",
            headers={"fec-texts": str(len(texts))},
            background=BackgroundTask(shutil.rmtree, answers.parent, ignore_errors=True),
        )


@asynccontextmanager
async def received(request: Request, name: str, limit: int) -> AsyncIterator[Path]:
    """The request's body as a file with the ending of `name`, for as long as the block lasts.

    Raises:
        ServiceError: an ending that can't be read, or a file that unpacks to far more than it is.
    """
    ending = Path(name).suffix.lower()
    if ending not in ENDINGS:
        raise ServiceError("Validation", f"The file must end in one of {', '.join(ENDINGS)}")
    folder = Path(tempfile.mkdtemp(prefix="fec-"))
    try:
        path = folder / f"file{ending}"
        path.write_bytes(await request.body())
        if ending == ".parquet":
            await asyncio.to_thread(_check_parquet, path, limit)
        yield path
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_parquet(path: Path, limit: int) -> None:
    try:
        about = pq.ParquetFile(path).metadata
    except (OSError, ValueError) as error:
        raise ServiceError("Validation", "The file is no readable Parquet file") from error
    unpacked = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
    if unpacked > MOST_UNPACKED * limit or about.num_rows > MOST_TEXTS:
        raise _too_many()


def _too_many() -> ServiceError:
    message = f"The file has more than {MOST_TEXTS:,} texts; for such files there is fec predict --file"
    return ServiceError("Validation", message, status=413)


def said(path: Path, work: Any) -> Any:
    """What `work` gives; what is wrong with the file is said without the place where it is kept.

    Raises:
        ServiceError: the file can't be read as asked.
    """
    try:
        return work()
    except DataError as error:
        message = str(error).replace(f"{path}, ", "").replace(f"{path}: ", "").replace(str(path), "the file")
        message = message.replace("name it with --text-column", "choose another column")
        raise ServiceError("Validation", message[:1].upper() + message[1:]) from error


def columns_of(path: Path) -> list[str]:
    """The columns of a table; none of a file of lines."""
    if path.suffix == ".txt":
        return []
    first = next(read_rows(path, ()), None)
    if first is None:
        raise DataError(f"{path}: has no rows")
    return [str(name) for name in first.columns]


def _texts(path: Path, text_column: str) -> Iterator[str]:
    count = 0
    for text in islice(texts_of(path, text_column), MOST_TEXTS + 1):
        count += 1
        yield text
    if count > MOST_TEXTS:
        raise _too_many()
    if not count:
        raise DataError(f"{path}: has no rows")
