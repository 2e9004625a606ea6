"""Any data set on the Hugging Face Hub as a task, by its address.

    hf://OWNER/NAME, hf://OWNER/NAME@REVISION                 all its splits, read with `datasets`
    OWNER/NAME                                                the same, if there is no local folder OWNER
    hf://OWNER/NAME/PATH                                      a file of it, read like a local file

`hf://datasets/OWNER/NAME…`, as in pandas and polars, works too.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion_classifier.config import TaskConfig
from fusion_classifier.errors import DataError, reason
from fusion_classifier.support.extras import require
from fusion_classifier.support.hub import hub_asked_once, hub_errors
from fusion_classifier.tasks.labels import Reading, all_labelled
from fusion_classifier.tasks.loaded import LoadedTask, RowPlace
from fusion_classifier.tasks.readers import ENDINGS
from fusion_classifier.tasks.row import Row
from fusion_classifier.tasks.saved_dataset import class_names, with_names
from fusion_classifier.tasks.table import in_split, load_table, split_names, table_task

ADDRESS = re.compile(r"(hf://(?:datasets/)?)?([\w.-]+/[\w.-]+)(?:@([^/@]+))?(?:/(.+))?")


@dataclass(frozen=True)
class HubAddress:
    """A data set on the Hub, or a file in it."""

    repo: str
    revision: str | None = None
    path: str | None = None

    def __str__(self) -> str:
        """The address as text, as in a configuration."""
        return f"hf://{self.repo}" + (f"@{self.revision}" if self.revision else "")


def hub_address(name: str) -> HubAddress | None:
    """The Hub address in a name; None for any other name, such as `data/new.csv`."""
    match = ADDRESS.fullmatch(name)
    if match is None:
        return None
    prefix, repo, revision, path = match.groups()
    folder = Path(repo).parent
    if prefix is None and (path or repo.startswith(".") or repo.lower().endswith(ENDINGS) or folder.exists()):
        return None
    return HubAddress(repo, revision, path)


def load_hub(address: HubAddress, config: TaskConfig, known: tuple[str, ...] | None = None) -> LoadedTask:
    """The texts and labels of a data set on the Hub; arguments as in `load_table`."""
    name = address.repo.partition("/")[2]
    if address.path is not None:
        from huggingface_hub import hf_hub_download  # noqa: PLC0415 - slow to import

        with hub_errors(address.repo, address.revision, kind=DataError), hub_asked_once(address.repo):
            file = hf_hub_download(address.repo, address.path, repo_type="dataset", revision=address.revision)
        return load_table(Path(file), config, name=name, known=known)
    found = _splits(address, config)
    readings: dict[str, Reading] = {}
    for split, own in split_names(list(found), str(address)).items():
        readings[split] = all_labelled(_rows(found[own], f"{address}, {own}"), in_split(config, split))
        if not readings[split].rows:
            raise DataError(f"{address}, {own} has no rows with a text and a label")
    return table_task(readings, config, name=name, source=str(address), given=config.label_columns, known=known)


def _splits(address: HubAddress, config: TaskConfig) -> Mapping[str, Any]:
    """Each split as `datasets` loads it."""
    require(f"{config.name} is not a local file; reading it from the Hub", "hub", "datasets")
    import datasets  # noqa: PLC0415 - an extra, and slow to import

    answered = True
    try:
        with hub_asked_once(address.repo) as answered:
            loaded: Mapping[str, Any] = datasets.load_dataset(address.repo, config.subset, revision=address.revision)
    except Exception as error:  # of many kinds, some of them ValueError
        why = " ".join(str(error).split("\n")[:2]) or reason(error)  # the second line names the configurations
        if isinstance(error, ConnectionError) and not answered:
            why = "not downloaded before, and the Hub can't be reached"
        raise DataError(
            f"{config.name}: not a local file, and the data set {address.repo} can't be read from the Hub "
            f"({why}); check the name and the connection, or choose a configuration of the data set (`subset`)"
        ) from error
    return loaded


def _rows(split: Any, where: str) -> Iterable[Row]:
    classes = class_names(split.features)
    names = split.column_names
    return (Row(RowPlace(where, number), with_names(row, classes), names) for number, row in enumerate(split))
