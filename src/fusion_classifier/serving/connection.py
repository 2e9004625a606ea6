"""A client's connection: uvicorn's, but a request whose line and headers do not come in time is given up.

uvicorn bounds the size of headers, not their time: a client that sends a byte a second would hold its connection for
ever, and a thousand of them all that a process may open ("slowloris").
"""

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0  # from the connection, or from a further request's first byte, to the end of its headers


class Connection(H11Protocol):
    """HTTP/1.1 with a time for a request's line and headers."""

    _until_headers: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give a new client its time."""
        super().connection_made(transport)
        self._until_headers = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def data_received(self, data: bytes) -> None:
        """Stop the time when a request is whole; begin it when the next one is not."""
        super().data_received(data)
        waits = self.conn.their_state is h11.IDLE
        if not waits:
            self._stop()
        elif self._until_headers is None:
            self._until_headers = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop()
        super().connection_lost(exc)

    def _stop(self) -> None:
        if self._until_headers is not None:
            self._until_headers.cancel()
            self._until_headers = None

    def _too_slow(self) -> None:
        self._until_headers = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()
