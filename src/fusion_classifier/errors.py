"""Errors that a user can mend.

Every error names the file, row or field and the way out. The command line prints the message and exits
with the error's code; a traceback is always a bug.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

LONGEST = 1200  # characters of a message


class FecError(Exception):
    """Something failed that the message explains (exit code 1)."""

    exit_code = 1

    def __str__(self) -> str:
        """The message; of one that quotes a field of a million characters, its beginning and its way out."""
        message = super().__str__()
        half = LONGEST // 2
        return message if len(message) <= LONGEST else f"{message[:half]} … {message[-half:]}"


class UsageError(FecError, ValueError):
    """The call itself is wrong: an unknown name, options that exclude each other (exit code 2)."""

    exit_code = 2


class DataError(FecError, ValueError):
    """A data file can't be read as asked: the message names file and row."""


class MissingSplitError(DataError):
    """A split is needed here and the task does not have it."""


class WeightsError(FecError):
    """A model's weights can't be had or can't be used."""


class StoreError(FecError):
    """The feature store lacks what is asked for, or does not hold what it should."""


class NonFiniteError(FecError, ArithmeticError):
    """NaN or infinity where numbers are needed."""


def reason(error: BaseException) -> str:
    """The first line of what an error of a library says, or its kind: for a sentence of ours in brackets."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def said_of(say: Callable[[str], FecError]) -> Iterator[None]:
    """Whatever a library raises of files that it is given becomes an error of ours, made by `say` of the reason.

    For libraries that say of no file what they may raise, such as transformers, tokenizers and Lance.

    Raises:
        FecError: that, or one of ours that was raised within.
        MemoryError: as it was; it says nothing of the files.
    """
    try:
        yield
    except (FecError, MemoryError):
        raise
    except BaseException as error:
        # A panic of Rust code is no Exception, and its class is in no module.
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise say(reason(error)) from error
        raise
