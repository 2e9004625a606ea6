"""Tasks: where texts and labels come from.

`load_task` turns a `TaskConfig` into a `Task`. A named task is a module of this folder (source, licence, label
order); everything else is a path that `table` reads.
"""

from types import ModuleType
from typing import Any

from fusion_classifier.config import TaskConfig
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.files import user_path
from fusion_classifier.tasks import demo, ed, go_emotion
from fusion_classifier.tasks.table import load_table
from fusion_classifier.tasks.task import SPLITS, Split, Task

NAMED: dict[str, ModuleType] = {module.NAME: module for module in (ed, go_emotion, demo)}

__all__ = ["NAMED", "SPLITS", "Split", "Task", "describe_tasks", "load_task"]


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


def load_task(config: TaskConfig) -> Task:
    """Read the texts and labels of a task.

    Raises:
        UsageError: no task and no path has this name.
        DataError: a file, row or field can't be used.
    """
    module = NAMED.get(config.name)
    columns: dict[str, Any] = {"text_column": config.text_column, "label_column": config.label_column}
    if module is None:
        path = user_path(config.name)
        if not path.exists():
            names = ", ".join(NAMED)
            raise UsageError(f"no task and no file {config.name!r}; tasks: {names}; or give the path of your data")
        if config.data is not None:
            raise UsageError(f"--data goes with a named task; {config.name} is itself the data")
        task = load_table(path, split_seed=config.split_seed, **columns)
    elif config.data is not None:
        folder = user_path(config.data, "--data ")
        if not folder.is_dir():
            raise DataError(f"--data {config.data}: no such folder")
        labels = None if module is demo else module.LABELS
        task = load_table(
            folder,
            name=module.NAME,
            licence=module.LICENCE,
            labels=labels,
            split_seed=config.split_seed,
            **columns,
        )
    else:
        task = module.load()
    if len(task.labels) < 2:
        raise DataError(f"{task.source}: all rows have the label {task.labels[0]!r}; at least two are needed")
    return task.limited(config.limit)
