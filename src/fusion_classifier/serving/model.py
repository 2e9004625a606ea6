"""The server's classifier: tokens are counted in one thread and texts classified in another."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fusion_classifier.classifier.text_classifier import TextClassifier
from fusion_classifier.config import TruncationSide
from fusion_classifier.errors import UsageError
from fusion_classifier.serving.errors import ServiceError

WARM_UP = "A warm-up text, so that no client waits for work that only the first text needs."


class Length(NamedTuple):
    """Length of a text."""

    tokens: int
    """Number of tokens, for the encoder that reads the most."""
    cut: bool
    """Whether it is too long for an encoder."""


class Scores(NamedTuple):
    """The model's output for a text: logits and calibrated probabilities, (C,) each, float32, and its unknown score.

    `unknown` is None if the model has no such score, or none was requested.
    """

    logits: np.ndarray
    probabilities: np.ndarray
    unknown: float | None = None


class ServedModel:
    """A fitted classifier with its encoders loaded; `/info` returns its name.

    Attributes:
        observe: Called with a stage, `tokenize`, `encode` or `head`, and its seconds.
    """

    def __init__(self, classifier: TextClassifier, name: str) -> None:
        self.observe: Callable[[str, float], None] = lambda *_: None
        self.classifier, self.name = classifier, name
        self.encoders = classifier.token_counters()
        self.labels: list[str] = classifier.config_.labels
        self.run([WARM_UP], "right", True)

    @property
    def max_input_length(self) -> int:
        """Tokens that all encoders read."""
        return min(encoder.max_length for encoder in self.encoders)

    def _counts(self, texts: Sequence[str]) -> Iterator[tuple[str, int, list[int]]]:
        """For each pass of an encoder: its name, the tokens it reads, and the tokens of each text."""
        for encoder in self.encoders:
            for template in encoder.templates:
                rendered = [template.replace("{text}", text) for text in texts]
                yield encoder.name, encoder.max_length, encoder.count(rendered)

    def lengths(self, texts: Sequence[str], *, truncate: bool) -> list[Length]:
        """The length of each text, computed in the tokenizers' thread."""
        started, lengths = time.perf_counter(), [Length(0, cut=False)] * len(texts)
        for name, limit, counts in self._counts(texts):
            if 0 in counts:
                raise ServiceError("Tokenizer", f"`inputs` has a text in which {name} finds no token")
            if max(counts) > limit and not truncate:
                raise ServiceError(
                    "Tokenizer",
                    f"`inputs` must have at most {limit} tokens. Given: {max(counts)} "
                    f"(by the tokenizer of {name}); set `truncate` to cut it",
                )
            lengths = [
                Length(max(before.tokens, min(count, limit)), before.cut or count > limit)
                for before, count in zip(lengths, counts, strict=True)
            ]
        self.observe("tokenize", time.perf_counter() - started)
        return lengths

    def is_cut(self, text: str) -> bool:
        """Whether a text is too long for all encoders, computed in the tokenizers' thread."""
        return all(count > limit for _, limit, (count,) in self._counts([text]))

    def run(self, texts: Sequence[str], side: TruncationSide, unknown: bool) -> list[Scores]:
        """The scores of N texts, computed in the model's thread; `Scores.unknown` only if requested."""
        started = time.perf_counter()
        encoded = self.classifier.encode_texts(texts, side)
        then = time.perf_counter()
        # Two passes of the head where an unknown score is wanted, too.
        found, distances = self.classifier.score_encoded(
            encoded, unknown=unknown and self.classifier.known_ is not None
        )
        self.observe("encode", then - started)
        self.observe("head", time.perf_counter() - then)
        logits = np.asarray(found)
        if not np.isfinite(logits).all():
            raise ServiceError("Backend", "score is NaN")
        probabilities = self.classifier.config_.decision.probabilities(logits)
        scores = [None] * len(texts) if distances is None else distances.tolist()
        return [Scores(*one) for one in zip(logits, probabilities, scores, strict=True)]

    def unknown_threshold(self, rate: float) -> float:
        """The unknown score that this share of known texts exceeds."""
        try:
            return self.classifier.unknown_threshold(rate)
        except UsageError as error:
            raise ServiceError("Validation", str(error)) from None

    def ranked(self, scores: Scores, *, raw: bool = False, threshold: float | None = None) -> list[dict[str, Any]]:
        """All labels of a text, the highest score first, as `Prediction` describes them.

        Args:
            scores: The model's output for the text.
            raw: Whether scores are logits.
            threshold: Unknown score above which the text is rejected. None: not requested.
        """
        values = scores.logits if raw else scores.probabilities
        decision = self.classifier.config_.decision
        order = np.argsort(-(values if raw else decision.ranks_by(values)), kind="stable")
        ranked: list[dict[str, Any]] = [{"score": float(values[i]), "label": self.labels[i]} for i in order]
        if threshold is None or scores.unknown is None:
            return ranked
        found = {"unknown": scores.unknown > threshold, "unknown_score": scores.unknown}
        answers = [ranked[0] | {"label": None}] if found["unknown"] else ranked
        return [one | found for one in answers]
