"""What Ray says when something fails, as the sentences that users read."""

import logging
import os
from typing import Any

import pytest

pytest.importorskip("ray")

import ray
import ray.data

from fusion_classifier.cluster.pool import QUIET, RayEngine, connected
from fusion_classifier.cluster.worker import as_data, raise_again
from fusion_classifier.errors import FecError, NonFiniteError, UsageError

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280)]


def _fail(error: Exception) -> Any:
    raise error


@pytest.mark.parametrize("kind", [NonFiniteError, UsageError, FecError])
def test_an_error_travels_as_data_and_stays_what_it_is(kind: type[FecError]) -> None:
    result, data = as_data(lambda: _fail(kind("a sentence")))
    assert result is None
    assert data is not None
    with pytest.raises(kind, match=r"^a sentence$"):
        raise_again(data)


def test_an_error_that_nobody_foresaw_becomes_one_sentence(caplog: pytest.LogCaptureFixture) -> None:
    _, data = as_data(lambda: _fail(RuntimeError("out of something\nand a second line")))
    assert data is not None
    with pytest.raises(FecError) as caught:
        raise_again(data)
    assert "worker failed (RuntimeError: out of something)" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Traceback" in caplog.text, "the worker's log says where"


def test_a_result_is_itself() -> None:
    assert as_data(lambda: 3) == (3, None)


def test_the_host_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in QUIET:
        monkeypatch.delenv(name, raising=False)
    context, logger = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, logger.level
    with connected(RayEngine(workers=1)):
        assert (context.enable_progress_bars, logger.level) == (False, logging.CRITICAL)
    assert (context.enable_progress_bars, logger.level) == before
    assert not QUIET.keys() & os.environ.keys()


def test_a_worker_that_dies_for_good_is_one_sentence() -> None:
    class Doomed:
        def die(self) -> None:
            os._exit(1)

    doomed: Any = ray.remote(max_restarts=0, max_task_retries=0)(Doomed)

    def work() -> None:
        with connected(RayEngine(workers=1)):
            ray.get(doomed.remote().die.remote())

    with pytest.raises(FecError, match=r"Ray: .*run the same command again") as caught:
        work()
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
