"""POST /predict, and information about the server: GET /info, /health, /metrics.

{"inputs": "a text"}            [{"score": …, "label": …}, …], highest score first
{"inputs": [["a"], ["b"]]}      a list of such lists
{"inputs": …, "reject_unknown": true}   the same with "unknown" and "unknown_score"; unknown: [{"label": null, …}]
"""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from fusion_classifier.serving.errors import RESPONSES, ServiceError
from fusion_classifier.serving.schemas import Info, PredictRequest, PredictResponse
from fusion_classifier.serving.service import ServiceDep, read_by

router = APIRouter()
health_router = APIRouter()  # asked without the key


@router.post("/predict", response_model=PredictResponse, responses=RESPONSES)
async def predict(body: PredictRequest, request: Request, service: ServiceDep) -> Any:
    """Classify texts."""
    texts, most = body.texts, service.settings.max_client_batch_size
    if len(texts) > most:
        message = f"batch size {len(texts)} > maximum allowed batch size {most}"
        raise ServiceError("Validation", message, 413)
    threshold = service.model.unknown_threshold(body.false_alarm_rate) if body.reject_unknown else None
    scores = await service.scores(
        request,
        texts,
        truncate=service.truncates(body.truncate),
        side=body.side,
        unknown=body.reject_unknown,
        batch=body.is_batch,
    )
    answers = [service.model.ranked(one, raw=body.raw_scores, threshold=threshold) for one in scores]
    read = {"characters": sum(map(len, texts)), "tokens": read_by(request)["tokens"]}
    return JSONResponse(
        answers if body.is_batch else answers[0],
        headers={f"x-compute-{name}": str(count) for name, count in read.items()},
    )


@router.get("/info", response_model=Info, responses={401: RESPONSES[401]})
async def info(service: ServiceDep) -> Info:
    """The model and the server's limits."""
    return Info.of(service.model, service.settings)


@health_router.get(
    "/health",
    response_class=Response,
    responses={200: {"description": "Everything is working fine"}, 503: RESPONSES[503]},
)
async def health(service: ServiceDep) -> Response:
    """Whether texts can be classified."""
    if not service.batcher.healthy:
        raise ServiceError("Unhealthy", "unhealthy")
    return Response()


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "For Prometheus"}, 401: RESPONSES[401]},
)
async def prometheus(service: ServiceDep) -> Response:
    """Metrics for Prometheus."""
    return Response(service.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
