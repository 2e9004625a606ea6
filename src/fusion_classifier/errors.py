"""Errors that a user can fix.

Every error names the file, row or parameter and the way out. A parameter is named by its Python name in backticks.
The command line prints the message and exits with the error's code; a traceback is always a bug.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

MAX_LENGTH = 1200  # characters of a message


class FecError(Exception):
    """Base class of all errors with an explanation (exit code 1)."""

    exit_code = 1

    def __str__(self) -> str:
        """The message; a very long one, which quotes a user's value, is cut in the middle."""
        message = super().__str__()
        half = MAX_LENGTH // 2
        return message if len(message) <= MAX_LENGTH else f"{message[:half]} … {message[-half:]}"


class UsageError(FecError, ValueError):
    """Invalid parameters: an unknown name, or parameters that exclude each other (exit code 2)."""

    exit_code = 2


class DataError(FecError, ValueError):
    """Invalid data file or text; the message names file and row, or index."""


class RowError(DataError):
    """A row that can't be used.

    Args:
        place: File and row.
        problem: What is wrong with the row.
        way_out: What to do.
        missing: Whether a text or label is missing, so that the row can be left out.
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
    """The feature store lacks what is asked for, or is damaged."""


class NonFiniteError(FecError, ArithmeticError):
    """NaN or infinity where finite numbers are needed."""


def reason(error: BaseException) -> str:
    """First line of an error's message, or its class name; for the brackets of our own message."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def library_errors(explain: Callable[[str], FecError]) -> Iterator[None]:
    """Turn every error of a library into one of ours.

    For libraries that read users' files and don't document what they raise: transformers, tokenizers, Lance.

    Args:
        explain: Makes our error from the reason.

    Raises:
        FecError: The result of `explain`, or an error of ours raised inside.
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
