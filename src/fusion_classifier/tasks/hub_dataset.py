"""Data sets on the Hugging Face Hub, read with `datasets`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fusion_classifier.errors import DataError, reason
from fusion_classifier.support.extras import require

SPLITS = {"train": "train", "valid": "validation", "test": "test"}


@dataclass(frozen=True)
class HubDataset:
    """A data set on the Hub, and the columns with its texts and labels."""

    repo: str
    """Id on the Hub."""
    config: str | None = None
    """Configuration of the data set. Default: the only one."""
    splits: Mapping[str, str] = field(default_factory=lambda: SPLITS)
    """Name on the Hub of train, valid and test. Default: train, validation, test."""
    text_column: str = "text"
    """Column with the texts. Default: "text"."""
    label_column: str = "label"
    """Column with the labels: names or indices, in a multi-label task lists of them. Default: "label"."""
    note: str | None = None
    """Note on comparing its scores with others. Default: None."""

    def read(self, task: str) -> dict[str, Sequence[Mapping[str, Any]]]:
        """Rows of each split.

        Raises:
            DataError: the data set can't be read, or lacks a split.
        """
        require(f"task {task} without a folder of files (`data`)", "hub", "datasets")
        import datasets  # noqa: PLC0415 - an extra, and slow to import

        try:
            loaded = datasets.load_dataset(self.repo, self.config, split=list(self.splits.values()))
        except Exception as error:
            raise DataError(
                f"task {task}: the data set {self.repo} can't be read from the Hub ({reason(error)}); "
                "check the connection, or read a folder with train.csv, valid.csv and test.csv (`data`)"
            ) from error
        return dict(zip(self.splits, loaded, strict=True))
