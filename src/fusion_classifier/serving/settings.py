"""How a server is set up; names as in text-embeddings-inference where it has the same setting."""

from typing import Annotated

from pydantic import Field

from fusion_classifier.config import FrozenModel


class ServerSettings(FrozenModel):
    """Limits and access."""

    max_concurrent_requests: Annotated[int, Field(ge=1)] = 512
    """Requests in work or waiting; further ones are refused (429) rather than kept waiting ever longer."""
    max_client_batch_size: Annotated[int, Field(ge=1)] = 32
    """Texts in one request."""
    max_batch_tokens: Annotated[int, Field(ge=1)] = 2048
    """Tokens of the texts that go through the model together, whoever sent them."""
    max_wait_ms: Annotated[float, Field(ge=0, le=1000)] = 2.0
    """How long an idle server waits for more texts to join the first; a busy one collects them meanwhile."""
    payload_limit: Annotated[int, Field(ge=1024)] = 2_000_000
    """Bytes of a request's body."""
    auto_truncate: bool = False
    """Cut texts that are too long unless a request says otherwise, instead of refusing them."""
    api_key: str | None = None
    """Key that requests must give as Authorization: Bearer KEY; /health and the page itself need none."""
    cors_allow_origin: tuple[str, ...] = ()
    """Origins whose web pages may call the server; may be repeated. None unless given."""
    page: bool = True
    """Whether there is a web page at /."""
