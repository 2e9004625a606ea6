"""Servers of a small classifier, in threads."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fusion_classifier.serving.model import ServedModel

    Served = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="session")
def served() -> "Served":
    """Starts the server of a model on a free port; yields its address."""
    import uvicorn

    from fusion_classifier.serving.app import create_app
    from fusion_classifier.serving.server import configuration
    from fusion_classifier.serving.settings import ServerSettings

    @contextmanager
    def start(model: "ServedModel", **settings: object) -> Iterator[str]:
        app = create_app(model, ServerSettings.model_validate(settings))
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            server = uvicorn.Server(configuration(app))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
            thread.start()
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                server.should_exit = True
                thread.join(timeout=60)
            assert not thread.is_alive()

    return start


@pytest.fixture(scope="session")
def server(saved_model: Path, served: "Served") -> Iterator[str]:
    """A server with the settings it has by itself."""
    from fusion_classifier import FusionClassifier
    from fusion_classifier.serving.model import ServedModel

    model = ServedModel(FusionClassifier.from_pretrained(saved_model), "moods")
    with served(model) as address:
        yield address
