"""Errors that a user can fix.

Every error names the file, row or parameter and what to do. Parameters have their Python name, in backticks.
The command line prints the message and exits with the error's code; a traceback is always a bug.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

MAX_LENGTH = 1200  # characters of a message


class FecError(Exception):
    """Base class of all errors that users can fix (exit code 1)."""

    exit_code = 1

    def __str__(self) -> str:
        """The message; a very long one, which quotes a user's value, is shortened in the middle."""
        message = super().__str__()
        half = MAX_LENGTH // 2
        return message if len(message) <= MAX_LENGTH else f"{message[:half]} … {message[-half:]}"


class UsageError(FecError, ValueError):
    """Invalid parameters: an unknown name, or mutually exclusive parameters (exit code 2)."""

    exit_code = 2


class DataError(FecError, ValueError):
    """Invalid data file or text; the message names file and row, or index."""


class RowError(DataError):
    """A row that can't be used.

    Args:
        place: File and row.
        problem: Problem with the row.
        way_out: Advice to the user.
        missing: Whether a text or label is missing, so that the row can be skipped.
    """

    def __init__(self, place: Any, problem: str, way_out: str, *, missing: bool = False) -> None:
        super().__init__(f"{place}: {problem}; {way_out}")
        self.place = place
        self.problem = problem
        self.way_out = way_out
        self.missing = missing


class MissingSplitError(DataError):
    """The task lacks a split that is needed."""


class WeightsError(FecError):
    """A model's weights can't be found, downloaded or loaded."""


class StoreError(FecError):
    """Requested features are not in the store, or the store is damaged."""


class NonFiniteError(FecError, ArithmeticError):
    """NaN or infinity where finite numbers are needed."""


def reason(error: BaseException) -> str:
    """First line of an error's message, or its class name, to be quoted in our own message."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def library_errors(explain: Callable[[str], FecError]) -> Iterator[None]:
    """Convert any error of a library into one of our errors.

    For libraries that read users' files and don't document their exceptions: transformers, tokenizers, Lance.

    Args:
        explain: Function that returns our error, given the reason.

    Raises:
        FecError: The result of `explain`, or one of our errors raised inside.
        MemoryError: As raised inside.
    """
    try:
        yield
    except (FecError, MemoryError):
        raise
    except BaseException as error:
        # A panic of Rust code is not an Exception, and its class can't be imported.
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise explain(reason(error)) from error
        raise
