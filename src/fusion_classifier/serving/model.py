"""A classifier as the server uses it: lengths of texts in one thread, scores in another."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from fusion_classifier.classifier.estimator import FusionClassifier
from fusion_classifier.encoders.encode import Side
from fusion_classifier.serving.schemas import Prediction, ServiceError

WARM_UP = "A first text, so that nobody waits for what only the first one needs."


class Length(NamedTuple):
    """How long a text is."""

    tokens: int
    """Of the encoder that makes the most of it; no more than it reads."""
    cut: bool
    """Whether it is too long for an encoder."""


@dataclass(frozen=True)
class Scores:
    """What the model says of a text."""

    logits: np.ndarray
    """(C,), float32."""
    probabilities: np.ndarray
    """Calibrated, (C,), float32."""


class ServedModel:
    """A classifier with its encoders loaded.

    Its tokenizers for lengths are copies: a tokenizer must not be used by two threads at once.
    """

    def __init__(self, classifier: FusionClassifier, name: str) -> None:
        self.classifier, self.name = classifier, name
        self.encoders = classifier.load_encoders()
        self.tokenizers = [copy.deepcopy(encoder.tokenizer) for encoder in self.encoders]
        self.labels: list[str] = classifier.config_.labels
        self.run([WARM_UP], "right")

    @property
    def max_input_length(self) -> int:
        """Tokens that all encoders read."""
        return min(encoder.config.max_length for encoder in self.encoders)

    def lengths(self, texts: Sequence[str], *, truncate: bool) -> list[Length]:
        """The length of each text; in the tokenizers' thread.

        Raises:
            ServiceError: a text is too long for an encoder and may not be cut, or nothing for it.
        """
        found = [Length(0, cut=False)] * len(texts)
        for encoder, tokenizer in zip(self.encoders, self.tokenizers, strict=True):
            name, limit = encoder.config.name, encoder.config.max_length
            for template in encoder.config.templates:
                rendered = [template.replace("{text}", text) for text in texts]
                encoded = tokenizer(rendered, truncation=False, verbose=False)["input_ids"]
                for position, count in enumerate(map(len, encoded)):
                    if count == 0:
                        raise ServiceError("Tokenizer", f"`inputs` has a text of which {name} makes no token")
                    if count > limit and not truncate:
                        raise ServiceError(
                            "Tokenizer",
                            f"`inputs` must have at most {limit} tokens. Given: {count} "
                            f"(by the tokenizer of {name}); set `truncate` to cut it",
                        )
                    before = found[position]
                    found[position] = Length(max(before.tokens, min(count, limit)), before.cut or count > limit)
        return found

    def run(self, texts: Sequence[str], side: Side) -> list[Scores]:
        """The scores of texts; in the model's thread."""
        logits = self.classifier.predict_logits(texts, side)
        probabilities = self.classifier.config_.decision.probabilities(logits)
        if not torch.isfinite(logits).all():
            raise ServiceError("Backend", "score is NaN")
        return [Scores(*both) for both in zip(logits.numpy(), probabilities, strict=True)]

    def predictions(self, scores: Scores, *, raw: bool) -> list[Prediction]:
        """All labels, by falling score."""
        values = scores.logits if raw else scores.probabilities
        order = np.argsort(-values, kind="stable")
        return [Prediction(score=float(values[i]), label=self.labels[i]) for i in order]
