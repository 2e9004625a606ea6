"""The context of a run: its resources, and its messages about the task."""

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fusion_classifier.features.extract import memory_for_features
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.support.progress import Progress
from fusion_classifier.support.text import first_few
from fusion_classifier.tasks.loaded import LoadedTask

if TYPE_CHECKING:
    import torch

    from fusion_classifier.cluster.pool import RayEngine

logger = logging.getLogger(__name__)
GAPS = {
    "train": "can't be learned",
    "valid": "are not used to choose the epoch and the seed",
    "test": "aren't measured",
}
MAX_SHOWN = 5  # labels in a message


@dataclass(frozen=True)
class RunContext:
    """Resources of a run: store, device, progress bars, memory limit for features in bytes, and the cluster, if
    any."""

    store: FeatureStore
    device: "torch.device"
    progress: Progress
    memory: int = field(default_factory=memory_for_features)
    ray: "RayEngine | None" = None
    _said: set[str] = field(default_factory=set, repr=False, compare=False)

    def say(self, message: str) -> None:
        """Print a line for the user, above the progress bars."""
        self.progress.say(message)

    def say_once(self, message: str) -> None:
        """Print a line unless it was printed before."""
        if message not in self._said:
            self._said.add(message)
            self.say(message)


def say_notes(task: LoadedTask, work: RunContext) -> None:
    """Print notes on how the task was read."""
    rows = {f"{name}_rows": len(split) for name, split in task.splits.items()}
    logger.info("task %s", task.name, extra={"source": task.source, "labels": len(task.labels)} | rows)
    for note in task.notes:
        work.say(note)


def say_gaps(task: LoadedTask, work: RunContext) -> None:
    """Print the labels without rows in a split."""
    for split, consequence in GAPS.items():
        if split not in task.splits:
            continue
        rows = task.targets(split)
        counts = rows.sum(0) if task.multilabel else np.bincount(rows, minlength=len(task.labels))
        missing = [repr(label) for label, count in zip(task.labels, counts, strict=True) if not count]
        if missing:
            work.say(f"labels without rows in {split} (they {consequence}): {first_few(missing, MAX_SHOWN)}")
