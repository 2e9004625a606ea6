"""The HTTP application: the interface of text-embeddings-inference for classifiers, explanations, and a web page.

A request goes through `RequestLog` (a log line), CORS, `limits.Guard` (key, sizes, number of requests) to a route;
the routes share a `Service`, which collects the texts of all clients in batches.
"""

from fastapi import FastAPI, Security
from fastapi.middleware.cors import CORSMiddleware

from fusion_classifier.serving import explain, page, routes
from fusion_classifier.serving.errors import HANDLERS
from fusion_classifier.serving.limits import BEARER, Guard
from fusion_classifier.serving.model import ServedModel
from fusion_classifier.serving.request_log import RequestLog
from fusion_classifier.serving.service import Service
from fusion_classifier.serving.settings import ServerSettings
from fusion_classifier.version import __version__


def create_app(model: ServedModel, settings: ServerSettings) -> FastAPI:
    """The application for one model."""
    service = Service(model, settings)
    app = FastAPI(
        title="LLM-FusionClassifier",
        summary="Text classification on frozen language models, over HTTP",
        version=__version__,
        lifespan=lambda _: service.running(),
        exception_handlers=HANDLERS,
        docs_url=None,  # its page would load scripts from elsewhere; ours is page.docs
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    app.state.service = service

    # Only describes the key in /openapi.json; Guard checks it before a body is read.
    keyed = [Security(BEARER)] if settings.api_key is not None else []
    app.include_router(routes.router, dependencies=keyed)
    app.include_router(explain.router, dependencies=keyed)
    app.include_router(routes.health_router)
    if settings.page:
        app.include_router(page.router)
    if settings.docs:
        app.include_router(page.docs_router)
    if settings.page or settings.docs:
        app.include_router(page.static_router)

    # The last added is the first to see a request.
    app.add_middleware(Guard, settings=settings)
    if settings.cors_allow_origin:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_allow_origin),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
        )
    app.add_middleware(RequestLog)
    return app
