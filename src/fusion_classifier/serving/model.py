"""A classifier as the server uses it: lengths of texts in one thread, scores in another."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fusion_classifier.classifier import FusionClassifier
from fusion_classifier.encoders import Side
from fusion_classifier.serving.schemas import Prediction, ServiceError

WARM_UP = "A first text, so that nobody waits for what only the first one needs."


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

    def lengths(self, texts: Sequence[str], *, truncate: bool) -> list[int]:
        """Tokens of each text, of the encoder that makes the most of it; no more than it reads.

        Raises:
            ServiceError: a text is too long for an encoder and may not be cut.
        """
        longest = [0] * len(texts)
        for encoder, tokenizer in zip(self.encoders, self.tokenizers, strict=True):
            limit = encoder.config.max_length
            for template in encoder.config.templates:
                rendered = [template.replace("{text}", text) for text in texts]
                counts = [len(ids) for ids in tokenizer(rendered, truncation=False, verbose=False)["input_ids"]]
                for position, count in enumerate(counts):
                    if count > limit and not truncate:
                        raise ServiceError(
                            "Tokenizer",
                            f"`inputs` must have at most {limit} tokens. Given: {count} "
                            f"(by the tokenizer of {encoder.config.name}); set `truncate` to cut it",
                        )
                    longest[position] = max(longest[position], min(count, limit))
        return longest

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
