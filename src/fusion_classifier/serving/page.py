"""The web page at /, its routes for files of texts, and the page at /docs that describes the HTTP interface.

GET  /                  the page; its parts under /static
GET  /docs              the description, if enabled
POST /file/columns      the columns of a table that is the body
POST /file/predict      its rows with their labels, as CSV or JSONL

The body is the file itself, so the server's limit on bodies applies to it, and no form is parsed.
"""

import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from fusion_classifier.commands.answers import Answers, beside
from fusion_classifier.commands.predict import answered
from fusion_classifier.commands.prediction_file import writer
from fusion_classifier.serving.service import ServiceDep
from fusion_classifier.serving.uploads import columns_of, read_upload, rows_of
from fusion_classifier.tasks.readers import names_of

STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}
# Requested each time, so that a new version's page is never mixed with an old one's script.
ALWAYS_ASKED = {"cache-control": "no-cache"}

FileName = Annotated[str, Query(description="Name of the file; its extension determines the format", max_length=255)]
Encoding = Annotated[str | None, Query(description="Encoding of a text file", max_length=40)]

# No part of the documented interface.
router = APIRouter(include_in_schema=False)
docs_router = APIRouter(include_in_schema=False)
static_router = APIRouter(include_in_schema=False)
_files = StaticFiles(directory=STATIC)


@static_router.api_route("/static/{name}", methods=["GET", "HEAD"])
async def static(name: str, request: Request) -> Response:
    """A part of a page."""
    return await _files.get_response(name, request.scope)


@docs_router.get("/docs")
async def docs() -> Response:
    """Interactive description of the HTTP interface."""
    return FileResponse(STATIC / "docs.html", headers=ALWAYS_ASKED)


@router.get("/")
async def index() -> Response:
    """The page."""
    return FileResponse(STATIC / "index.html", headers=ALWAYS_ASKED)


@router.get("/favicon.ico")
async def icon() -> Response:
    """The page's icon."""
    return FileResponse(STATIC / "icon.svg", media_type="image/svg+xml")


@router.post("/file/columns")
async def columns(request: Request, name: FileName, service: ServiceDep, encoding: Encoding = None) -> Any:
    """The columns of a table, and those that the model was trained on."""
    limit, own = service.settings.payload_limit, service.model.classifier.config_.text_column
    found = await read_upload(request, name, limit, lambda path: columns_of(path, own, encoding))
    return {"columns": found, "text_columns": names_of(own)}


@router.post("/file/predict")
async def predict(
    request: Request,
    name: FileName,
    service: ServiceDep,
    text_column: Annotated[str | None, Query(max_length=1000)] = None,
    kind: Annotated[Literal["csv", "jsonl"], Query(alias="format")] = "csv",
    encoding: Encoding = None,
) -> Response:
    """The rows of a file with their labels, as `fec predict --file` writes them."""
    model, settings = service.model, service.settings
    answers = Answers(model.labels, model.classifier.config_.decision)
    columns = text_column or model.classifier.config_.text_column
    upload = await read_upload(request, name, settings.payload_limit, lambda path: rows_of(path, columns, encoding))
    texts = [text for _, text in upload.rows if text is not None]
    scores = []
    # A request's worth at a time: other clients' texts come in between.
    for start in range(0, len(texts), settings.max_client_batch_size):
        part = texts[start : start + settings.max_client_batch_size]
        scores += await service.scores(request, part, truncate=True)
    names = beside(list(answers.columns()), upload.columns)
    found = [(np.stack([one.probabilities for one in scores]), np.zeros(len(scores), np.float32))] if scores else []
    with tempfile.TemporaryDirectory(prefix="fec-") as folder:
        file = Path(folder) / f"answers.{kind}"
        kinds = {names[column]: of_column for column, of_column in answers.columns().items()}
        with writer(file, dict.fromkeys(upload.columns), kinds) as write:
            for rows in answered(iter(upload.rows), found, answers, names):
                write(rows)
        content = file.read_bytes()
    file_name = quote(f"{Path(name).stem[:100]}-labels.{kind}")
    return Response(
        content,
        media_type=MEDIA_TYPES[kind],
        headers={"content-disposition": f"attachment; filename*=utf-8''{file_name}", "fec-texts": str(len(texts))},
    )
