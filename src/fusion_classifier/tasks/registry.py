"""Finds and loads tasks by name: those of `tasks/named/`, of installed packages, and registered ones.

A package offers a task by an entry point of the group `fusion_classifier.tasks` (docs/extend.md). Every other name is
the path of a file or folder.
"""

import logging
import pkgutil
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from fusion_classifier.config import TaskConfig
from fusion_classifier.errors import DataError, UsageError, reason
from fusion_classifier.support.files import user_path
from fusion_classifier.tasks import named
from fusion_classifier.tasks.hub_table import hub_address, load_hub
from fusion_classifier.tasks.loaded import SPLITS, LoadedTask
from fusion_classifier.tasks.table import load_table
from fusion_classifier.tasks.task import Task

logger = logging.getLogger(__name__)
GROUP = "fusion_classifier.tasks"
AnyTask = TypeVar("AnyTask", bound=type[Task])
_registered: dict[str, Task] = {}


def register_task(task: AnyTask) -> AnyTask:
    """Register a task class by its name in this process; also a decorator.

    A task that was registered before under the same name is replaced.

    Raises:
        UsageError: the class lacks an attribute, or its name is that of a task of this package.
    """
    _check(task)
    if task.name in _built_in():
        raise UsageError(f"{task.__qualname__}: {task.name!r} is a task of this package; choose another name")
    _registered[task.name] = task()
    return task


def find_task(name: str) -> Task | None:
    """The task of this name, or None."""
    known = _built_in() | _registered
    if name not in known:
        for point in _offered():
            if point.name == name:
                return _load(point)
    return known.get(name)


def is_available(name: str) -> bool:
    """Whether this is the name of a task, an existing file or folder, or an address on the Hub."""
    return find_task(name) is not None or user_path(name).exists() or hub_address(name) is not None


def task_of_model(name: str, labels: Sequence[str]) -> Task | None:
    """The task that a model was trained on, or None: a file may have the name of a task, and other labels."""
    try:
        task = find_task(name)
    except UsageError:  # a package whose task can't be loaded any more
        return None
    return task if task is not None and set(task.labels) == set(labels) else None


def describe_tasks() -> list[dict[str, Any]]:
    """Name, title, number of labels, source and licence of each named task.

    Tasks of other packages that can't be loaded are skipped with a warning.
    """
    known = _built_in() | _registered
    for point in _offered():
        try:
            if point.name in known:
                raise UsageError(f"{_origin(point)}: another task has the same name")
            known[point.name] = _load(point)
        except UsageError as error:
            logger.warning("warning: %s", error)
    keys = ("name", "title", "labels", "source", "licence")
    return [{key: getattr(task, key) for key in keys} | {"labels": len(task.labels)} for task in known.values()]


def load_task(config: TaskConfig, known: tuple[str, ...] | None = None) -> LoadedTask:
    """Read the texts and labels of a task.

    Args:
        config: task, columns and seed of the split.
        known: labels of a model to evaluate on the user's own data; see `load_table`. Default: None: the data are
            for training.

    Raises:
        UsageError: no task and no path has this name.
        DataError: a file, row or field can't be used.
    """
    task = find_task(config.name)
    if task is None:
        path, address = user_path(config.name), hub_address(config.name)
        from_hub = address is not None and not path.exists()
        if not path.exists() and not from_hub:
            names = ", ".join(row["name"] for row in describe_tasks())
            raise UsageError(
                f"no task and no file {config.name!r}; tasks: {names}; or give the path of your data, or of a data "
                "set on the Hub (hf://OWNER/NAME)"
            )
        if config.data is not None:
            raise UsageError(f"`data` is for a named task; {config.name} is the data itself")
        if config.subset is not None and not from_hub:
            raise UsageError(f"`subset` is for a data set on the Hub; {config.name} is on this machine")
        if address is not None and from_hub:
            loaded = load_hub(address, config, known)
        else:
            loaded = load_table(path, config, known=known)
    else:
        if config.subset is not None:
            raise UsageError(f"`subset` is for a data set on the Hub by its id; {task.name} has its own")
        if config.cross_validate:
            raise UsageError(f"`cross_validate` is for your own data; {task.name} has a validation split")
        if config.multilabel or config.label_columns:
            raise UsageError(
                f"`multilabel` and `label_columns` are for your own data; {task.name} has its own labels"
            )
        folder = None if config.data is None else user_path(config.data, "data")
        if folder is not None and not folder.is_dir():
            raise DataError(f"`data`: {config.data} is not a folder")
        loaded = task.load(folder, config)
    if len(loaded.labels) < 2:
        raise DataError(f"{loaded.source}: all rows have the label {loaded.labels[0]!r}; at least two are needed")
    return loaded.limited(config.limit)


def load_splits(config: TaskConfig, splits: Sequence[str] | None) -> tuple[LoadedTask, list[str]]:
    """A task, and the splits that a command works on: those given, or all it has."""
    for name in splits or []:
        if name not in SPLITS:
            raise UsageError(f"`split`: {name!r} is not one of {', '.join(SPLITS)}")
    task = load_task(config)
    chosen = list(splits) if splits else [name for name in SPLITS if name in task.splits]
    for name in chosen:
        task.split(name)
    return task, chosen


@cache
def _built_in() -> dict[str, Task]:
    """The tasks that the modules of `tasks/named/` define."""
    found = {}
    for info in pkgutil.iter_modules(named.__path__):
        module = import_module(f"{named.__name__}.{info.name}")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Task) and value.__module__ == module.__name__:
                found[value.name] = value()
    return found


def _offered() -> list[EntryPoint]:
    """The entry points of installed packages, in the order of the packages' names."""
    return sorted(entry_points(group=GROUP), key=_origin)


def _origin(point: EntryPoint) -> str:
    return f"package {point.dist.name if point.dist else '?'}, task {point.name!r} ({point.value})"


def _load(point: EntryPoint) -> Task:
    try:
        task = point.load()
        _check(task)
        found: Task = task()
    except Exception as error:  # third-party code may raise any exception
        raise UsageError(f"{_origin(point)} can't be loaded ({type(error).__name__}: {reason(error)})") from error
    if found.name != point.name:
        raise UsageError(
            f"{_origin(point)}: the class is named {found.name!r}; the entry point must have the same name"
        )
    return found


def _check(task: Any) -> None:
    if not (isinstance(task, type) and issubclass(task, Task)):
        raise UsageError(f"{task!r} is not a subclass of Task")
    texts = [getattr(task, attribute, None) for attribute in ("name", "title")]
    labels = getattr(task, "labels", None)
    if not all(isinstance(text, str) for text in texts) or not isinstance(labels, tuple) or len(set(labels)) < 2:
        raise UsageError(f"{task.__qualname__} needs 'name' and 'title', and 'labels', a tuple of two or more names")
