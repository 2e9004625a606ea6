"""What worker processes do in tests/serving/test_workers.py; imported by each of them."""

import os
import signal
import socket
import time
from collections.abc import Callable

from fusion_classifier.errors import UsageError


def answer(listening: socket.socket, ready: Callable[[], None]) -> None:
    """Answer each connection by the process id and its threads, until SIGTERM."""
    listening.listen()
    ready()
    while True:
        with listening.accept()[0] as client:
            client.sendall(f"{os.getpid()} {os.environ['OMP_NUM_THREADS']}".encode())
            time.sleep(0.05)  # so that the next one is another's


def fail(_listening: socket.socket, _ready: Callable[[], None]) -> None:
    """End as a model that can't be loaded."""
    raise UsageError("`model`: can't be loaded")


def die(_listening: socket.socket, ready: Callable[[], None]) -> None:
    """End as a process that the system kills."""
    ready()
    os.kill(os.getpid(), signal.SIGKILL)
