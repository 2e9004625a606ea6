"""The queue that all clients share."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from fusion_classifier.config import TruncationSide
from fusion_classifier.serving.batching import Batcher
from fusion_classifier.serving.errors import ServiceError


class Recorder:
    """A model that waits at a gate, and remembers what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.begun, self.gate = threading.Event(), threading.Event()

    def __call__(self, texts: Sequence[str], _side: TruncationSide, _unknown: bool) -> list[str]:
        self.batches.append(list(texts))
        self.begun.set()
        assert self.gate.wait(30)
        if "poison" in texts:
            raise RuntimeError("poison")
        return [text.upper() for text in texts]

    async def at_work(self) -> None:
        """Until it is at a batch."""
        assert await asyncio.to_thread(self.begun.wait, 30)


def within(work: Callable[[Batcher, Recorder], Any], *, max_tokens: int = 100, max_wait: float = 0.0) -> Recorder:
    """Do something with a batcher of a recorder, then close it."""
    recorder = Recorder()

    async def run() -> None:
        batcher = Batcher(recorder, max_tokens, max_wait)
        batcher.start()
        await work(batcher, recorder)
        recorder.gate.set()
        await batcher.close()

    asyncio.run(asyncio.wait_for(run(), 60))
    return recorder


def ask(
    batcher: Batcher, texts: list[str], side: TruncationSide = "right", tokens: int = 10
) -> "asyncio.Task[list[Any]]":
    return asyncio.create_task(batcher.submit(texts, [tokens] * len(texts), [side] * len(texts)))


def test_texts_that_come_meanwhile_become_one_batch() -> None:
    async def work(batcher: Batcher, model: Recorder) -> None:
        first = ask(batcher, ["a"])
        await model.at_work()
        others = [ask(batcher, [f"b{i}", f"c{i}"]) for i in range(3)]
        await asyncio.sleep(0)
        model.gate.set()
        assert await first == ["A"]
        assert [await one for one in others] == [[f"B{i}", f"C{i}"] for i in range(3)]

    assert within(work).batches == [["a"], ["b0", "c0", "b1", "c1", "b2", "c2"]]


def test_batches_are_limited_by_tokens() -> None:
    async def work(batcher: Batcher, model: Recorder) -> None:
        waiting = [ask(batcher, ["a"]), ask(batcher, ["b", "c", "d"]), ask(batcher, ["long"], tokens=500)]
        model.gate.set()
        await asyncio.gather(*waiting)

    assert within(work, max_tokens=20).batches == [["a", "b"], ["c", "d"], ["long"]]


def test_texts_cut_at_different_sides_do_not_share_a_batch() -> None:
    async def work(batcher: Batcher, model: Recorder) -> None:
        model.gate.set()
        await asyncio.gather(ask(batcher, ["a"]), ask(batcher, ["b"], "left"), ask(batcher, ["c"]))

    assert within(work).batches == [["a"], ["b"], ["c"]]


def test_one_client_never_waits_several_wait_for_one_another() -> None:
    """The wait is longer than the test may take: whoever waits for it in vain fails."""

    async def work(batcher: Batcher, model: Recorder) -> None:
        model.gate.set()
        for text in ("a", "b"):
            assert await ask(batcher, [text]) == [text.upper()]
        both = [ask(batcher, ["c"]), ask(batcher, ["d"])]
        await asyncio.gather(*both)
        late = ask(batcher, ["e"])
        await asyncio.sleep(0.05)  # it waits, as the last batch had two
        assert not late.done()
        await asyncio.gather(late, ask(batcher, ["f"]))

    assert within(work, max_wait=600).batches == [["a"], ["b"], ["c", "d"], ["e", "f"]]


def test_what_is_cancelled_before_it_began_is_never_computed() -> None:
    async def work(batcher: Batcher, model: Recorder) -> None:
        first, gone, stays = ask(batcher, ["a"]), ask(batcher, ["gone"] * 3), ask(batcher, ["stays"])
        await asyncio.sleep(0)
        # All three may be in the first batch already: only what waits behind it can be cancelled in time.
        await model.at_work()
        late, last = ask(batcher, ["late"]), ask(batcher, ["last"])
        await asyncio.sleep(0)
        late.cancel()
        model.gate.set()
        assert await last == ["LAST"]
        await asyncio.gather(first, gone, stays)
        assert batcher.tokens == 0

    assert "late" not in [text for batch in within(work).batches for text in batch]


def test_a_text_that_makes_the_model_fail_fails_alone() -> None:
    async def work(batcher: Batcher, model: Recorder) -> None:
        model.gate.set()
        good, bad, other = ask(batcher, ["a"]), ask(batcher, ["b", "poison"]), ask(batcher, ["c"])
        assert (await good, await other) == (["A"], ["C"])
        with pytest.raises(RuntimeError, match="poison"):
            await bad
        assert await ask(batcher, ["d"]) == ["D"], "it works on"

    within(work)


def test_closing_answers_what_waits_and_takes_no_more() -> None:
    async def work(batcher: Batcher, model: Recorder) -> None:
        first = ask(batcher, ["a"])
        await model.at_work()
        waiting = ask(batcher, ["b"])
        await asyncio.sleep(0)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        assert not batcher.healthy
        with pytest.raises(ServiceError) as refused:
            await batcher.submit(["c"], [1], ["right"])
        assert refused.value.status_code == 503
        model.gate.set()
        await closing
        assert (await first, await waiting) == (["A"], ["B"])

    within(work)


def test_unknown_scores_are_computed_where_one_is_wanted() -> None:
    seen: list[tuple[list[str], bool]] = []

    def model(texts: Sequence[str], _side: TruncationSide, unknown: bool) -> list[str]:
        seen.append((list(texts), unknown))
        return list(texts)

    async def run() -> None:
        batcher = Batcher(model, 100, 0)
        batcher.start()
        await batcher.submit(["a"], [1], ["right"])
        await asyncio.gather(
            *(batcher.submit([text], [1], ["right"], unknown=wanted) for text, wanted in (("b", False), ("c", True)))
        )
        await batcher.close()

    asyncio.run(run())
    assert seen == [(["a"], False), (["b", "c"], True)]


def test_every_batch_is_observed() -> None:
    seen: list[tuple[int, int, float, float]] = []

    async def run() -> None:
        batcher = Batcher(lambda texts, *_: list(texts), 100, 0, lambda *done: seen.append(done))
        batcher.start()
        await batcher.submit(["a", "b"], [3, 4], ["right", "right"])
        await batcher.close()

    asyncio.run(run())
    ((texts, tokens, waited, seconds),) = seen
    assert (texts, tokens) == (2, 7)
    assert min(waited, seconds) >= 0
