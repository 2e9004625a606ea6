"""The HTTP application: the contract of text-embeddings-inference for classifiers.

POST /predict       {"inputs": "a text"}            [{"score": …, "label": …}, …], by falling score
                    {"inputs": [["a"], ["b"]]}      a list of such lists
POST /explain       {"inputs": "a text"}            which words carry each label (`serving.explain`)
GET  /info /health /metrics /openapi.json
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from fusion_classifier.config import ServerSettings
from fusion_classifier.encoders.encode import Side
from fusion_classifier.serving.batching import Batcher
from fusion_classifier.serving.explain import add_explain
from fusion_classifier.serving.limits import Admission, ApiKey, HeaderSize, RequestLog
from fusion_classifier.serving.model import Scores, ServedModel
from fusion_classifier.serving.page import add_page
from fusion_classifier.serving.prometheus import Metrics
from fusion_classifier.serving.schemas import (
    ClassifierType,
    EncoderInfo,
    ErrorResponse,
    ErrorType,
    Info,
    ModelType,
    Prediction,
    PredictRequest,
    PredictResponse,
    ServiceError,
)
from fusion_classifier.version import __version__

logger = logging.getLogger("fusion_classifier.serving")

WHAT_FAILED = {
    400: "Nothing to classify",
    401: "The key is missing or wrong",
    408: "The body did not come in time",
    413: "Too many texts, or a body too large",
    422: "Not valid, or a text is too long",
    424: "The model failed",
    429: "Model is overloaded",
    503: "Starting or stopping",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": what} for status, what in WHAT_FAILED.items()
}
GONE = 499  # nobody reads it; it stands in the log
Result = TypeVar("Result")


def create_app(model: ServedModel, settings: ServerSettings) -> FastAPI:
    """The application for one model."""
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        batcher = Batcher(model.run, settings.max_batch_tokens, settings.max_wait_ms / 1000, metrics.batch)
        batcher.start()
        metrics.queue.set_function(lambda: len(batcher.waiting))
        app.state.batcher = batcher
        app.state.tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenizers")
        yield
        await batcher.close()
        app.state.tokenizing.shutdown()

    app = FastAPI(
        title="LLM-FusionClassifier",
        summary="Text classification on frozen language models, over HTTP",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    app.state.model, app.state.settings, app.state.metrics = model, settings, metrics
    _add_routes(app)
    add_explain(app, scored, ERRORS)
    if settings.page:
        add_page(app, scored)
    _add_error_answers(app, metrics)
    # The last added is the first to see a request.
    app.add_middleware(
        Admission, limit=settings.payload_limit, most=settings.max_concurrent_requests, metrics=metrics
    )
    if settings.api_key is not None:
        app.add_middleware(ApiKey, key=settings.api_key)
    if settings.cors_allow_origin:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_allow_origin),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
        )
    app.add_middleware(HeaderSize)
    app.add_middleware(RequestLog, metrics=metrics)
    return app


def _add_routes(app: FastAPI) -> None:
    model: ServedModel = app.state.model
    settings: ServerSettings = app.state.settings

    @app.post("/predict", response_model=PredictResponse, responses=ERRORS)
    async def predict(body: PredictRequest, request: Request) -> Any:
        """Classify texts."""
        texts = body.texts
        truncate = settings.auto_truncate if body.truncate is None else body.truncate
        side: Side = "left" if body.truncation_direction in ("left", "Left") else "right"
        scores = await scored(request, texts, truncate=truncate, side=side, batch=body.is_batch)
        answers = [model.predictions(one, raw=body.raw_scores) for one in scores]
        # Checked already, and pydantic would do it once more for every label.
        plain = [[{"score": p.score, "label": p.label} for p in answer] for answer in answers]
        headers = {
            "x-compute-characters": str(sum(map(len, texts))),
            "x-compute-tokens": str(request.scope["fec"]["tokens"]),
        }
        return JSONResponse(plain if body.is_batch else plain[0], headers=headers)

    @app.get("/info", response_model=Info, responses={401: ERRORS[401]})
    async def info() -> Info:
        """The model and the server's limits."""
        return describe(model, settings)

    @app.get(
        "/health",
        response_class=Response,
        responses={200: {"description": "Everything is working fine"}, 503: ERRORS[503]},
    )
    async def health(request: Request) -> Response:
        """Whether texts can be classified."""
        if not request.app.state.batcher.healthy:
            raise ServiceError("Unhealthy", "unhealthy")
        return Response()

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "For Prometheus"}, 401: ERRORS[401]},
    )
    async def prometheus(request: Request) -> Response:
        """Figures for Prometheus."""
        return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def scored(
    request: Request, texts: list[str], *, truncate: bool, side: Side, batch: bool = False
) -> list[Scores]:
    """The scores of a request's texts, through the queue that all clients share.

    Raises:
        ServiceError: too many texts, one too long, too many requests, a model that fails, or no client any more.
    """
    state = request.app.state
    settings: ServerSettings = state.settings
    metrics: Metrics = state.metrics
    method = "batch" if batch else "single"
    metrics.requests.labels(method=method).inc()
    if len(texts) > settings.max_client_batch_size:
        raise ServiceError(
            "Validation",
            f"batch size {len(texts)} > maximum allowed batch size {settings.max_client_batch_size}",
            status=413,
        )
    if any(len(text) > settings.max_text_characters for text in texts):
        raise ServiceError(
            "Validation", f"`inputs` must have at most {settings.max_text_characters} characters a text"
        )

    async def work() -> list[Scores]:
        loop = asyncio.get_running_loop()
        lengths = await loop.run_in_executor(state.tokenizing, lambda: state.model.lengths(texts, truncate=truncate))
        tokens = [length.tokens for length in lengths]
        request.scope["fec"] = {"texts": len(texts), "tokens": sum(tokens)}
        # Texts that are cut at different sides can't share a batch; those that are not cut at all can.
        sides: list[Side] = [side if length.cut else "right" for length in lengths]
        found: list[Scores] = await state.batcher.submit(texts, tokens, sides)
        return found

    try:
        found = await _while_connected(request, work())
    except ServiceError:
        raise
    except Exception as error:  # its message may quote a text
        logger.error("inference failed", extra={"error": type(error).__name__})
        raise ServiceError("Backend", "Inference failed") from None
    metrics.successes.labels(method=method).inc()
    return found


async def _while_connected(request: Request, work: Awaitable[Result]) -> Result:
    """The result of some work, which is given up when the client goes away."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ServiceError("Backend", "The client has gone", status=GONE)
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def describe(model: ServedModel, settings: ServerSettings) -> Info:
    """What `/info` says."""
    config = model.classifier.config_
    id2label = {str(index): label for index, label in enumerate(model.labels)}
    thresholds = config.decision.thresholds
    dtypes = {str(encoder.identity.dtype).removeprefix("torch.") for encoder in model.encoders}
    return Info(
        model_id=model.name,
        model_type=ModelType(
            classifier=ClassifierType(
                id2label=id2label, label2id={label: index for index, label in enumerate(model.labels)}
            )
        ),
        model_dtype="+".join(sorted(dtypes)),
        id2label=id2label,
        multilabel=config.decision.multilabel,
        thresholds=None if thresholds is None else dict(zip(model.labels, thresholds, strict=True)),
        head=config.head.name,
        encoders=[
            EncoderInfo(
                name=encoder.config.name,
                max_length=encoder.config.max_length,
                dtype=str(encoder.identity.dtype).removeprefix("torch."),
                fingerprint=encoder.identity.fingerprint,
            )
            for encoder in model.encoders
        ],
        max_input_length=model.max_input_length,
        max_concurrent_requests=settings.max_concurrent_requests,
        max_client_batch_size=settings.max_client_batch_size,
        max_batch_tokens=settings.max_batch_tokens,
        max_text_characters=settings.max_text_characters,
        payload_limit=settings.payload_limit,
        auto_truncate=settings.auto_truncate,
        version=__version__,
    )


def _add_error_answers(app: FastAPI, metrics: Metrics) -> None:
    """Every error has the same form, and none says what the client did not know."""

    def answer(error: ServiceError) -> JSONResponse:
        metrics.failures.labels(err="disconnected" if error.status == GONE else error.error_type.lower()).inc()
        body = ErrorResponse(error=error.message, error_type=error.error_type)
        return JSONResponse(body.model_dump(), status_code=error.status)

    async def service_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, ServiceError)
        return answer(error)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        problem = error.errors()[0]
        # Where and what, but not the value: it is the client's text.
        if problem["loc"][:2] == ("body", "inputs") and problem["type"] not in ("missing", "value_error"):
            return answer(ServiceError("Validation", '`inputs` must be a string or a batch such as [["a"], ["b"]]'))
        if problem["loc"] == ("body",):
            example = '{"inputs": "a text"}'
            return answer(
                ServiceError("Validation", f"Send a JSON object, {example}, with Content-Type: application/json")
            )
        where = ".".join(str(part) for part in problem["loc"] if isinstance(part, str) and part != "body")
        message = f"{where}: {problem['msg']}" if where else str(problem["msg"])
        return answer(ServiceError("Validation", message))

    async def http_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        kind: ErrorType = "NotFound" if error.status_code == 404 else "Validation"
        response = answer(ServiceError(kind, str(error.detail), status=error.status_code))
        response.headers.update(error.headers or {})
        return response

    handlers: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
        ServiceError: service_error,
        RequestValidationError: invalid,
        HTTPException: http_error,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


__all__ = ["Prediction", "create_app", "describe", "scored"]
