"""Prediction on texts by a trained classifier: encode, run the head, calibrate.

`FusionClassifier` adds training to it; commands that only predict use `TextPredictor`, which needs no scikit-learn.
"""

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from fusion_classifier.classifier.folder import SavedModel
from fusion_classifier.classifier.inputs import check_texts
from fusion_classifier.classifier.optimized import OptimizedClassifier
from fusion_classifier.classifier.pretrained import Objects, Paths, PretrainedClassifier
from fusion_classifier.classifier.saved_encoders import checked_identities, placed
from fusion_classifier.classifier.text_classifier import TextClassifier, TokenCounter
from fusion_classifier.config import Device, EncoderConfig, TruncationSide
from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.encoders.loading import LoadedEncoder, load_identified, only_transformers
from fusion_classifier.encoders.tokenization import cut_note, is_truncated
from fusion_classifier.encoders.workers import batch_workers
from fusion_classifier.errors import UsageError
from fusion_classifier.features.arrays import Features, from_arrays
from fusion_classifier.features.hashing import hash_texts
from fusion_classifier.support.progress import QUIET
from fusion_classifier.training.inference import inference_batches, predict_each, predict_logits

if TYPE_CHECKING:
    from fusion_classifier.features.store import FeatureStore

UNLIMITED = 1_000_000  # tokens of a text that is read in windows
Encoded = list[tuple[EncoderConfig, list[np.ndarray]]]  # for each encoder one array per text


class TextPredictor(TextClassifier, PretrainedClassifier):
    """A trained classifier on texts, from `from_pretrained`.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `mps`.
        classes_: Labels, (C,).
    """

    device: Device = "auto"
    store: str | os.PathLike[str] | None = None
    keep_features: bool = False
    _identities: list[EncoderIdentity] | None = None
    _loaded: list[LoadedEncoder] | None = None
    _objects: Objects = {}  # noqa: RUF012 - never changed in place

    def predict_logits(self, X: Sequence[str], side: TruncationSide = "right") -> torch.Tensor:
        """See `TextClassifier`; on the CPU."""
        return self.score_encoded(self.encode_texts(X, side), unknown=False)[0]

    def encode_texts(self, X: Sequence[str], side: TruncationSide = "right") -> Encoded:
        """See `TextClassifier`."""
        self._check_fitted()
        texts = check_texts(X, "X")
        return [(encoder.config, encode(encoder, texts, side)) for encoder in self.load_encoders()]

    def _scored_chunks(
        self, chunks: Iterable[list[str]], *, unknown: bool
    ) -> Iterator[tuple[torch.Tensor, np.ndarray | None]]:
        for encoded in self._encoded_chunks(chunks):
            yield self.score_encoded(encoded, unknown=unknown)

    def score_encoded(self, encoded: Encoded, *, unknown: bool) -> tuple[torch.Tensor, np.ndarray | None]:
        """See `TextClassifier`; on the CPU."""
        logits = self._run(encoded, predict_logits)
        if not unknown:
            return logits, None
        x = self._run(encoded, lambda head, *of: predict_each(head, head.unit_vectors, *of)).numpy()
        return logits, self._known().score(x, self.config_.decision.log_odds(logits))

    def _is_cut(self, text: str) -> bool:
        return all(is_truncated(encoder, text) for encoder in self.load_encoders())

    def load_encoders(self) -> list[LoadedEncoder]:
        """The encoders, loaded at the first call and kept."""
        if self._loaded is None:
            device = resolve_device(self.device)
            self._loaded = [load_identified(identity, device) for identity in self._identified()]
        return self._loaded

    def _identified(self) -> list[EncoderIdentity]:
        """The encoders' files, found and checked at the first call, which may access the Hub and read large files."""
        if self._identities is None:
            self._identities = checked_identities(self.config_.encoders, resolve_device(self.device), self._objects)
        return self._identities

    def token_counters(self) -> list[TokenCounter]:
        """See `TextClassifier`.

        Raises:
            UsageError: An encoder is an object.
        """
        encoders = only_transformers(self.load_encoders(), "served")
        return [
            TokenCounter(
                encoder.config.name,
                encoder.config.max_length if encoder.config.long == "cut" else UNLIMITED,
                encoder.config.templates,
                encoder.identity.dtype,
                encoder.identity.fingerprint,
                # A copy: a tokenizer must not be used by two threads at once.
                partial(_token_counts, copy.deepcopy(encoder.tokenizer)),
            )
            for encoder in encoders
        ]

    def _encoded_chunks(self, chunks: Iterable[list[str]]) -> Iterator[Encoded]:
        """Features of each chunk from each encoder, through the store if they are kept.

        A single text does not use the store: opening it takes longer than encoding the text, and each commit would
        add a file and a version.
        """
        store: FeatureStore | None = None
        for texts in chunks:
            if self.keep_features and len(texts) > 1:
                store = store or _opened(self.store)
                yield self._stored(texts, store)
            else:
                encoded = [
                    (encoder.config, encode(encoder, texts, on_cut=partial(self._say_cut, encoder.config)))
                    for encoder in self.load_encoders()
                ]
                if self.keep_features:
                    # Rounded as in the store: a text has the same probabilities alone and among others.
                    encoded = [(config, list(map(_rounded, arrays))) for config, arrays in encoded]
                yield encoded

    def _stored(self, texts: list[str], store: "FeatureStore") -> Encoded:
        """Features from each encoder, in the store."""
        from fusion_classifier.features.extract import extract_features  # noqa: PLC0415 - the store is slow to import

        device = resolve_device(self.device)
        encoded: Encoded = []
        for number, identity in enumerate(self._identified()):
            report = extract_features(texts, identity, store, device, QUIET, load=partial(self._encoder, number))
            if report.truncated:
                self._say_cut(identity.config, report.truncated)
            encoded.append((identity.config, store.of(identity).read(hash_texts(texts)).arrays))
        return encoded

    def _say_cut(self, config: EncoderConfig, count: int) -> None:
        self.say(cut_note(config, count))

    def _encoder(self, number: int, *_: object) -> LoadedEncoder:
        return self.load_encoders()[number]

    def _run(self, encoded: Encoded, call: Callable[..., torch.Tensor]) -> torch.Tensor:
        """Output of `call` with the head for encoded texts: (N, …), on the CPU."""
        device, count = resolve_device(self.device), len(encoded[0][1])
        head = self.head_.to(device)
        tokens = [[len(array) for array in arrays] for config, arrays in encoded if config.pooling == "tokens"]
        batches = list(inference_batches(np.sum(tokens, axis=0) if tokens else None, count, device))

        def computed(rows: np.ndarray) -> torch.Tensor:
            # Assembled here: a copy of all token states at once would not fit into the caches.
            features: dict[str, Features] = {
                config.name: from_arrays([arrays[row] for row in rows], ragged=config.pooling == "tokens")
                for config, arrays in encoded
            }
            return call(head, features, len(rows), device)

        if len(batches) == 1:  # it has all cores, as with the encoders
            parts = [computed(batches[0])]
        else:
            with batch_workers(device) as (executor, _):
                parts = list(executor.map(computed, batches))
        result = parts[0].new_empty(count, *parts[0].shape[1:])
        for rows, part in zip(batches, parts, strict=True):
            result[torch.from_numpy(rows)] = part
        return result

    @classmethod
    def _optimized(cls, folder: Path, device: Device) -> Any:
        return OptimizedClassifier(folder, device)

    @classmethod
    def _of(cls, saved: SavedModel, card: str, name: str, device: Device, paths: Paths, encoders: Objects) -> Self:
        if not saved.config.encoders:
            raise UsageError(f"{name} reads features, not texts; use FusionHeadClassifier.from_pretrained")
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
        return state | {"_loaded": None, "_identities": None}


def _opened(root: str | os.PathLike[str] | None) -> "FeatureStore":
    from fusion_classifier.features.store import FeatureStore  # noqa: PLC0415 - slow to import

    return FeatureStore(root)


def _rounded(feature: np.ndarray) -> np.ndarray:
    """A feature as the store returns it: float16, or float32 if it does not fit; int8 unchanged."""
    if feature.dtype == np.int8 or np.abs(feature).max() > np.finfo(np.float16).max:
        return feature
    return feature.astype(np.float16)


def _token_counts(tokenizer: Any, rendered: list[str]) -> list[int]:
    return list(map(len, tokenizer(rendered, truncation=False, verbose=False)["input_ids"]))
