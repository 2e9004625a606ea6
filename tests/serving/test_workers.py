"""Several processes at one port: started, stopped and failing together."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import worker_tasks

from fusion_classifier.errors import FecError, UsageError
from fusion_classifier.serving.workers import run_workers

pytestmark = pytest.mark.posix


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield one


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_all_share_port_and_cores_and_end_by_one_signal(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    address, seen = listening.getsockname(), set[str]()

    def ask_then_stop() -> None:
        late = time.monotonic() + 60
        while len(seen) < 2 and time.monotonic() < late:
            with socket.create_connection(address, timeout=60) as client:
                seen.add(client.recv(100).decode())
        os.kill(os.getpid(), signal.SIGTERM)

    client = threading.Thread(target=ask_then_stop)
    run_workers(worker_tasks.answer, 2, listening, client.start)
    client.join()
    assert len(seen) == 2
    assert {one.split()[1] for one in seen} == {"1"}
    assert all(gone(int(one.split()[0])) for one in seen)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=5)


def test_one_that_cannot_start_is_the_error_of_all(listening: socket.socket) -> None:
    with pytest.raises(UsageError, match="can't be loaded"):
        run_workers(worker_tasks.fail, 2, listening, lambda: None)


def test_one_that_ends_by_itself_ends_all(listening: socket.socket) -> None:
    with pytest.raises(FecError, match=r"ended unexpectedly \(exit code -9\)"):
        run_workers(worker_tasks.die, 2, listening, lambda: None)
