"""Predictions as columns, for JSON lines and all file formats.

One label per text: `label` and `score`; for the K best, `label_1`, `score_1`, …, `label_K`, `score_K`. Any number of
labels: `labels` and `scores`, lists with the best first. If unknown texts are rejected, also `unknown` and
`unknown_score`.

If the best probability is below `abstain`, or the text is rejected, the label is null and the score is that of the
best label. A missing text has null in all columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusion_classifier.training.decision import Decision

Answer = dict[str, Any]


@dataclass(frozen=True)
class Answers:
    """Converts probabilities and unknown scores to columns.

    Attributes:
        names: Names of the C labels.
        decision: Converts probabilities to labels.
        top_k: Number of labels per text. Default: the best one, or all predicted by a multi-label model.
        abstain: Minimum probability for giving a label. Default: a label is always given.
        threshold: Unknown score above which a text is rejected. Default: no text is rejected.
    """

    names: Sequence[str]
    decision: Decision
    top_k: int | None = None
    abstain: float | None = None
    threshold: float | None = None

    def is_unknown(self, score: float) -> bool:
        """Whether a text with this unknown score is rejected."""
        return self.threshold is not None and bool(score > self.threshold)

    def of(self, row: np.ndarray, score: float = 0.0) -> Answer:
        """The answer for a text with probabilities `row` (C,) and this unknown score."""
        order = np.argsort(-self.decision.ranks_by(row), kind="stable")
        unknown = self.is_unknown(score)
        said = {} if self.threshold is None else {"unknown": unknown, "unknown_score": float(score)}
        if self.top_k is None and self.decision.multilabel:
            given = self.decision.labels(row[None])[0]
            chosen = [i for i in order if given[i]]
            return {"labels": [self.names[i] for i in chosen], "scores": [float(row[i]) for i in chosen]} | said
        ranked: list[tuple[str | None, float | None]] = [(self.names[i], float(row[i])) for i in order]
        if unknown or (self.abstain is not None and row[order[0]] < self.abstain):
            best = row.max() if unknown else row[order[0]]
            ranked = [(None, float(best)), *[(None, None)] * (len(ranked) - 1)]
        values = [value for pair in ranked[: self.top_k or 1] for value in pair]
        return dict(zip(self._ranked(), values, strict=True)) | said

    def missing(self) -> Answer:
        """The answer for a missing text."""
        return dict.fromkeys(self.columns())

    def columns(self) -> dict[str, str]:
        """The columns of an answer with their Parquet types."""
        if self.top_k is None and self.decision.multilabel:
            kinds = {"labels": "list<string>", "scores": "list<float>"}
        else:
            kinds = {name: "float" if name.startswith("score") else "string" for name in self._ranked()}
        return kinds | ({} if self.threshold is None else {"unknown": "bool", "unknown_score": "float"})

    def _ranked(self) -> list[str]:
        """The columns of labels and scores, the best first."""
        if self.top_k is None:
            return ["label", "score"]
        ranks = range(1, min(self.top_k, len(self.names)) + 1)
        return [f"{what}_{rank}" for rank in ranks for what in ("label", "score")]


def beside(columns: Sequence[str], given: Sequence[str]) -> dict[str, str]:
    """Names for the columns of an answer that are distinct from a file's: unchanged, or prefixed with predicted_.

    All have the prefix if one of them needs it.
    """
    prefix = ""
    while any(prefix + name in given for name in columns):
        prefix += "predicted_"
    return {name: prefix + name for name in columns}
