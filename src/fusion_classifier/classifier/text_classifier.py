"""Base class of trained text classifiers, independent of the runtime; does not import torch.

`TextPredictor` computes them with torch, `OptimizedClassifier` with ONNX Runtime; `load_classifier` opens either.
"""

import os
from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion_classifier.classifier.explanation import MAX_SPANS, Explanation, explanations, occlude
from fusion_classifier.classifier.inputs import check_texts, one_column
from fusion_classifier.classifier.models import find_model, is_optimized
from fusion_classifier.classifier.notebook import classifier_html
from fusion_classifier.config import Device, TruncationSide
from fusion_classifier.errors import UsageError
from fusion_classifier.support.warn import warn_caller
from fusion_classifier.training.decision import Logits
from fusion_classifier.training.known import DEFAULT_RATE, KnownTexts

if TYPE_CHECKING:
    from fusion_classifier.classifier.folder import ModelConfig
    from fusion_classifier.classifier.optimized import OptimizedConfig

# ruff: noqa: PLC0415 - torch and scikit-learn take seconds to import

CHUNK_TEXTS = 1024  # texts encoded at once: bounds memory whatever the number of texts

Scored = tuple[Logits, np.ndarray | None]  # logits (N, C), and unknown scores (N,)


@dataclass(frozen=True)
class TokenCounter:
    """Properties of an encoder of a loaded classifier.

    Attributes:
        name: Name of the encoder.
        max_length: Maximum number of tokens per text.
        templates: Its templates.
        dtype: Precision in which it computes.
        fingerprint: Fingerprint of its files.
        count: Function that counts the tokens of rendered texts, without truncation. For use in one thread.
    """

    name: str
    max_length: int
    templates: Sequence[str]
    dtype: str
    fingerprint: str
    count: Callable[[list[str]], list[int]]


class RejectsUnknown:
    """Detects unknown texts by vectors of training texts.

    Attributes:
        classes_: Labels, (C,).
        config_: Content of `config.json`.
        known_: Statistics for detecting unknown texts; None if not fitted.
    """

    classes_: np.ndarray
    config_: "ModelConfig | OptimizedConfig"
    known_: KnownTexts | None = None

    def _repr_mimebundle_(self, **options: Any) -> dict[str, str]:
        """HTML for notebooks; that of scikit-learn if not fitted yet."""
        if self.__sklearn_is_fitted__():
            return {"text/plain": repr(self), "text/html": classifier_html(self)}
        of_estimator = getattr(super(), "_repr_mimebundle_", None)
        return of_estimator(**options) if of_estimator else {"text/plain": repr(self)}

    def _repr_html_(self) -> str:
        """For notebooks."""
        return self._repr_mimebundle_().get("text/html", "")

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "config_")

    def _check_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            from sklearn.exceptions import NotFittedError

            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit or from_pretrained")

    def unknown_threshold(self, rate: float = DEFAULT_RATE) -> float:
        """The `unknown_score` above which `predict` with this `reject_unknown` answers None.

        Args:
            rate: Share of known texts that may be rejected by mistake, between 0 and 1. Default: 0.05.

        Raises:
            UsageError: Invalid rate, or a classifier without unknown scores.
        """
        return self._known().threshold(rate)

    def _known(self) -> KnownTexts:
        """Statistics for detecting unknown texts.

        Raises:
            UsageError: The classifier does not have it.
        """
        self._check_fitted()
        if self.config_.decision.multilabel:
            raise UsageError(
                "`reject_unknown`: not available with several labels per text, where an unknown text reaches no "
                "label's threshold; leave it out"
            )
        if self.known_ is None:
            raise UsageError(
                "`reject_unknown`: this model has no data on its training texts (an earlier version trained "
                "it, `known_texts` was off, or `fec tune` had no validation split); train the model again"
            )
        return self.known_

    def _rejecting(self, answers: np.ndarray, scores: np.ndarray, rate: float) -> np.ndarray:
        """Labels (N,) as objects, None for the texts whose score (N,) is above the threshold."""
        labels: np.ndarray = self.classes_[answers].astype(object)
        labels[scores > self.unknown_threshold(rate)] = None
        if note := self._known().note(rate):
            warn_caller(note)
        return labels


class TextClassifier(RejectsUnknown):
    """A trained classifier on texts.

    Attributes:
        classes_: Labels, (C,).
        config_: Content of `config.json`: labels, decision and encoders.
        say: Function called when `predict` truncates texts. Default: a warning.
    """

    say: Callable[[str], None] = staticmethod(warn_caller)

    def predict(self, X: Iterable[str], *, reject_unknown: float | None = None) -> np.ndarray:
        """The most probable label of each text: (N,), in the type given to `fit`.

        Multi-label: an indicator matrix (N, C) of 0 and 1, columns as in `classes_`.

        Args:
            X: N texts.
            reject_unknown: Share of known texts that may be rejected by mistake, such as 0.05. With it the labels are
                objects, and None if the text seems to belong to none of them. Default: every text gets a label.
        """
        if reject_unknown is not None:
            self.unknown_threshold(reject_unknown)  # an error now, not after the texts are encoded
            scored = list(self.predict_scored_stream(X))
            if not scored:
                return np.empty(0, dtype=object)
            probabilities, scores = (np.concatenate(parts) for parts in zip(*scored, strict=True))
            return self._rejecting(self.config_.decision.labels(probabilities), scores, reject_unknown)
        probabilities = self.predict_proba(X)  # checks first that there is a model
        answers = self.config_.decision.labels(probabilities)
        labels: np.ndarray = self.classes_[answers] if answers.ndim == 1 else answers
        return labels

    def predict_proba(self, X: Iterable[str]) -> np.ndarray:
        """Calibrated probability of each label: (N, C), float32, columns as in `classes_`.

        Raises:
            DataError: An empty text, or something that is not a text; the message has its index.
        """
        parts = list(self.predict_proba_stream(X))  # checks first that there is a model
        return np.concatenate(parts) if parts else np.empty((0, len(self.classes_)), dtype=np.float32)

    def predict_proba_stream(self, X: Iterable[str]) -> Generator[np.ndarray]:
        """`predict_proba` in chunks of up to 1,024 texts, in order and in constant memory."""
        for logits, _ in self._scored_chunks(self._chunks(X), unknown=False):
            yield self.config_.decision.probabilities(logits)

    def unknown_score(self, X: Iterable[str]) -> np.ndarray:
        """Unknown score of each text, higher for texts unlike the training texts: (N,), float32.

        0 is an average known text, 1 is one standard deviation less typical; see docs/unknown.md.

        Raises:
            UsageError: The classifier has no unknown scores: it is multi-label, or from an earlier version.
            DataError: As in `predict_proba`.
        """
        parts = [scores for _, scores in self.predict_scored_stream(X)]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)

    def predict_scored_stream(self, X: Iterable[str]) -> Generator[tuple[np.ndarray, np.ndarray]]:
        """`predict_proba` and `unknown_score` in chunks of up to 1,024 texts, in order and in constant memory."""
        self._known()  # checks first that unknown texts can be detected
        for logits, unknown in self._scored_chunks(self._chunks(X), unknown=True):
            assert unknown is not None
            yield self.config_.decision.probabilities(logits), unknown

    def explain(self, text: str, label: str | float | None = None, *, max_spans: int = MAX_SPANS) -> Explanation:
        """Weight of each word for a label, by removing each in turn (docs/explain.md).

        Args:
            text: Text.
            label: One of `classes_`. Default: the most probable.
            max_spans: Maximum number of parts; in longer texts, neighbouring words are removed together.

        Raises:
            DataError: An empty text.
            UsageError: A label that the classifier does not have.
        """
        self._check_fitted()
        names = self.config_.labels
        if label is not None and str(label) not in names:
            raise UsageError(f"`label`: {str(label)!r} is not a label; the classifier has {', '.join(names)}")
        every = self.explain_labels(text, max_spans=max_spans)
        return every[0] if label is None else next(one for one in every if one.label == str(label))

    def explain_labels(self, text: str, *, max_spans: int = MAX_SPANS) -> tuple[Explanation, ...]:
        """`explain` for every label, the most probable first, at the cost of one."""
        self._check_fitted()

        occlusion = occlude(text, self._is_cut, max_spans)
        log_odds = self.config_.decision.log_odds(self.predict_logits(occlusion.texts))
        return explanations(occlusion, log_odds, self.config_.labels, self.config_.decision)

    def _chunks(self, X: Iterable[str]) -> Iterator[list[str]]:
        """Up to 1,024 texts at a time."""
        self._check_fitted()
        iterator, start = iter(one_column(X, "X")), 0
        while chunk := list(islice(iterator, CHUNK_TEXTS)):
            yield check_texts(chunk, "X", start)
            start += len(chunk)

    @abstractmethod
    def predict_logits(self, X: Sequence[str], side: TruncationSide = "right") -> Logits:
        """Logits before calibration: (N, C), float32; all texts in memory at once.

        Args:
            X: N texts.
            side: End at which long texts are truncated. Default: right.

        Raises:
            DataError: An empty text, or something that is not a text.
        """

    def predict_scored_logits(self, X: Sequence[str], side: TruncationSide = "right") -> Scored:
        """`predict_logits` with `unknown_score`, or None if the classifier has none."""
        return self.score_encoded(self.encode_texts(X, side), unknown=self.known_ is not None)

    @abstractmethod
    def encode_texts(self, X: Sequence[str], side: TruncationSide = "right") -> Any:
        """Features of texts for `score_encoded`; arguments and errors as in `predict_logits`."""

    @abstractmethod
    def score_encoded(self, encoded: Any, *, unknown: bool) -> Scored:
        """Uncalibrated logits of the result of `encode_texts`, and unknown scores (N,) if requested."""

    @abstractmethod
    def token_counters(self) -> list[TokenCounter]:
        """Properties of each encoder; loads the encoders."""

    @abstractmethod
    def _scored_chunks(self, chunks: Iterable[list[str]], *, unknown: bool) -> Iterator[Scored]:
        """Uncalibrated logits of each chunk of checked texts, and unknown scores (N,) if requested."""

    @abstractmethod
    def _is_cut(self, text: str) -> bool:
        """Whether a text is too long for all encoders."""


def load_classifier(
    name: str | os.PathLike[str], device: Device = "auto", encoder_paths: Mapping[str, str] | None = None
) -> TextClassifier:
    """Load a classifier to predict with: an optimized one without torch, any other by `TextPredictor`.

    Args:
        name: Model folder, run folder, built-in model, or Hub id.
        device: Device of the model.
        encoder_paths: Paths of the encoders' weights, by encoder name; an optimized model contains them.

    Raises:
        FecError: It can't be loaded.
    """
    folder = find_model(name)
    if is_optimized(folder):
        from fusion_classifier.classifier.optimized import OptimizedClassifier

        return OptimizedClassifier(folder, device)
    from fusion_classifier.classifier.prediction import TextPredictor

    return TextPredictor.from_pretrained(folder, device=device, encoder_paths=encoder_paths)
