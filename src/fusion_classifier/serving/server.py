"""Runs the application under uvicorn: socket, signals, logs."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from fusion_classifier.classifier.models import find_model
from fusion_classifier.classifier.text_classifier import load_classifier
from fusion_classifier.config import Device, ServerSettings
from fusion_classifier.errors import FecError, UsageError
from fusion_classifier.serving.app import create_app
from fusion_classifier.serving.limits import HEADER_BYTES, Connection
from fusion_classifier.serving.model import ServedModel
from fusion_classifier.support import logs

LOGGERS = ("fusion_classifier.serving", "uvicorn.error")
SHUTDOWN_SECONDS = 60  # for accepted requests; a client that does not read its answer must not hold the server
# The page runs its own scripts and nothing else, and no other site may frame it.
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class _Server(uvicorn.Server):
    """uvicorn's server, but a signal that it has obeyed is not raised again afterwards: the exit code is 0."""

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
    """Serve a model until SIGINT or SIGTERM; requests accepted by then are answered first.

    Args:
        name: Model folder, run folder, model of the package, or Hub id.
        settings: Limits and access.
        host, port: Address to listen at; port 0 takes a free one.
        device: Device of the model.
        encoder_paths: Places of the encoders' weights, by encoder name.
        json_output: Log lines of JSON instead of text.

    Raises:
        UsageError: The address can't be listened at.
        FecError: The model can't be loaded, or the server can't start.
    """
    folder = find_model(name)
    listening = _listen(host, port)
    shown = folder.parent.name if folder.name == "model" else folder.name  # not its path
    classifier = load_classifier(folder, device, encoder_paths)
    app = create_app(ServedModel(classifier, shown), settings)
    _log_to_stderr(json_output)
    at, number = listening.getsockname()[:2]
    shown_at = f"[{at}]" if ":" in at else at
    logging.getLogger(LOGGERS[0]).info("%s is served at http://%s:%d (Ctrl-C stops)", shown, shown_at, number)
    server = _Server(configuration(app))
    server.run(sockets=[listening])
    if not server.started:
        raise FecError("the server could not start; see its log")


def configuration(app: FastAPI) -> uvicorn.Config:
    """uvicorn's settings."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        headers=list(SECURITY_HEADERS.items()),
        http=Connection,  # httptools, used where it is installed, has no limit for headers
        ws="none",
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


def _listen(host: str, port: int) -> socket.socket:
    """A socket, before a model is loaded: a taken port is reported at once."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        if os.name == "posix":  # a port can be taken again at once; on Windows the option would share a port in use
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, OverflowError) as error:
        raise UsageError(f"`port`: can't listen at {host}:{port} ({error}); choose another") from error
    return listening


def _log_to_stderr(json_output: bool) -> None:
    handler = logs.to_stream(sys.stderr, as_json=json_output)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
    # Of uvicorn only problems: the address is logged above.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
