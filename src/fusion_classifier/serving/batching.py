"""Texts of all clients, gathered into batches for one model.

While the model works on a batch, texts gather for the next: the busier the server, the fuller its batches. An
idle one waits a moment for more texts to join the first. Batches are cut by tokens, because that is what they cost.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from fusion_classifier.encoders import Side


@dataclass
class Waiting:
    """A text in the queue, and where its answer goes."""

    text: str
    tokens: int
    side: Side
    answer: "asyncio.Future[Any]" = field(repr=False)


Run = Callable[[Sequence[str], Side], Sequence[Any]]


class Batcher:
    """The queue, and the one thread in which the model runs.

    Args:
        run: texts, and where those that are too long are cut, to one result a text; called in the model's thread.
        max_tokens: of a batch; a longer text is a batch of its own.
        max_wait: seconds for which an idle model waits for more texts.
        observe: told texts and tokens of each batch.
    """

    def __init__(
        self, run: Run, max_tokens: int, max_wait: float, observe: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        self.run, self.max_tokens, self.max_wait, self.observe = run, max_tokens, max_wait, observe
        self.waiting: deque[Waiting] = deque()
        self.tokens = 0  # of all that wait
        self.changed = asyncio.Event()
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work; in the event loop."""
        self.task = asyncio.get_running_loop().create_task(self._work())

    @property
    def healthy(self) -> bool:
        """Whether it works."""
        return self.task is not None and not self.task.done()

    async def close(self) -> None:
        """Answer what waits, then stop."""
        while self.healthy and self.waiting:
            await asyncio.sleep(0.01)
        if self.task is not None:
            self.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
        await asyncio.to_thread(self.executor.shutdown)

    async def submit(self, texts: Sequence[str], tokens: Sequence[int], side: Side) -> list[Any]:
        """The results of texts, in order. Cancelled, what has not begun is never computed."""
        loop = asyncio.get_running_loop()
        mine = [Waiting(text, count, side, loop.create_future()) for text, count in zip(texts, tokens, strict=True)]
        self.waiting.extend(mine)
        self.tokens += sum(tokens)
        self.changed.set()
        try:
            return list(await asyncio.gather(*(one.answer for one in mine)))
        finally:
            for one in mine:
                one.answer.cancel()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._gather()
            batch = self._next()
            if not batch:
                continue
            texts, side = [one.text for one in batch], batch[0].side
            self.observe(len(batch), sum(one.tokens for one in batch))
            try:
                results = await loop.run_in_executor(self.executor, self.run, texts, side)
            except Exception as error:  # whatever it is, it belongs to those who wait for it
                for one in batch:
                    if not one.answer.done():
                        one.answer.set_exception(error)
                continue
            for one, result in zip(batch, results, strict=True):
                if not one.answer.done():
                    one.answer.set_result(result)

    async def _gather(self) -> None:
        """Wait for a text; then a moment for more, unless there is a batch already."""
        while not self.waiting:
            self.changed.clear()
            await self.changed.wait()
        if self.max_wait and self.tokens < self.max_tokens and len(self.waiting) < 2:
            await asyncio.sleep(self.max_wait)

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
