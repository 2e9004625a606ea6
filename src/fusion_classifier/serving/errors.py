"""Errors over HTTP, in the format of text-embeddings-inference: {"error": "…", "error_type": "…"}.

No answer repeats a text, a path or a stack trace.
"""

import re
from collections.abc import Callable, Coroutine
from typing import Any, Literal

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import Scope

from fusion_classifier.support.validation import first_problem

ErrorType = Literal[
    "Backend", "Empty", "NotFound", "Overloaded", "Tokenizer", "Unauthorized", "Unhealthy", "Validation"
]
STATUS: dict[ErrorType, int] = {
    "Empty": 400,
    "Unauthorized": 401,
    "NotFound": 404,
    "Validation": 422,
    "Tokenizer": 422,
    "Backend": 424,
    "Overloaded": 429,
    "Unhealthy": 503,
}
CLIENT_GONE = 499  # nobody reads this status; it is logged
BODY_UNREAD = (401, 408, 413, 429, 431)  # the connection is closed, as the body may not have been read


class ErrorResponse(BaseModel):
    """An error."""

    error: str = Field(examples=["Model is overloaded"])
    error_type: ErrorType = Field(examples=["Overloaded"])


class ServiceError(HTTPException):
    """An error sent as the response to a request; its status follows from `error_type` by default."""

    def __init__(self, error_type: ErrorType, message: str, status: int | None = None) -> None:
        status = status or STATUS[error_type]
        headers = {"connection": "close"} if status in BODY_UNREAD else {}
        if error_type == "Unauthorized":
            headers["www-authenticate"] = "Bearer"
        super().__init__(status, message, headers)
        self.error_type = error_type


# The documented errors of a route that reads texts.
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": description}
    for status, description in {
        400: "Nothing to classify",
        401: "The key is missing or wrong",
        408: "The body did not arrive in time",
        413: "Too many texts, or a body too large",
        422: "Invalid, or a text is too long",
        424: "The model failed",
        429: "Model is overloaded",
        503: "Starting or stopping",
    }.items()
}


def error_response(scope: Scope, error: HTTPException) -> JSONResponse:
    """The response for an error, which is also counted."""
    kind: ErrorType = "NotFound" if error.status_code == 404 else "Validation"
    kind = getattr(error, "error_type", kind)
    counted = "disconnected" if error.status_code == CLIENT_GONE else kind.lower()
    scope["app"].state.service.metrics.failures.labels(err=counted).inc()
    return JSONResponse({"error": error.detail, "error_type": kind}, error.status_code, error.headers)


async def _http_error(request: Request, error: Any) -> Response:
    return error_response(request.scope, error)


async def _invalid(request: Request, error: Any) -> Response:
    """Message for an invalid body or query: location and problem, but not the value, which may be a client's text."""
    field, message = first_problem(error, show_input=False)
    if field == "body":
        message = 'Send a JSON object, {"inputs": "a text"}, with Content-Type: application/json'
    elif field.startswith("body.inputs") and error.errors()[0]["type"] != "missing":
        message = '`inputs` must be a string or a batch such as [["a"], ["b"]]'
    else:
        message = f"{field.removeprefix('body.')}: {message}"
    return error_response(request.scope, ServiceError("Validation", message))


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    HTTPException: _http_error,
    RequestValidationError: _invalid,
}

JSON_FIELDS = {"X": "inputs", "text": "inputs", "texts": "inputs", "label": "labels"}


def in_json_terms(message: str) -> str:
    """A library error's message with JSON fields in place of parameters, and without backticks."""
    return re.sub(r"`(\w+)((?:\[\d+\])?)`", lambda found: JSON_FIELDS.get(found[1], found[1]) + found[2], message)
