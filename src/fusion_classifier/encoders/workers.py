"""Worker threads, each of which computes one batch at a time.

On a CPU a batch's operations are too small to use many cores efficiently, so several batches run in parallel, each on
its own cores.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

import torch

MAX_WORKERS = 8  # more would wait for the interpreter; further cores share in each batch


@dataclass
class _Callers:
    """Number of callers currently within `batch_workers`, and torch's number of threads before the first of them."""

    lock: Lock = field(default_factory=Lock)
    inside: int = 0
    threads: int = 1


_callers = _Callers()


@contextmanager
def batch_workers(device: torch.device) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """An executor and its number of workers; on a GPU one."""
    # A thread that is new to torch begins with the number of threads that was set last anywhere. A second caller
    # would take that of the first one's workers for the process's, and restore it at the end.
    with _callers.lock:
        if not _callers.inside:
            _callers.threads = torch.get_num_threads()
        _callers.inside += 1
        threads = _callers.threads
    workers = min(threads, MAX_WORKERS) if device.type == "cpu" else 1
    executor = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,))
    try:
        yield executor, workers
    finally:
        executor.shutdown(cancel_futures=True)
        with _callers.lock:
            _callers.inside -= 1
            torch.set_num_threads(threads)
