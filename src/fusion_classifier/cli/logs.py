"""Options of every command: whether and where it logs what it does."""

import logging
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from fusion_classifier.version import __version__, source_commit

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LogOptions:
    """Where log lines go."""

    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", rich_help_panel="Log", hidden=True, help="Log steps on standard error.")
    ] = False
    log_file: Annotated[
        Path | None,
        typer.Option(
            "--log-file", rich_help_panel="Log", metavar="FILE", hidden=True, help="Append the log to a file."
        ),
    ] = None

    def start(self, command: str) -> None:
        """Begin to log.

        Raises:
            UsageError: The file can't be written.
        """
        if not self.verbose and self.log_file is None:
            return
        from fusion_classifier.support import logs  # noqa: PLC0415 - only where it is asked for

        if self.verbose:
            logs.to_console()
        if self.log_file is not None:
            logs.to_file(self.log_file)
        # Without the arguments: texts may be among them.
        versions = {"version": __version__, "commit": source_commit(), "python": platform.python_version()}
        logger.info("fec %s", command, extra=versions)
