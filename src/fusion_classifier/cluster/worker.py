"""A worker process with a loaded model. Its errors are sent to the driver as data and raised there.

So the user sees the same message as without Ray. Ray restarts a worker that dies and repeats its part.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Generic, TypeVar

import pyarrow as pa
import torch

from fusion_classifier import errors
from fusion_classifier.errors import FecError, reason

Model = TypeVar("Model")
Result = TypeVar("Result")
ERROR = pa.field("error", pa.struct([("kind", pa.string()), ("message", pa.string())]))


class Worker(Generic[Model]):
    """A worker process; `result` lists the columns of a part's result."""

    result: ClassVar[pa.Schema]

    def __init__(self, load: Callable[[], Model], threads: int) -> None:
        torch.set_num_threads(threads)
        self.model, self.error = as_data(load)

    def row(self, work: Callable[[Model], dict[str, Any]]) -> pa.Table:
        """One row: the result of `work` for the model, or the error."""
        model = self.model
        found, error = (None, self.error) if model is None else as_data(lambda: work(model))
        return pa.Table.from_pylist([{**(found or {}), "error": error}], schema=self.result.append(ERROR))


def rows_of(dataset: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows that the workers return for a `ray.data.Dataset`."""
    for row in dataset.iter_rows():
        if row["error"] is not None:
            raise_again(row["error"])
        yield row


def as_data(work: Callable[[], Result]) -> tuple[Result | None, dict[str, str] | None]:
    """The result of a call, or its error as data that any machine can read.

    The traceback of an unexpected error is written to the worker's log.
    """
    try:
        return work(), None
    except FecError as error:
        return None, {"kind": type(error).__name__, "message": str(error)}
    except Exception as error:
        logging.getLogger(__name__).exception("a worker failed")
        message = f"a Ray worker failed ({type(error).__name__}: {reason(error)}); see its log"
        return None, {"kind": FecError.__name__, "message": message}


def raise_again(error: Mapping[str, str]) -> None:
    """Raise the error that `as_data` converted to data."""
    raise getattr(errors, error["kind"], FecError)(error["message"])
