"""State shared by all routes: the model with its queue, the settings and the metrics."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from fusion_classifier.config import TruncationSide
from fusion_classifier.serving.batching import Batcher
from fusion_classifier.serving.errors import CLIENT_GONE, ServiceError
from fusion_classifier.serving.model import Scores, ServedModel
from fusion_classifier.serving.prometheus import Metrics
from fusion_classifier.serving.settings import ServerSettings
from fusion_classifier.support.text import surrogate_position

logger = logging.getLogger("fusion_classifier.serving")
Result = TypeVar("Result")


class Service:
    """A model shared by many clients, with limits."""

    batcher: Batcher
    tokenizer_thread: ThreadPoolExecutor

    def __init__(self, model: ServedModel, settings: ServerSettings) -> None:
        self.model, self.settings, self.metrics = model, settings, Metrics()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Accept texts within the block; texts accepted before its end are still answered."""
        settings, metrics = self.settings, self.metrics
        self.batcher = Batcher(
            self.model.run,
            settings.max_batch_tokens,
            settings.max_wait_ms / 1000,
            metrics.observe_batch,
            metrics.queue.set,
        )
        self.model.observe = metrics.observe_stage
        with ThreadPoolExecutor(1, thread_name_prefix="tokenizers") as self.tokenizer_thread:
            self.batcher.start()
            yield
            await self.batcher.close()

    def truncates(self, asked: bool | None) -> bool:
        """Whether texts that are too long are truncated: as requested, otherwise the server's setting."""
        return self.settings.auto_truncate if asked is None else asked

    def check_text(self, text: str) -> None:
        """Check that a text is valid."""
        if not text.strip():
            raise ServiceError("Empty", "`inputs` cannot be empty")
        most = self.settings.max_text_characters
        if len(text) > most:
            raise ServiceError("Validation", f"`inputs` must have at most {most} characters per text")
        if surrogate_position(text):
            raise ServiceError("Validation", "`inputs` must be valid Unicode, without half a surrogate pair")

    async def with_tokenizers(self, work: Callable[[], Result]) -> Result:
        """The result of work that uses the model's tokenizers, which belong to one thread."""
        return await asyncio.get_running_loop().run_in_executor(self.tokenizer_thread, work)

    async def scores(
        self,
        request: Request,
        texts: Sequence[str],
        *,
        truncate: bool,
        side: TruncationSide = "right",
        unknown: bool = False,
        batch: bool = True,
    ) -> list[Scores]:
        """The scores of a request's texts, computed together with those of other clients.

        Args:
            request: The request; its work is cancelled when its client disconnects.
            texts: N texts.
            truncate: Truncate texts that are too long on `side`, instead of rejecting them.
            side: Side on which they are truncated.
            unknown: Whether their unknown scores are requested.
            batch: Whether the client sent a batch, for the metrics.
        """
        for text in texts:
            self.check_text(text)
        method = "batch" if batch else "single"
        self.metrics.requests.labels(method=method).inc()

        async def work() -> list[Scores]:
            lengths = await self.with_tokenizers(lambda: self.model.lengths(texts, truncate=truncate))
            tokens = [length.tokens for length in lengths]
            read_by(request).update(texts=len(texts), tokens=sum(tokens))
            # Texts that are cut at different sides can't share a batch; those that are not cut at all can.
            sides: list[TruncationSide] = [side if length.cut else "right" for length in lengths]
            found: list[Scores] = await self.batcher.submit(texts, tokens, sides, unknown=unknown)
            return found

        try:
            found = await _while_connected(request, work())
        except ServiceError:
            raise
        except Exception as error:  # its message may quote a text
            logger.error("inference failed", extra={"error": type(error).__name__})
            raise ServiceError("Backend", "Inference failed") from None
        self.metrics.successes.labels(method=method).inc()
        return found


def read_by(request: Request) -> Counter[str]:
    """Number of texts and tokens of a request, for the log."""
    counts: Counter[str] = request.scope.setdefault("fec", Counter())
    return counts


async def _service(request: Request) -> Service:  # FastAPI would run a plain function in a thread
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(_service)]
"""A route's parameter of this type is the application's service."""


async def _while_connected(request: Request, work: Awaitable[Result]) -> Result:
    """The result of some work, which is cancelled when the client disconnects."""

    async def disconnected() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(disconnected())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ServiceError("Backend", "The client disconnected", CLIENT_GONE)
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
