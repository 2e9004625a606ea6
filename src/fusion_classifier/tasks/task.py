"""Base class of named data sets.

One data set is one class: a module in `tasks/named/`, or a class in a package of your own (docs/extend.md).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from fusion_classifier.config import TaskConfig
from fusion_classifier.errors import UsageError
from fusion_classifier.support.text import counted
from fusion_classifier.tasks.hub_dataset import HubDataset
from fusion_classifier.tasks.labels import all_labelled
from fusion_classifier.tasks.loaded import LoadedTask, RowPlace, Split
from fusion_classifier.tasks.row import Row
from fusion_classifier.tasks.split import hold_out
from fusion_classifier.tasks.table import load_table, to_split


class Task:
    """A named data set.

    Subclasses set `name`, `title`, `labels` and, if the data is on the Hub, `hub`. They override `load` or one of the
    methods that it calls if their files or rows have another format.
    """

    name: ClassVar[str]
    """Name in `TaskConfig` and on the command line."""
    title: ClassVar[str]
    """Description in one line, for `fec tasks` and model cards."""
    labels: ClassVar[tuple[str, ...]]
    """Label names; a label's index is its position."""
    multilabel: ClassVar[bool] = False
    """Whether a text may have any number of labels. Default: False."""
    licence: ClassVar[str] = "unknown"
    """Licence of the data. Default: "unknown"."""
    language: ClassVar[str | None] = None
    """Language code for model cards, such as "en". Default: None."""
    examples: ClassVar[tuple[str, ...]] = ()
    """Example texts for the web page of `fec serve`, written for this purpose. Default: none."""
    caveat: ClassVar[str] = ""
    """What the labels do not mean, in one sentence, for model cards and the web page. Default: none."""
    header: ClassVar[tuple[str, ...] | None] = None
    """Column names of a folder's CSV and TSV files. Default: their first line."""
    hub: ClassVar[HubDataset | None] = None
    """Data set on the Hub, read unless a folder is given. Default: None."""

    @property
    def source(self) -> str:
        """Source of the data if no folder is given."""
        return self.hub.repo if self.hub else "in the package"

    def load(self, data: Path | None = None, config: TaskConfig | None = None) -> LoadedTask:
        """Read the texts and labels.

        Args:
            data: folder with the files of the splits. Default: from the Hub.
            config: columns and seed of the split. Default: those of `TaskConfig`.

        Raises:
            UsageError: the data set needs a folder, or can't be read as configured.
            DataError: a file, row or field can't be used.
        """
        config = config or TaskConfig(name=self.name)
        if data is not None:
            return self.from_folder(data, config)
        if config.augment_column is not None:
            raise UsageError(
                f"`augment_column`: task {self.name} has no column {config.augment_column!r} without a folder; "
                "read a folder that has it (`data`)"
            )
        return self.from_hub(config)

    def from_folder(self, folder: Path, config: TaskConfig) -> LoadedTask:
        """Read train, valid and test files of a folder."""
        config = config.model_copy(update={"multilabel": self.multilabel})
        return load_table(
            folder, config, name=self.name, licence=self.licence, labels=self.labels, header=self.header
        )

    def from_hub(self, config: TaskConfig) -> LoadedTask:
        """Read the Hub data set; rows without a text or label are left out and counted in a note."""
        if self.hub is None:
            raise UsageError(f"task {self.name} is not on the Hub; read a folder with its files (`data`)")
        repo, text, label = self.hub.repo, self.hub.text_column, self.hub.label_column
        columns = TaskConfig(
            name=self.name, text_column=text, label_column=label, multilabel=self.multilabel, skip_empty=True
        )
        splits, empty = {}, 0
        for split, given in self.hub.read(self.name).items():
            used = ((number, values) for number, values in enumerate(map(self.hub_row, given)) if values is not None)
            rows = (Row(RowPlace(f"{repo}, {split}", number), values) for number, values in used)
            reading = all_labelled(rows, columns)
            splits[split], empty = to_split(reading.rows, self.labels, self.labels), empty + len(reading.left_out)
        notes = [self.hub.note] if self.hub.note else []
        if empty:
            notes.append(f"{counted(empty, 'row')} without a text or label left out")
        if "valid" not in splits:
            splits, note = hold_out(splits, config.split_seed, repo)
            notes.append(note)
        return self.loaded(splits, repo, tuple(notes))

    def hub_row(self, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The form in which a row of the Hub data set is used; None skips it. Default: unchanged."""
        return row

    def loaded(self, splits: dict[str, Split], source: str, notes: tuple[str, ...] = ()) -> LoadedTask:
        """Splits with the name, labels and licence of this task."""
        return LoadedTask(self.name, self.labels, splits, source, self.licence, notes, self.multilabel)
