"""Settings of the server."""

from typing import Annotated

from pydantic import Field

from fusion_classifier.config import FrozenModel


class ServerSettings(FrozenModel):
    """Settings of `fec serve`; names follow text-embeddings-inference where it has the same setting."""

    max_concurrent_requests: Annotated[int, Field(ge=1)] = 512
    """Maximum number of requests in progress or waiting; further ones are rejected with status 429."""
    max_connections: Annotated[int, Field(ge=1)] = 800
    """Maximum number of open connections, idle ones included; further ones are closed immediately."""
    max_client_batch_size: Annotated[int, Field(ge=1)] = 32
    """Maximum number of texts per request."""
    max_batch_tokens: Annotated[int, Field(ge=1)] = 2048
    """Maximum number of tokens per batch; a batch may contain texts of several requests."""
    max_wait_ms: Annotated[float, Field(ge=0, le=1000)] = 2.0
    """Maximum wait, in milliseconds, for a batch to reach the size of the last one; a single client never waits."""
    payload_limit: Annotated[int, Field(ge=1024)] = 2_000_000
    """Maximum size of a request body, in bytes."""
    max_text_characters: Annotated[int, Field(ge=1)] = 100_000
    """Maximum number of characters per text; longer texts are rejected, even with `auto_truncate`."""
    auto_truncate: bool = False
    """Whether to truncate texts with too many tokens instead of rejecting them; a request can override it."""
    api_key: Annotated[str, Field(min_length=8)] | None = None
    """API key, to be sent as Authorization: Bearer KEY; /health and the page need none."""
    cors_allow_origin: tuple[str, ...] = ()
    """Origins whose web pages may call the server (CORS); may be repeated."""
    page: bool = True
    """Whether to serve a web page at /."""
    docs: bool = False
    """Whether to serve a page at /docs with an interactive description of the HTTP interface."""
    example: tuple[str, ...] = ()
    """Example text on the web page; may be repeated. Default: those of the task, if it has some."""
