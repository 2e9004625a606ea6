"""Collects the texts of all clients in batches for one model.

While the model processes a batch, texts for the next one are queued: the busier the server, the larger its batches.
Clients that were answered together send their next requests together, so a batch waits briefly to reach the size of
the last one; a single client never waits. Batches are limited by tokens, which determine their cost.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from fusion_classifier.config import TruncationSide
from fusion_classifier.serving.errors import ServiceError


@dataclass
class Waiting:
    """A text in the queue, and the future of its result."""

    text: str
    tokens: int
    side: TruncationSide
    unknown: bool
    result: "asyncio.Future[Any]" = field(repr=False)
    since: float = field(default_factory=time.perf_counter)


Run = Callable[[Sequence[str], TruncationSide, bool], Sequence[Any]]
Observe = Callable[[int, int, float, float], None]


class Batcher:
    """The queue, and the one thread in which the model runs.

    Args:
        run: Takes texts, the side where they are cut, and whether an unknown score is requested; returns one result
            per text; called in the model's thread.
        max_tokens: Maximum number of tokens per batch; a longer text is a separate batch.
        max_wait: Maximum time in seconds for which a batch waits to reach the size of the last one.
        observe: Called after each batch with its number of texts and tokens, the seconds that its oldest text waited,
            and the seconds of the model.
        queued: Called with the number of waiting texts whenever it changes.
    """

    def __init__(
        self,
        run: Run,
        max_tokens: int,
        max_wait: float,
        observe: Observe = lambda *_: None,
        queued: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.run, self.max_tokens, self.max_wait = run, max_tokens, max_wait
        self.observe, self.queued = observe, queued
        self.waiting: deque[Waiting] = deque()
        self.tokens = 0  # of all waiting texts
        self.last_size = 1  # texts of the last batch
        self.closing = False
        self.changed = asyncio.Event()
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start in the event loop."""
        self.task = asyncio.get_running_loop().create_task(self._work())

    @property
    def healthy(self) -> bool:
        """Whether it takes texts."""
        return self.task is not None and not self.task.done() and not self.closing

    async def close(self) -> None:
        """Take no more texts, answer those that wait, then stop."""
        self.closing = True
        self.changed.set()
        if self.task is not None:
            await self.task
        await asyncio.to_thread(self.executor.shutdown)

    async def submit(
        self, texts: Sequence[str], tokens: Sequence[int], sides: Sequence[TruncationSide], *, unknown: bool = False
    ) -> list[Any]:
        """The results of texts, in order. When it is cancelled, texts that are still waiting are never computed.

        Raises:
            ServiceError: The queue is closed.
            Exception: The exception that `run` raised for one of them.
        """
        if not self.healthy:
            raise ServiceError("Unhealthy", "unhealthy")
        loop = asyncio.get_running_loop()
        mine = [
            Waiting(text, count, side, unknown, loop.create_future())
            for text, count, side in zip(texts, tokens, sides, strict=True)
        ]
        self.waiting.extend(mine)
        self.tokens += sum(tokens)
        self.queued(len(self.waiting))
        self.changed.set()
        try:
            return list(await asyncio.gather(*(one.result for one in mine)))
        finally:
            for one in mine:
                one.result.cancel()

    async def _work(self) -> None:
        while await self._gather():
            batch = self._next()
            if not batch:
                continue
            self.last_size = len(batch)
            started = time.perf_counter()
            for one, found in zip(batch, await self._results(batch), strict=True):
                if one.result.done():  # its client disconnected
                    continue
                if isinstance(found, Exception):
                    one.result.set_exception(found)
                else:
                    one.result.set_result(found)
            tokens, seconds = sum(one.tokens for one in batch), time.perf_counter() - started
            self.observe(len(batch), tokens, started - batch[0].since, seconds)

    async def _results(self, batch: Sequence[Waiting]) -> list[Any]:
        """The result of each text, or its exception.

        Texts of different clients share a batch: if it fails, each text is retried separately, so that only the
        faulty one fails.
        """
        loop = asyncio.get_running_loop()
        try:
            texts, unknown = [one.text for one in batch], any(one.unknown for one in batch)
            return list(await loop.run_in_executor(self.executor, self.run, texts, batch[0].side, unknown))
        except Exception as error:  # any exception is passed on to the waiting requests
            if len(batch) == 1:
                return [error]
        return [result for one in batch for result in await self._results([one])]

    async def _gather(self) -> bool:
        """Wait for a text, then briefly for more; false once all are done and no more are accepted."""
        while not self.waiting:
            if self.closing:
                return False
            self.changed.clear()
            await self.changed.wait()
        loop = asyncio.get_running_loop()
        until = loop.time() + self.max_wait
        while len(self.waiting) < self.last_size and self.tokens < self.max_tokens and not self.closing:
            self.changed.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self.changed.wait()
            except TimeoutError:
                break
        return True

    def _next(self) -> list[Waiting]:
        """The oldest texts whose clients are still waiting, up to `max_tokens`, all truncated on the same side."""
        batch: list[Waiting] = []
        total = 0
        while self.waiting:
            one = self.waiting[0]
            if one.result.done():  # its client disconnected
                self._take()
                continue
            if batch and (total + one.tokens > self.max_tokens or one.side != batch[0].side):
                break
            batch.append(self._take())
            total += one.tokens
        return batch

    def _take(self) -> Waiting:
        one = self.waiting.popleft()
        self.tokens -= one.tokens
        self.queued(len(self.waiting))
        return one
