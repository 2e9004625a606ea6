"""Several processes that serve one port: each has its own model, and the system assigns each connection to one.

They end together: when one can't start, or ends by itself, the others are stopped, so that the program that
started the server (systemd, Docker) notices. They also stop if the first process is killed.
"""

import multiprocessing
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from fusion_classifier.errors import FecError
from fusion_classifier.serving.prometheus import SHARED_METRICS

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Work = Callable[[socket.socket, Callable[[], None]], None]


def run_workers(work: Work, count: int, listening: socket.socket, on_ready: Callable[[], None]) -> None:
    """Run `work` in several processes until SIGINT or SIGTERM.

    Args:
        work: Called in each process with the socket and a function to call once it is ready. It can be pickled.
        count: Number of processes, which share the cores.
        listening: Socket that they share; closed here, so that it is closed once they have ended.
        on_ready: Called here once all are ready.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _cores() // count)))
    workers: list[tuple[SpawnProcess, Connection]] = []
    with tempfile.TemporaryDirectory(prefix="fec-serve-") as folder, _forwarded(workers) as stopped:
        os.environ[SHARED_METRICS] = folder
        try:
            for _ in range(count):
                workers.append(_start(work, listening))
            listening.close()
            if not stopped():
                _watch(workers, on_ready, stopped)
        finally:
            for process, _ in workers:
                process.terminate()
            for process, _ in workers:
                process.join()
            del os.environ[SHARED_METRICS]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start(work: Work, listening: socket.socket) -> tuple[SpawnProcess, Connection]:
    context = multiprocessing.get_context("spawn")  # no copy of this one's threads and locks
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(work, listening, theirs))
    # Ctrl-C in a terminal reaches every process; it is this one that tells the others.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, before)
    theirs.close()
    return process, ours


def _run(work: Work, listening: socket.socket, pipe: Connection) -> None:
    """A worker process."""
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()
    try:
        work(listening, lambda: pipe.send(None))
    except FecError as error:
        pipe.send(error)


def _end_with_parent(pipe: Connection) -> None:
    try:
        pipe.recv()  # nothing is ever sent
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _forwarded(workers: Sequence[tuple[SpawnProcess, Connection]]) -> Iterator[Callable[[], bool]]:
    """Pass signals to the workers (a second signal kills them); yields whether there was one."""
    seen = 0

    def forward(*_: object) -> None:
        nonlocal seen
        seen += 1
        for process, _pipe in workers:
            process.kill() if seen > 1 else process.terminate()

    before = {number: signal.signal(number, forward) for number in SIGNALS}
    try:
        yield lambda: seen > 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(
    workers: Sequence[tuple[SpawnProcess, Connection]], on_ready: Callable[[], None], stopped: Callable[[], bool]
) -> None:
    """Wait until all have ended after a signal, or raise FecError for the first that fails."""
    running, starting = {pipe: process for process, pipe in workers}, len(workers)
    while running:
        for pipe in wait(list(running)):
            assert isinstance(pipe, Connection)
            try:
                said = pipe.recv()
            except (EOFError, OSError):
                process = running.pop(pipe)
                if not stopped():
                    process.join()
                    raise FecError(
                        f"a worker process ended unexpectedly (exit code {process.exitcode}), so the server "
                        "stops; -9 often means too little memory: use fewer `workers`"
                    ) from None
                continue
            if said is not None:
                raise said
            starting -= 1
            if not starting:
                on_ready()
