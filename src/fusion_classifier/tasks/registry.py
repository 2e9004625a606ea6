"""Tasks: where texts and labels come from.

`load_task` turns a `TaskConfig` into a `LoadedTask`. A named task is a module of this folder (source, licence, label
order); everything else is a path that `table` reads.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from fusion_classifier.config import TaskConfig
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.support.files import user_path
from fusion_classifier.tasks import demo, ed, go_emotion, go_emotion_multilabel
from fusion_classifier.tasks.labels import Columns
from fusion_classifier.tasks.loaded import SPLITS, LoadedTask
from fusion_classifier.tasks.table import load_table

NAMED: dict[str, ModuleType] = {module.NAME: module for module in (ed, go_emotion, go_emotion_multilabel, demo)}


def describe_tasks() -> list[dict[str, Any]]:
    """Name, title, number of labels, source and licence of each named task."""
    return [
        {
            "name": module.NAME,
            "title": module.TITLE,
            "labels": len(demo.load().labels if module is demo else module.LABELS),
            "source": "in the package" if module is demo else module.HUB_REPO,
            "licence": module.LICENCE,
        }
        for module in NAMED.values()
    ]


def load_splits(config: TaskConfig, splits: Sequence[str] | None) -> tuple[LoadedTask, list[str]]:
    """A task, and the splits that a command works on: those named, or all it has.

    Raises:
        UsageError: no split has this name.
        DataError: a file, row or field can't be used, or the task has no such split.
    """
    for name in splits or []:
        if name not in SPLITS:
            raise UsageError(f"--split {name!r}: choose from {', '.join(SPLITS)}")
    task = load_task(config)
    chosen = list(splits) if splits else [name for name in SPLITS if name in task.splits]
    for name in chosen:
        task.split(name)
    return task, chosen


def load_task(config: TaskConfig) -> LoadedTask:
    """Read the texts and labels of a task.

    Raises:
        UsageError: no task and no path has this name.
        DataError: a file, row or field can't be used.
    """
    module = NAMED.get(config.name)
    columns = Columns(
        text=config.text_column,
        label=config.label_column,
        several=config.multilabel,
        separator=config.label_separator,
        indicators=config.label_columns,
        augment=config.augment_column,
    )
    if module is not None and columns.multilabel:
        raise UsageError(f"--multilabel and --label-columns are for your own data; {config.name} has its own labels")
    if module is None:
        path = user_path(config.name)
        if not path.exists():
            names = ", ".join(NAMED)
            raise UsageError(f"no task and no file {config.name!r}; tasks: {names}; or give the path of your data")
        if config.data is not None:
            raise UsageError(f"--data goes with a named task; {config.name} is itself the data")
        task = load_table(path, split_seed=config.split_seed, columns=columns)
    elif config.data is not None:
        folder = user_path(config.data, "--data ")
        if not folder.is_dir():
            raise DataError(f"--data {config.data}: no such folder")
        if module is go_emotion_multilabel:
            _refuse_augmentation(config)
            task = module.load_folder(folder)
        else:
            task = load_table(
                folder,
                name=module.NAME,
                licence=module.LICENCE,
                labels=None if module is demo else module.LABELS,
                split_seed=config.split_seed,
                columns=columns,
            )
    else:
        _refuse_augmentation(config)
        task = module.load()
    if len(task.labels) < 2:
        raise DataError(f"{task.source}: all rows have the label {task.labels[0]!r}; at least two are needed")
    return task.limited(config.limit)


def _refuse_augmentation(config: TaskConfig) -> None:
    if config.augment_column is not None:
        raise UsageError(
            f"--augment-column {config.augment_column}: {config.name} has no such column from this source; "
            "give a folder that has it by --data"
        )
