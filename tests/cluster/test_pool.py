"""What Ray says when something fails, as the sentences that users read."""

import os
from typing import Any

import pytest

pytest.importorskip("ray")

import ray

from fusion_classifier.cluster.pool import RayEngine, as_data, connected, raise_again
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
    assert "a worker failed (RuntimeError: out of something)" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Traceback" in caplog.text, "the worker's log says where"


def test_a_result_is_itself() -> None:
    assert as_data(lambda: 3) == (3, None)


def test_a_worker_that_dies_for_good_is_one_sentence() -> None:
    class Doomed:
        def die(self) -> None:
            os._exit(1)

    doomed: Any = ray.remote(max_restarts=0, max_task_retries=0)(Doomed)

    def work() -> None:
        with connected(RayEngine(workers=1)):
            ray.get(doomed.remote().die.remote())

    with pytest.raises(FecError, match=r"--engine ray: .*run the same command again") as caught:
        work()
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
