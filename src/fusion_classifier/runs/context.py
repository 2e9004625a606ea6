"""Where a command works, and what it says of the task."""

import logging
from dataclasses import dataclass, field

import numpy as np
import torch

from fusion_classifier.cluster.pool import RayEngine
from fusion_classifier.features.extract import memory_for_features
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.support.progress import Progress
from fusion_classifier.tasks.loaded import LoadedTask

logger = logging.getLogger(__name__)
GAPS = {"train": "they can't be learnt", "valid": "no choice heeds them", "test": "they are not measured"}
MOST_NAMED = 5  # labels in a sentence


@dataclass(frozen=True)
class Workspace:
    """Where a command works: the store, the device, where it shows its progress, bytes features may take, the engine.

    With `ray` texts are encoded by its workers, else by this process.
    """

    store: FeatureStore
    device: torch.device
    progress: Progress
    memory: int = field(default_factory=memory_for_features)
    ray: RayEngine | None = None

    def say(self, message: str) -> None:
        """A line for the user, beside the progress."""
        self.progress.console.print(message, highlight=False, markup=False, soft_wrap=True)


def say_notes(task: LoadedTask, work: Workspace) -> None:
    """What the user should know of how the task was read."""
    logger.info(
        "task %s",
        task.name,
        extra={"source": task.source, "labels": len(task.labels)}
        | {f"{name}_rows": len(split) for name, split in task.splits.items()},
    )
    for note in task.notes:
        work.say(note)


def say_gaps(task: LoadedTask, work: Workspace) -> None:
    """Name the labels without a row in a split: nothing is learnt of them, or nothing is measured."""
    for split, meaning in GAPS.items():
        if split not in task.splits:
            continue
        rows = task.targets(split)
        counts = rows.sum(0) if task.multilabel else np.bincount(rows, minlength=len(task.labels))
        missing = [repr(label) for label, count in zip(task.labels, counts, strict=True) if not count]
        if missing:
            shown = ", ".join(missing[:MOST_NAMED]) + (", …" if len(missing) > MOST_NAMED else "")
            work.say(f"labels without a row in {split} ({meaning}): {shown}")
