"""What stands before the routes: number of requests, size of a body, the key, headers, a log line a request."""

import asyncio
import hmac
import json
import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fusion_classifier.serving.prometheus import Metrics
from fusion_classifier.serving.schemas import ErrorResponse, ErrorType

logger = logging.getLogger("fusion_classifier.serving")
HEADER_BYTES = 32768  # of a request's line and headers
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
BODY_SECONDS = 30  # in which a body must be there
DRAINED = 4  # times its limit that a body which is too large is read before it is refused
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
    if status in (408, 413, 429, 431):  # the rest of the body is not read
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Admission:
    """Lets a bounded number of requests with a body in, and bodies of a bounded size, in bounded time.

    All of it before the body is kept: requests, size and number, bound the server's memory.

    Args:
        app: what is guarded.
        limit: bytes of a body, declared or not.
        most: requests at once; further ones are refused.
        metrics: told of refusals.
    """

    def __init__(self, app: ASGIApp, limit: int, most: int, metrics: Metrics) -> None:
        self.app, self.limit, self.most, self.metrics = app, limit, most, metrics
        self.active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self.app(scope, receive, send)
            return
        if self.active >= self.most:
            await self._refuse(send, 429, "Overloaded", "Model is overloaded")
            return
        self.active += 1
        try:
            await self._admitted(scope, receive, send)
        finally:
            self.active -= 1

    async def _admitted(self, scope: Scope, receive: Receive, send: Send) -> None:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        # int() refuses thousands of digits.
        too_large = len(declared) > 18 or (declared.isdigit() and int(declared) > self.limit)
        body: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                more = True
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        return  # gone
                    size += len(message.get("body", b""))
                    too_large = too_large or size > self.limit
                    # What is too large is read for a while, and dropped: a client that still writes when the
                    # connection is closed does not see the answer.
                    if too_large:
                        body.clear()
                        if size > DRAINED * self.limit:
                            break
                    else:
                        body.append(message.get("body", b""))
                    more = message.get("more_body", False)
        except TimeoutError:
            await self._refuse(send, 408, "Validation", f"The body took longer than {BODY_SECONDS} s")
            return
        if too_large:
            await self._refuse(send, 413, "Validation", f"The body must have at most {self.limit} bytes")
            return
        whole: Message | None = {"type": "http.request", "body": b"".join(body), "more_body": False}
        body.clear()

        async def replay() -> Message:
            nonlocal whole
            message, whole = whole, None
            return message if message is not None else await receive()

        await self.app(scope, replay, send)

    async def _refuse(self, send: Send, status: int, error_type: ErrorType, message: str) -> None:
        self.metrics.failures.labels(err="overloaded" if status == 429 else "payload").inc()
        await refuse(send, status, error_type, message)


class HeaderSize:
    """Lets no request in whose line and headers are too long; the protocol bounds only what it must wait for."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            line = len(scope["method"]) + len(scope.get("raw_path") or b"") + len(scope["query_string"])
            if line + sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
                await refuse(
                    send, 431, "Validation", f"A request's line and headers may have {HEADER_BYTES} bytes together"
                )
                return
        await self.app(scope, receive, send)


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
        except Exception as error:  # the server would log it with its message, which may quote a text
            logger.error("unforeseen", extra={"error": type(error).__name__})
            self.metrics.failures.labels(err="backend").inc()
            if not status:
                await refuse(watched, 424, "Backend", "Inference failed")
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "unknown")  # not the path: a client may write a text into it
            if "fec" in scope:
                self.metrics.seconds.observe(seconds)
            method = scope["method"] if scope["method"] in METHODS else "other"  # a client may write a text here, too
            known = {"method": method, "route": route, "status": status, "ms": round(1000 * seconds, 2)}
            logger.info("request", extra=known | scope.get("fec", {}))
