"""What a report is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusion_classifier.evaluation.predictions import SplitPredictions

SHORT_TITLES = {"nll": "NLL", "ece": "ECE", "top3_accuracy": "top-3", "map": "mAP", "subset_accuracy": "all right"}
PAIRS, EXAMPLES, MISTAKES = 12, 2, 12  # shown: confused pairs, texts of each, confident mistakes
TEXT_LENGTH, HOVER_LENGTH = 280, 110  # characters of a text that are shown
MAP_WIDTH = 760  # pixels
MAP_TEXTS = 1500  # more points hide each other, and t-SNE takes long
MOST_COLOURS = 8
LABELLED_CELLS = 0.095  # shares of a true label from which a cell of the confusion matrix has its number
FEWEST_ANSWERED = 20  # texts: an accuracy of fewer says nothing


@dataclass(frozen=True)
class RunRecord:
    """All that a run folder says of itself, and what was found beside it.

    `config`: config.yaml; `metrics`: metrics.json; `seeds`: each seed's training.json; `part`: predictions of the
    reported split; `names` of the C labels; `texts` by hash, None where they are left out, with the reason in
    `no_texts`; `model_seed`: the seed of the saved model.
    """

    folder: str
    date: str
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    seeds: Mapping[int, Mapping[str, Any]]
    part: SplitPredictions
    names: Sequence[str]
    texts: Mapping[str, str] | None = None
    no_texts: str = ""
    label_tree: Sequence[tuple[str, str]] = ()
    model_seed: int | None = None

    @property
    def multilabel(self) -> bool:
        """Whether a text may have any number of labels."""
        return self.part.labels.ndim == 2

    @property
    def mean(self) -> np.ndarray:
        """Probabilities, mean over seeds: (N, C)."""
        mean: np.ndarray = np.mean(list(self.part.by_seed.values()), axis=0)
        return mean

    def text(self, row: int, length: int = TEXT_LENGTH) -> str | None:
        """A text of the split for the eye: white space as single spaces, cut where it is long."""
        found = None if self.texts is None else self.texts.get(self.part.hashes[row])
        if found is None:
            return None
        shown = " ".join(found[: 4 * length].split())
        return shown if len(shown) <= length else shown[: length - 1].rstrip() + "…"
