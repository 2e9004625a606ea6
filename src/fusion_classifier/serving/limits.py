"""What stands before the routes: size of a body, the key, security headers, a log line a request."""

import hmac
import json
import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fusion_classifier.serving.metrics import Metrics
from fusion_classifier.serving.schemas import ErrorResponse, ErrorType

logger = logging.getLogger("fusion_classifier.serving")
OPEN = ("/health", "/", "/favicon.ico")  # paths that need no key; the page's files below, too
STATIC = "/static/"
# The page runs its own scripts and nothing else, and no other site may frame it.
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


async def refuse(send: Send, status: int, error_type: ErrorType, message: str) -> None:
    """Send an error without asking the application."""
    body = json.dumps(ErrorResponse(error=message, error_type=error_type).model_dump()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 413:  # the rest of the body is not read
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class BodyLimit:
    """Refuses bodies over a size, declared or not, and reads no more of them than that."""

    def __init__(self, app: ASGIApp, limit: int, metrics: Metrics) -> None:
        self.app, self.limit, self.metrics = app, limit, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"")
        if declared.isdigit() and int(declared) > self.limit:
            await self._too_large(send)
            return
        # Read here, so that a body that grows too large is refused before any of the application sees it.
        body, messages = 0, []
        while scope["method"] in ("POST", "PUT", "PATCH"):
            message = await receive()
            messages.append(message)
            if message["type"] != "http.request":
                break
            body += len(message.get("body", b""))
            if body > self.limit:
                await self._too_large(send)
                return
            if not message.get("more_body", False):
                break
        queue = iter(messages)

        async def replay() -> Message:
            message = next(queue, None)
            return message if message is not None else await receive()

        await self.app(scope, replay, send)

    async def _too_large(self, send: Send) -> None:
        self.metrics.failures.labels(err="payload").inc()
        await refuse(send, 413, "Validation", f"The body must have at most {self.limit} bytes")


class ApiKey:
    """Lets nobody in without the key, but to ask whether the server is well or to see its page."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self.app, self.expected = app, f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and scope["path"] not in OPEN and not scope["path"].startswith(STATIC):
            given = dict(scope["headers"]).get(b"authorization", b"")
            # In constant time: how much of a guess is right must not show.
            if not hmac.compare_digest(given, self.expected):
                await refuse(send, 401, "Unauthorized", "Give the key: Authorization: Bearer KEY")
                return
        await self.app(scope, receive, send)


class RequestLog:
    """A line a request: what it was, how it ended, how long it took; never a text. And headers of every answer."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

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
                there = {name for name, _ in message["headers"]}
                extra = [(n.encode(), v.encode()) for n, v in SECURITY_HEADERS.items() if n.encode() not in there]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "unknown")  # not the path: a client may write a text into it
            self.metrics.seconds.observe(seconds)
            known = {"method": scope["method"], "route": route, "status": status, "ms": round(1000 * seconds, 2)}
            logger.info("request", extra=known | scope.get("fec", {}))
