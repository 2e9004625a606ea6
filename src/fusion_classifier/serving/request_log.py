"""One log line per request: method, route, status, milliseconds, number of texts and tokens; never a text."""

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fusion_classifier.serving.errors import ServiceError, error_response

logger = logging.getLogger("fusion_classifier.serving")
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")


class RequestLog:
    """ASGI middleware around everything else: it also responds to errors that nothing else has caught."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception as error:  # the server would log it with its message, which may quote a text
            logger.error("unexpected error", extra={"error": type(error).__name__})
            response = error_response(scope, ServiceError("Backend", "Inference failed"))
            if not status:
                await response(scope, receive, watched)
        finally:
            seconds = time.perf_counter() - started
            if "fec" in scope:
                scope["app"].state.service.metrics.seconds.observe(seconds)
            # Neither a path nor a method that is not ours: a client may write a text into them.
            fields = {
                "method": scope["method"] if scope["method"] in METHODS else "other",
                "route": getattr(scope.get("route"), "path", "unknown"),
                "status": status,
                "ms": round(1000 * seconds, 2),
            }
            logger.info("request", extra=fields | scope.get("fec", {}))
