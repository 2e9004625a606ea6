"""Errors that a user can mend.

Every error names the file, row or field and the way out. The command line prints the message and exits
with the error's code; a traceback is always a bug.
"""


class FecError(Exception):
    """Something failed that the message explains (exit code 1)."""

    exit_code = 1


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
