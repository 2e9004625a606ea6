"""Reads a data set from the Hugging Face Hub through `datasets`, with errors a user can act on."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fusion_classifier.errors import DataError, reason


def load_from_hub(repo: str, config: str | None, splits: Iterable[str], task: str) -> Mapping[str, Sequence[Any]]:
    """The splits of a data set, each a sequence of rows.

    Raises:
        DataError: it can't be reached or read; the message says how to go on without the Hub.
    """
    import datasets  # noqa: PLC0415 - slow to import and needed by no other path

    try:
        loaded: Mapping[str, Sequence[Any]] = datasets.load_dataset(repo, config)
    except Exception as error:
        raise DataError(
            f"task {task}: the data set {repo} can't be read from the Hub ({reason(error)}); "
            f"check the connection, or give a folder with train.csv, valid.csv, test.csv by --data DIR"
        ) from error
    missing = [split for split in splits if split not in loaded]
    if missing:
        raise DataError(f"task {task}: the data set {repo} on the Hub has no split {missing[0]!r}; give --data DIR")
    return loaded
