"""The value every later stage starts from: texts and labels, split."""

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np

from fusion_classifier.errors import MissingSplitError

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Split:
    """Texts, exactly as they stand in the data, and their labels as indices into `Task.labels`."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def targets(self) -> np.ndarray:
        """Labels as int64, (N,)."""
        return np.asarray(self.labels, dtype=np.int64)

    def fingerprint(self) -> str:
        """SHA-256 over texts and labels in their order."""
        digest = hashlib.sha256()
        for text, label in zip(self.texts, self.labels, strict=True):
            data = text.encode()
            digest.update(b"%d %d " % (label, len(data)))
            digest.update(data)
        return digest.hexdigest()


@dataclass(frozen=True)
class Task:
    """A classification task: labels in their order, and one to three splits."""

    name: str
    labels: tuple[str, ...]
    splits: dict[str, Split]
    source: str
    licence: str = "unknown"
    notes: tuple[str, ...] = field(default=())

    def split(self, name: str) -> Split:
        """The split of this name.

        Raises:
            MissingSplitError: the task does not have it.
        """
        if name not in self.splits:
            have = ", ".join(self.splits) or "none"
            raise MissingSplitError(
                f"task {self.name} has no {name} split in {self.source} (there: {have}); "
                f"add a {name} file, or choose another split"
            )
        return self.splits[name]

    def limited(self, rows: int | None) -> "Task":
        """The same task with the first `rows` rows of each split."""
        if rows is None:
            return self
        splits = {name: Split(s.texts[:rows], s.labels[:rows]) for name, s in self.splits.items()}
        return replace(self, splits=splits)
