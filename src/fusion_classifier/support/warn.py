"""Warnings of the library in Python."""

import sys
import warnings

PACKAGE = __name__.partition(".")[0]


def warn_caller(message: str) -> None:
    """Issue a UserWarning that points to the caller's line, not to a line in this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == PACKAGE:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)
