"""Limits for untrusted clients: API key, size of headers, number of requests, size and time of a body.

Independent of the application. `Guard` is its outer middleware; `Connection` is uvicorn's HTTP/1.1 protocol with a
time limit for headers.
"""

import asyncio
import hmac
from collections.abc import Callable

import h11
from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from fusion_classifier.serving.errors import CLIENT_GONE, ServiceError, error_response
from fusion_classifier.serving.settings import ServerSettings

HEADER_BYTES = 32768  # of a request's line and headers
HEADER_SECONDS = 10.0  # from the connection, or from a further request's first byte, to the end of its headers
BODY_SECONDS = 30  # in which a body must arrive
DRAINED = 4  # times its limit that a body which is too large is read before it is rejected
OPEN_PATHS = ("/health", "/", "/docs", "/favicon.ico")  # need no key
OPEN_PREFIX = "/static/"

BEARER = HTTPBearer(auto_error=False)


class Guard:
    """ASGI middleware that rejects requests before any of their body is stored.

    Not a dependency of the routes: FastAPI reads a body before it asks for a key, so clients without one could use up
    the memory and the allowed number of requests.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self.app, self.settings = app, settings
        self.active = 0  # requests with a body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        has_body = scope["method"] in ("POST", "PUT", "PATCH")
        try:
            _check_header_size(scope)
            await self._check_key(scope)
            if has_body and self.active >= self.settings.max_concurrent_requests:
                raise ServiceError("Overloaded", "Model is overloaded")
        except ServiceError as error:
            await error_response(scope, error)(scope, receive, send)
            return
        self.active += has_body
        try:
            await self.app(scope, _bounded(receive, self.settings.payload_limit) if has_body else receive, send)
        finally:
            self.active -= has_body

    async def _check_key(self, scope: Scope) -> None:
        key, path = self.settings.api_key, scope["path"]
        if key is None or path in OPEN_PATHS or path.startswith(OPEN_PREFIX):
            return
        given = await BEARER(HTTPConnection(scope))
        # In constant time, which does not reveal how much of a guess is right. Starlette decodes headers as Latin-1.
        if given is None or not hmac.compare_digest(given.credentials.encode("latin-1"), key.encode()):
            raise ServiceError("Unauthorized", "Send the key as the header Authorization: Bearer KEY")


def _check_header_size(scope: Scope) -> None:
    """h11 limits only headers that arrive in several pieces, not those that arrive at once."""
    line = len(scope["method"]) + len(scope.get("raw_path") or b"") + len(scope["query_string"])
    if line + sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
        message = f"The request line and headers may have at most {HEADER_BYTES} bytes together"
        raise ServiceError("Validation", message, 431)


def _bounded(receive: Receive, limit: int) -> Receive:
    """`receive` that raises a `ServiceError` if a body is too large, takes too long, or is cut off."""
    size, more = 0, True
    deadline = asyncio.get_running_loop().time() + BODY_SECONDS

    async def bounded() -> Message:
        nonlocal size, more
        try:
            async with asyncio.timeout_at(deadline if more else None):
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise ServiceError("Backend", "The client disconnected", CLIENT_GONE)
                    size += len(message.get("body", b""))
                    more = message.get("more_body", False)
                    if size <= limit:
                        return message
                    # What is too large is read for a while, and dropped: a client that still writes when the
                    # connection is closed does not see the answer.
                    if not more or size > DRAINED * limit:
                        raise ServiceError("Validation", f"The body must have at most {limit} bytes", 413)
                return await receive()
        except TimeoutError:
            raise ServiceError("Validation", f"The body took longer than {BODY_SECONDS} s", 408) from None

    return bounded


class Connection(H11Protocol):
    """uvicorn's HTTP/1.1, with limits for the number of connections and for the time of a request's headers.

    uvicorn bounds their size, not their time: a client that sends one byte per second would keep its connection
    forever, and a thousand such clients would use all connections that a process may open ("slowloris").
    """

    max_connections = 1024
    """Maximum number of open connections; further ones are closed at once."""
    opened: Callable[[int], None] = staticmethod(lambda _: None)
    """Called with the number of open connections whenever it changes."""
    refused: Callable[[], None] = staticmethod(lambda: None)
    """Called for each connection that is over the limit."""
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new client."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:  # those of this server, the new one among them
            self.refused()
            transport.close()
        self.opened(len(self.connections))
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Headers, whole or in part, or a body."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client disconnected."""
        super().connection_lost(exc)
        self.opened(len(self.connections))
        self._watch()

    def _watch(self) -> None:
        """Start the clock while headers are incomplete, else stop it."""
        incomplete = self.conn.their_state is h11.IDLE and not self.transport.is_closing()
        if incomplete and self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)
        elif not incomplete and self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
