"""Runs the application: a socket, signals, logs."""

import logging
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from fusion_classifier.classifier.estimator import FusionClassifier
from fusion_classifier.classifier.folder import find_model
from fusion_classifier.config import Device, ServerSettings
from fusion_classifier.errors import FecError, UsageError
from fusion_classifier.serving.app import create_app
from fusion_classifier.serving.connection import Connection
from fusion_classifier.serving.limits import HEADER_BYTES
from fusion_classifier.serving.model import ServedModel
from fusion_classifier.support import logs

LOGGERS = ("fusion_classifier.serving", "uvicorn.error")
SHUTDOWN_SECONDS = 60  # for what was accepted; a client that does not read its answer must not hold the server


class _Server(uvicorn.Server):
    """uvicorn's, but a signal that it has obeyed is done with: it is not raised again afterwards."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(
    name: str,
    settings: ServerSettings,
    *,
    host: str,
    port: int,
    device: Device,
    encoder_paths: Mapping[str, str],
    json_output: bool,
) -> None:
    """Serve a model until SIGINT or SIGTERM; what was accepted by then is answered first.

    Args:
        name: as `find_model` takes it.
        settings: limits and access.
        host: address to listen at.
        port: 0 takes a free one.
        device: `auto`, `cpu`, `cuda` or `mps`.
        encoder_paths: places of the encoders' weights, by encoder name.
        json_output: logs as lines of JSON.

    Raises:
        UsageError: the address can't be listened at.
        FecError: see the messages.
    """
    folder = find_model(name)
    listening = _listen(host, port)
    shown = folder.parent.name if folder.name == "model" else folder.name  # no path of this machine
    classifier = FusionClassifier.from_pretrained(folder, device=device, encoder_paths=encoder_paths)
    app = create_app(ServedModel(classifier, shown), settings)
    _log_to_stderr(json_output)
    at, number = listening.getsockname()[:2]
    shown_at = f"[{at}]" if ":" in at else at
    logging.getLogger(LOGGERS[0]).info("%s is served at http://%s:%d (Ctrl-C stops)", shown, shown_at, number)
    server = _Server(configuration(app))
    server.run(sockets=[listening])
    if not server.started:
        raise FecError("the server could not start; its log says why")


def configuration(app: FastAPI) -> uvicorn.Config:
    """How uvicorn runs the application."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        http=Connection,  # httptools, taken where it is installed, has no limit for headers
        ws="none",
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


def _listen(host: str, port: int) -> socket.socket:
    """A socket, before a model is loaded: a port that is taken is said at once."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, OverflowError) as error:
        raise UsageError(f"--host {host} --port {port}: can't be listened at ({error}); choose another") from error
    return listening


def _log_to_stderr(json_output: bool) -> None:
    handler = logs.to_stream(sys.stderr, as_json=json_output)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
    # Of uvicorn only what is wrong: the address is said above.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
