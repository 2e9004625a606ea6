"""Texts of all clients, gathered into batches for one model.

While the model works on a batch, texts gather for the next: the busier the server, the fuller its batches. Clients
that wait for their answers come back together, so a batch waits a moment for as many texts as the last one had; a
client alone never waits. Batches are cut by tokens, because that is what they cost.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fusion_classifier.encoders.encode import Side
from fusion_classifier.serving.schemas import ServiceError


@dataclass
class Waiting:
    """A text in the queue, and where its answer goes."""

    text: str
    tokens: int
    side: Side
    answer: "asyncio.Future[Any]" = field(repr=False)
    since: float = field(default_factory=time.perf_counter)


class Done(NamedTuple):
    """A batch that has gone through the model."""

    texts: int
    tokens: int
    waited: float
    """Seconds, of its oldest text."""
    seconds: float


Run = Callable[[Sequence[str], Side], Sequence[Any]]


class Batcher:
    """The queue, and the one thread in which the model runs.

    Args:
        run: texts, and where those that are too long are cut, to one result a text; called in the model's thread.
        max_tokens: of a batch; a longer text is a batch of its own.
        max_wait: seconds for which a batch waits for as many texts as the last one had.
        observe: told of each batch.
    """

    def __init__(
        self, run: Run, max_tokens: int, max_wait: float, observe: Callable[[Done], None] = lambda _: None
    ) -> None:
        self.run, self.max_tokens, self.max_wait, self.observe = run, max_tokens, max_wait, observe
        self.waiting: deque[Waiting] = deque()
        self.tokens = 0  # of all that wait
        self.company = 1  # texts of the last batch
        self.closing = False
        self.changed = asyncio.Event()
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work; in the event loop."""
        self.task = asyncio.get_running_loop().create_task(self._work())

    @property
    def healthy(self) -> bool:
        """Whether it takes texts."""
        return self.task is not None and not self.task.done() and not self.closing

    async def close(self) -> None:
        """Take no more, answer what waits, then stop."""
        self.closing = True
        self.changed.set()
        if self.task is not None:
            await self.task
        await asyncio.to_thread(self.executor.shutdown)

    async def submit(self, texts: Sequence[str], tokens: Sequence[int], sides: Sequence[Side]) -> list[Any]:
        """The results of texts, in order. Cancelled, what has not begun is never computed.

        Args:
            texts: N texts.
            tokens: of each.
            sides: where each is cut.

        Raises:
            ServiceError: it is closed.
            Exception: what `run` raised for one of them.
        """
        if not self.healthy:
            raise ServiceError("Unhealthy", "unhealthy")
        loop = asyncio.get_running_loop()
        mine = [
            Waiting(text, count, side, loop.create_future())
            for text, count, side in zip(texts, tokens, sides, strict=True)
        ]
        self.waiting.extend(mine)
        self.tokens += sum(tokens)
        self.changed.set()
        try:
            return list(await asyncio.gather(*(one.answer for one in mine)))
        finally:
            for one in mine:
                one.answer.cancel()

    async def _work(self) -> None:
        while await self._gather():
            batch = self._next()
            if not batch:
                continue
            self.company = len(batch)
            started = time.perf_counter()
            for one, result in zip(batch, await self._results(batch), strict=True):
                if one.answer.done():  # its client is gone
                    continue
                if isinstance(result, Exception):
                    one.answer.set_exception(result)
                else:
                    one.answer.set_result(result)
            self.observe(
                Done(
                    len(batch),
                    sum(one.tokens for one in batch),
                    started - batch[0].since,
                    time.perf_counter() - started,
                )
            )

    async def _results(self, batch: Sequence[Waiting]) -> list[Any]:
        """Of each text its result, or the exception.

        Texts of different clients share a batch: where one makes it fail, each is tried by itself, so that only that
        one fails.
        """
        loop = asyncio.get_running_loop()
        try:
            texts = [one.text for one in batch]
            return list(await loop.run_in_executor(self.executor, self.run, texts, batch[0].side))
        except Exception as error:  # whatever it is, it belongs to those who wait for it
            if len(batch) == 1:
                return [error]
        return [result for one in batch for result in await self._results([one])]

    async def _gather(self) -> bool:
        """Wait for a text, then a moment for more; false once all is done and no more is taken."""
        while not self.waiting:
            if self.closing:
                return False
            self.changed.clear()
            await self.changed.wait()
        loop = asyncio.get_running_loop()
        until = loop.time() + self.max_wait
        while len(self.waiting) < self.company and self.tokens < self.max_tokens and not self.closing:
            self.changed.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self.changed.wait()
            except TimeoutError:
                break
        return True

    def _next(self) -> list[Waiting]:
        """The oldest texts that still want an answer, up to the token budget, cut on the same side."""
        batch: list[Waiting] = []
        total = 0
        while self.waiting:
            one = self.waiting[0]
            if one.answer.done():  # its client is gone
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
        return one
