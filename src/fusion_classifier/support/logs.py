"""Log handlers of the command line: human-readable lines, or JSON lines in a file.

Modules log with `logging.getLogger(__name__)`: the event is the message, its values are `extra` fields. No record
contains a text of the data. In Python nothing is shown unless the calling program configures `logging`.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any, TextIO

from fusion_classifier.errors import UsageError

PACKAGE = "fusion_classifier"
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class TextFormatter(logging.Formatter):
    """Formats a record as one human-readable line: the message, then its fields as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; line breaks and control characters are escaped."""
        line = super().format(record)
        for name, value in _fields(record).items():
            line += f" {name}={value:.4g}" if isinstance(value, float) else f" {name}={value}"
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time, level, logger, message and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        return json.dumps(line | _fields(record), default=str)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """The `extra` fields except Ray's, whose names begin with an underscore."""
    fields = vars(record).items()
    return {k: v for k, v in fields if k not in STANDARD and not k.startswith("_") and v is not None}


class _ConsoleHandler(logging.Handler):
    """Lines on standard error; rich puts them above a progress bar."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console  # noqa: PLC0415

        self._console = Console(stderr=True)

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(self.format(record), style="dim", highlight=False, markup=False, soft_wrap=True)


class _FileHandler(logging.FileHandler):
    """A log file; if it can no longer be written, this is reported once and the work continues."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        logging.getLogger(PACKAGE).removeHandler(self)
        print(f"warning: {self.baseFilename}: logging stopped ({error.strerror})", file=sys.stderr)


def to_console() -> None:
    """Log to standard error, above the progress bars."""
    _add(_ConsoleHandler(), TextFormatter("%(asctime)s %(message)s", "%H:%M:%S"))


def to_file(path: Path) -> None:
    """Append to a file, one line of JSON per record."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = _FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"`log_file`: {path} can't be written ({error.strerror}); choose another path") from error
    _add(handler, JsonFormatter())


def to_stream(stream: TextIO, *, as_json: bool) -> logging.Handler:
    """Handler for a service's own log: human-readable lines, or JSON lines."""
    handler = logging.StreamHandler(stream)
    text = TextFormatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")
    handler.setFormatter(JsonFormatter() if as_json else text)
    return handler


def _add(handler: logging.Handler, formatter: logging.Formatter) -> None:
    handler.setFormatter(formatter)
    package = logging.getLogger(PACKAGE)
    package.setLevel(logging.INFO)
    package.addHandler(handler)
