"""What the program does, as log records: lines for a person with --verbose, lines of JSON in a file with --log-file.

Modules log with `logging.getLogger(__name__)`: what happened as the message, its figures as `extra` fields. No record
holds a text of the data. In Python nothing is shown unless the program that uses the package configures `logging`.
"""

import logging
import sys
from pathlib import Path
from typing import TextIO

import typer
from pythonjsonlogger.json import JsonFormatter
from rich.console import Console

from fusion_classifier.errors import UsageError

PACKAGE = "fusion_classifier"
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _OnConsole(logging.Handler):
    """Lines on standard error; rich puts them above a bar that is being drawn."""

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(stderr=True)

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(self.format(record), style="dim", highlight=False, markup=False, soft_wrap=True)


class _InFile(logging.FileHandler):
    """A log file; one that can't be written any more is said once and given up, and the work goes on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        logging.getLogger(PACKAGE).removeHandler(self)
        typer.echo(f"warning: {self.baseFilename}: nothing more is logged ({error.strerror})", err=True)


class Line(logging.Formatter):
    """A record as one line for a person: the message, then its fields as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        given = {name: value for name, value in vars(record).items() if name not in STANDARD and value is not None}
        line = " ".join([super().format(record), *(f"{name}={_short(value)}" for name, value in given.items())])
        # What a label or a path holds must not make a second line, nor steer a terminal.
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def json_lines() -> logging.Formatter:
    """A record as one line of JSON: time, level, logger, message and its fields."""
    return JsonFormatter(
        "%(asctime)s %(levelname)s %(name)s %(message)s",
        "%Y-%m-%dT%H:%M:%S%z",
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
    )


def show() -> None:
    """Show what happens on standard error, above the progress bars."""
    handler = _OnConsole()
    handler.setFormatter(Line("%(asctime)s %(message)s", "%H:%M:%S"))
    _add(handler)


def write(path: Path) -> None:
    """Add what happens to a file, a line of JSON a record.

    Raises:
        UsageError: the file can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _InFile(path, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--log-file {path}: can't be written ({error.strerror}); choose another place") from error
    handler.setFormatter(json_lines())
    _add(handler)


def to_stream(stream: TextIO, *, as_json: bool) -> logging.Handler:
    """A handler for a service's own log: lines for a person with the time, or lines of JSON."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(json_lines() if as_json else Line("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    return handler


def _add(handler: logging.Handler) -> None:
    package = logging.getLogger(PACKAGE)
    package.setLevel(logging.INFO)
    package.addHandler(handler)
