"""Messages in the words of the command line.

The library names a parameter in backticks, by its Python name: "`max_length`: …". Here that becomes the option of the
command that runs: "--max-length: …". Any other single word loses its backticks.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import typer
from rich.console import Console

from fusion_classifier.support.progress import Progress

# Parameters that a command does not have under their own name.
NAMES = {
    "X": "TEXT",
    "encoder_paths": "--encoder NAME=PATH",
    "encoders": "--encoder",
    "learning_rate": "--lr",
    "max_epochs": "--epochs",
    "max_spans": "--spans",
    "name": "TASK",
    "task": "TASK",
    "text": "TEXT",
    "texts": "TEXT",
}
_current: dict[str, str] = {}


def use_names(options: Mapping[str, str]) -> None:
    """Name parameters as this command's options from now on, such as `--max-length` for `max_length`."""
    _current.clear()
    _current.update(options)


def in_options(message: str, options: Mapping[str, str] | None = None) -> str:
    """A message of the library with options for parameter names. Default: those of the command that runs."""
    names = {**NAMES, **(_current if options is None else options)}

    def shown(match: re.Match[str]) -> str:
        *owner, name = re.sub(r"\[.*\]", "", match[1]).split(".")
        if not owner or owner[0] in ("task", "encoders", "head", "training"):  # a field of a run's configuration
            option = names.get(name)
            if option and match[2]:
                return option.replace("--", "--no-", 1)
            return option or match[0].strip("`")
        return match[0].strip("`")

    return re.sub(r"(?<!`)`([\w.]+(?:\[[^\]`]+\])?[\w.]*)(=False)?`(?!`)", shown, message)


class _Console(Console):
    """Standard error, on which notes of the library name options."""

    def print(self, *objects: Any, **style: Any) -> None:
        """As rich's."""
        super().print(*(in_options(one) if isinstance(one, str) else one for one in objects), **style)


def progress() -> Progress:
    """Progress bars and notes on standard error."""
    return Progress(_Console(stderr=True), lines=True)


def answer(value: Any, as_json: bool, show: Callable[[], None]) -> None:
    """Print the result of a command as JSON, or in readable form by `show`."""
    if as_json:
        typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        show()
