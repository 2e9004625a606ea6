"""Prediction on texts by a trained classifier: encode, run the head, calibrate.

`FusionClassifier` adds training to it; commands that only predict use `TextPredictor`, which needs no scikit-learn.
"""

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, Self

import numpy as np
import torch

from fusion_classifier.classifier.explanation import MOST_SPANS, Explanation, explanations, occlude
from fusion_classifier.classifier.folder import SavedModel
from fusion_classifier.classifier.inputs import check_texts, one_column
from fusion_classifier.classifier.pretrained import Objects, Paths, PretrainedClassifier
from fusion_classifier.classifier.saved_encoders import checked_identities, placed
from fusion_classifier.config import Device, EncoderConfig
from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.loading import LoadedEncoder, load_identified
from fusion_classifier.encoders.tokenization import Side, is_truncated
from fusion_classifier.encoders.workers import batch_workers
from fusion_classifier.errors import UsageError
from fusion_classifier.features.arrays import Features, from_arrays
from fusion_classifier.features.hashing import hash_texts
from fusion_classifier.support.progress import QUIET
from fusion_classifier.training.loop import inference_batches, predict_logits, predict_transform

CHUNK_TEXTS = 1024  # texts encoded at once: bounds memory whatever the number of texts

Encoded = list[tuple[EncoderConfig, list[np.ndarray]]]  # for each encoder one array per text


class TextPredictor(PretrainedClassifier):
    """A trained classifier on texts, from `from_pretrained`.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `mps`.
        classes_: Labels, (C,).
    """

    device: Device = "auto"
    store: str | os.PathLike[str] | None = None
    keep_features: bool = False
    _loaded: list[LoadedEncoder] | None = None
    _objects: Objects = {}  # noqa: RUF012 - never changed in place

    def predict(self, X: Iterable[str], *, reject_unknown: float | None = None) -> np.ndarray:
        """The most probable label of each text: (N,), in the type that `fit` was given.

        Multi-label: an indicator matrix (N, C) of 0 and 1, columns as in `classes_`.

        Args:
            X: N texts.
            reject_unknown: Share of known texts that may be rejected by mistake, such as 0.05. With it the labels are
                objects, and None where the text seems to belong to no class. Default: every text gets a label.
        """
        if reject_unknown is not None:
            self.unknown_threshold(reject_unknown)  # an error now, not after the texts are encoded
            scored = list(self.predict_scored_stream(X))
            answers = np.concatenate([np.empty(0, np.int64), *(p.argmax(1) for p, _ in scored)])
            return self._rejecting(answers, np.concatenate([np.empty(0), *(s for _, s in scored)]), reject_unknown)
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
        for encoded in self._chunks(X):
            yield self.config_.decision.probabilities(self._run(encoded, predict_logits))

    def unknown_score(self, X: Iterable[str]) -> np.ndarray:
        """How little each text resembles those of the training: (N,), float32.

        0 is an average known text, 1 a standard deviation stranger; see docs/unknown.md.

        Raises:
            UsageError: The classifier can't tell: it is multi-label, or of an earlier version.
            DataError: As of `predict_proba`.
        """
        parts = [scores for _, scores in self.predict_scored_stream(X)]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)

    def predict_scored_stream(self, X: Iterable[str]) -> Generator[tuple[np.ndarray, np.ndarray]]:
        """`predict_proba` and `unknown_score` in chunks of up to 1,024 texts, in order and in constant memory."""
        self._known()  # checks first that it can be told
        for encoded in self._chunks(X):
            logits = self._run(encoded, predict_logits)
            yield self.config_.decision.probabilities(logits), self._scored(encoded, logits)

    def predict_logits(self, X: Sequence[str], side: Side = "right") -> torch.Tensor:
        """Output of the head before calibration: (N, C), float32, on the CPU; all texts in memory at once.

        Args:
            X: N texts.
            side: Side at which a text that is too long for an encoder is truncated. Default: right, its end.

        Raises:
            DataError: An empty text, or something that is not a text.
        """
        return self._run(self._encoded_whole(X, side), predict_logits)

    def predict_scored_logits(self, X: Sequence[str], side: Side = "right") -> tuple[torch.Tensor, np.ndarray | None]:
        """`predict_logits` with `unknown_score`, or None where the classifier can't tell it."""
        encoded = self._encoded_whole(X, side)
        logits = self._run(encoded, predict_logits)
        return logits, None if self.known_ is None else self._scored(encoded, logits)

    def _encoded_whole(self, X: Sequence[str], side: Side) -> Encoded:
        self._check_fitted()
        texts = check_texts(X, "X")
        return [(encoder.config, encode(encoder, texts, side)) for encoder in self.load_encoders()]

    def _scored(self, encoded: Encoded, logits: torch.Tensor) -> np.ndarray:
        """The unknown scores (N,) of encoded texts with these logits."""
        known = self._known()
        x = self._run(encoded, partial(predict_transform, unit=True)).numpy()
        return known.score(x, self.config_.decision.log_odds(logits))

    def explain(self, text: str, label: str | float | None = None, *, most_spans: int = MOST_SPANS) -> Explanation:
        """Weight of each word for a label, from leaving each out in turn (docs/explain.md).

        Args:
            text: Text.
            label: One of `classes_`. Default: the most probable.
            most_spans: Number of parts of the text at most; of more words neighbours are left out together.

        Raises:
            DataError: An empty text.
            UsageError: A label that the classifier does not have.
        """
        self._check_fitted()
        names = self.config_.labels
        if label is not None and str(label) not in names:
            raise UsageError(f"`label`: {str(label)!r} is not a label; the classifier has {', '.join(names)}")
        every = self.explain_labels(text, most_spans=most_spans)
        return every[0] if label is None else next(one for one in every if one.label == str(label))

    def explain_labels(self, text: str, *, most_spans: int = MOST_SPANS) -> tuple[Explanation, ...]:
        """`explain` for every label, the most probable first, at the cost of one."""
        self._check_fitted()

        def cut(part: str) -> bool:
            return all(is_truncated(encoder, part) for encoder in self.load_encoders())

        occlusion = occlude(text, cut, most_spans)
        log_odds = self.config_.decision.log_odds(self.predict_logits(occlusion.texts))
        return explanations(occlusion, log_odds, self.config_.labels, self.config_.decision)

    def load_encoders(self) -> list[LoadedEncoder]:
        """The encoders, loaded at the first call and kept."""
        if self._loaded is None:
            device = resolve_device(self.device)
            identities = checked_identities(self.config_.encoders, device, self._objects)
            self._loaded = [load_identified(identity, device) for identity in identities]
        return self._loaded

    def _chunks(self, X: Iterable[str]) -> Iterator[Encoded]:
        """The features of up to 1,024 texts at a time."""
        self._check_fitted()
        iterator, start = iter(one_column(X, "X")), 0
        while chunk := list(islice(iterator, CHUNK_TEXTS)):
            yield self._encoded(check_texts(chunk, "X", start))
            start += len(chunk)

    def _encoded(self, texts: list[str]) -> Encoded:
        """Each encoder's features; through the store where they are to be kept."""
        if not self.keep_features:
            return [(encoder.config, encode(encoder, texts)) for encoder in self.load_encoders()]
        from fusion_classifier.features.extract import extract_features  # noqa: PLC0415 - the store is slow to import
        from fusion_classifier.features.store import FeatureStore  # noqa: PLC0415

        device, store = resolve_device(self.device), FeatureStore(self.store)
        encoded: Encoded = []
        for number, identity in enumerate(checked_identities(self.config_.encoders, device, self._objects)):
            extract_features(texts, identity, store, device, QUIET, load=partial(self._encoder, number))
            encoded.append((identity.config, store.of(identity).read(hash_texts(texts)).arrays))
        return encoded

    def _encoder(self, number: int, *_: object) -> LoadedEncoder:
        return self.load_encoders()[number]

    def _run(self, encoded: Encoded, call: Callable[..., torch.Tensor]) -> torch.Tensor:
        """What `call` computes with the head of encoded texts: (N, …), on the CPU."""
        device, count = resolve_device(self.device), len(encoded[0][1])
        head = self.head_.to(device)
        tokens = [[len(array) for array in arrays] for config, arrays in encoded if config.pooling == "tokens"]
        batches = list(inference_batches(np.sum(tokens, axis=0) if tokens else None, count, device))

        def computed(rows: np.ndarray) -> torch.Tensor:
            # Put together here: a copy of all token states at once would go through the main memory.
            features: dict[str, Features] = {
                config.name: from_arrays([arrays[row] for row in rows], ragged=config.pooling == "tokens")
                for config, arrays in encoded
            }
            return call(head, features, len(rows), device)

        with batch_workers(device) as (executor, _):
            # A single batch has all cores, as with the encoders.
            parts = list(executor.map(computed, batches) if len(batches) > 1 else map(computed, batches))
        result = parts[0].new_empty(count, *parts[0].shape[1:])
        for rows, part in zip(batches, parts, strict=True):
            result[torch.from_numpy(rows)] = part
        return result

    @classmethod
    def _of(cls, saved: SavedModel, card: str, name: str, device: Device, paths: Paths, encoders: Objects) -> Self:
        if not saved.config.encoders:
            raise UsageError(f"{name}: reads features, not texts; use FusionHeadClassifier.from_pretrained")
        of_model = placed(saved.config.encoders, paths)
        checked_identities([one for one in of_model if one.is_object], resolve_device(device), encoders)
        given = [encoders.get(one.config.name, one.config) for one in of_model]
        loaded = cls._unfitted(given, saved.made_of, saved.config.seed)
        loaded.device, loaded._objects = device, dict(encoders)
        loaded._restore(saved.config.model_copy(update={"encoders": of_model}), saved.head, card, saved.known)
        return loaded

    @classmethod
    def _unfitted(cls, encoders: Sequence[Any], head: Any, seed: int) -> Self:  # noqa: ARG003
        """A new instance with these parameters."""
        return cls()

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]  # of object; BaseEstimator has one
        return state | {"_loaded": None}
