"""Options of every command: whether and where it logs what it does."""

import logging
import platform
from pathlib import Path

from fusion_classifier.config import FrozenModel
from fusion_classifier.version import __version__, source_commit

logger = logging.getLogger(__name__)


class LogOptions(FrozenModel, title="Log"):
    """Where log lines go."""

    verbose: bool = False
    """Log steps on standard error."""
    log_file: Path | None = None
    """Append the log to this file."""

    def start(self, command: str) -> None:
        """Begin to log."""
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
