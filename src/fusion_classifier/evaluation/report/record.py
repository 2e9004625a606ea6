"""The input of a report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fusion_classifier.evaluation.figures.confusion import label_order
from fusion_classifier.evaluation.figures.label_order import LabelOrder
from fusion_classifier.evaluation.predictions import SplitPredictions

TEXT_LENGTH = 280  # characters shown of each text


@dataclass(frozen=True)
class RunRecord:
    """The contents of a run folder, and the texts of its data.

    `config` is config.yaml, `metrics` metrics.json, `seeds` training.json and config.json of each seed (empty if
    they are missing), `part` the predictions of the reported split with label names, `valid` those of validation, if
    there are any of the same seeds. `texts` are by hash, None if they are left out, for the reason `no_texts`.
    `model_seed` is the seed of the saved model.
    """

    folder: str
    date: str
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    seeds: Mapping[int, Mapping[str, Any]]
    part: SplitPredictions
    valid: SplitPredictions | None = None
    texts: Mapping[str, str] | None = None
    no_texts: str = ""
    label_tree: Sequence[tuple[str, str]] = ()
    model_seed: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the C labels."""
        return self.part.names

    @property
    def multilabel(self) -> bool:
        """Whether a text may have any number of labels."""
        return self.part.labels.ndim == 2

    @cached_property
    def mean(self) -> np.ndarray:
        """Probabilities, mean over seeds: (N, C)."""
        return np.asarray(np.mean(list(self.part.by_seed.values()), axis=0))

    @cached_property
    def order(self) -> LabelOrder:
        """Order of the labels in figures."""
        return label_order(self.part, self.names, self.label_tree)

    def labels_text(self, labels: Any) -> str:
        """Return the name for a label index, or the names for a row of 0 and 1."""
        if not self.multilabel:
            return self.names[int(labels)]
        return ", ".join(self.names[i] for i in np.flatnonzero(labels)) or "no label"

    def text(self, row: int, length: int = TEXT_LENGTH) -> str | None:
        """Return a text of the split with single spaces, shortened to `length` characters."""
        found = None if self.texts is None else self.texts.get(self.part.hashes[row])
        if found is None:
            return None
        shown = " ".join(found[: 4 * length].split())
        return shown if len(shown) <= length else shown[: length - 1].rstrip() + "…"
