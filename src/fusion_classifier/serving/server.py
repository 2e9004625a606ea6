"""Runs the application under uvicorn: socket, signals, logs."""

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from fusion_classifier.classifier.models import find_model
from fusion_classifier.classifier.text_classifier import load_classifier
from fusion_classifier.config import Device
from fusion_classifier.errors import FecError, UsageError
from fusion_classifier.serving.app import create_app
from fusion_classifier.serving.limits import HEADER_BYTES, Connection
from fusion_classifier.serving.model import ServedModel
from fusion_classifier.serving.service import Service
from fusion_classifier.serving.settings import ServerSettings
from fusion_classifier.serving.workers import SIGNALS, run_workers
from fusion_classifier.support import logs

LOGGERS = ("fusion_classifier.serving", "uvicorn.error")
SHUTDOWN_SECONDS = 60  # for accepted requests; a client that does not read its answer must not delay the shutdown
# The page runs its own scripts and nothing else, and no other site may frame it.
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class _Server(uvicorn.Server):
    """uvicorn's server, except that a signal that it has handled is not raised again: the exit code is 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        obeyed = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self.handle_exit) for number in obeyed}
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
    workers: int = 1,
) -> None:
    """Serve a model until SIGINT or SIGTERM; requests accepted by then are answered first.

    Args:
        name: Model folder, run folder, built-in model, or Hub id.
        settings: Limits and access.
        host, port: Address to listen on; port 0: any free port.
        device: Device of the model.
        encoder_paths: Paths of the encoders' weights, by encoder name.
        json_output: Log lines of JSON instead of text.
        workers: Number of processes, each with its own model.
    """
    folder = find_model(name)
    listening = _listen(host, port)
    shown = folder.parent.name if folder.name == "model" else folder.name  # not its path
    at, number = listening.getsockname()[:2]
    address = f"http://{f'[{at}]' if ':' in at else at}:{number}"
    work = partial(_run, folder, shown, settings, device, dict(encoder_paths), json_output)

    def on_ready() -> None:
        _log_to_stderr(json_output)
        by = f" by {workers} workers" if workers > 1 else ""
        logging.getLogger(LOGGERS[0]).info("%s is served at %s%s (Ctrl-C stops)", shown, address, by)

    with listening:
        if workers == 1:
            work(listening, on_ready)
        else:
            run_workers(work, workers, listening, on_ready)


def _run(
    folder: Path,
    name: str,
    settings: ServerSettings,
    device: Device,
    encoder_paths: Mapping[str, str],
    json_output: bool,
    listening: socket.socket,
    on_ready: Callable[[], None],
) -> None:
    """Load the model and serve it in this process."""
    # In a temporary thread: OpenMP keeps worker threads for each thread that has computed. If there are more of them
    # than cores, they sleep between two products instead of spinning, and a text takes 1.6 times as long.
    with ThreadPoolExecutor(1) as loading:
        model = loading.submit(lambda: ServedModel(load_classifier(folder, device, encoder_paths), name)).result()
    app = create_app(model, settings)
    _log_to_stderr(json_output)
    on_ready()
    server = _Server(configuration(app))
    server.run(sockets=[listening])
    if not server.started:
        raise FecError("the server could not start; see its log")


def configuration(app: FastAPI) -> uvicorn.Config:
    """uvicorn's settings."""
    service: Service = app.state.service
    limits = {
        "max_connections": service.settings.max_connections,
        "opened": staticmethod(service.metrics.connections.set),
        "refused": staticmethod(service.metrics.refused.inc),
    }
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        headers=list(SECURITY_HEADERS.items()),
        # httptools, used where it is installed, has no limit for headers.
        http=type("LimitedConnection", (Connection,), limits),
        ws="none",
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


def _listen(host: str, port: int) -> socket.socket:
    """A socket, opened before the model is loaded, so that an occupied port is reported at once."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        if os.name == "posix":  # a port can be taken again at once; on Windows the option would share a port in use
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except (OSError, OverflowError) as error:
        raise UsageError(f"`port`: can't listen on {host}:{port} ({error}); choose another port") from error
    return listening


def _log_to_stderr(json_output: bool) -> None:
    handler = logs.to_stream(sys.stderr, as_json=json_output)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
    # Of uvicorn only problems: the address is logged above.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
