"""Encoders that are Python objects: anything that turns texts into arrays.

    FunctionEncoder(embed, name="openai-small", version="2024-01")   a function: texts -> (N, H)
    PrecomputedEncoder(texts, features)                              features computed elsewhere
    SentenceTransformer("...")                                       wrapped by SentenceTransformerEncoder

They are accepted wherever the name of an encoder is. Features are stored by name and version.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from fusion_classifier.config import EncoderConfig
from fusion_classifier.errors import DataError, FecError, NonFiniteError, UsageError, reason


@runtime_checkable
class Encoder(Protocol):
    """Turns texts into arrays of a fixed shape."""

    @property
    def name(self) -> str:
        """Name in tables and files; unique within a classifier."""

    @property
    def version(self) -> str:
        """Any string; must change whenever the features of a text change."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Features of N texts: (N, H), or (N, layers, H)."""


class FunctionEncoder:
    """A function as an encoder.

    Args:
        function: Takes a list of N strings, returns an array (N, H) or (N, layers, H): numpy, torch or scipy.sparse.
        name: Name of the encoder.
        version: Any string; give another one when the function changes.

    Raises:
        UsageError: The name or the version is missing.
    """

    def __init__(self, function: Callable[[list[str]], Any], name: str, version: str) -> None:
        self.function, self.name, self.version = function, name, version
        check_names(self)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Features of N texts: (N, H) or (N, layers, H)."""
        return to_array(self.function(list(texts)))


class PrecomputedEncoder:
    """Features computed elsewhere.

    Args:
        texts: N texts: all that the classifier will be given, for training and for prediction.
        features: (N, H) or (N, layers, H); row i belongs to texts[i].
        name: Name of the encoder. Default: precomputed.
        version: Version of the model or program that computed the features. With it, a saved classifier accepts
            features of other texts.
            Default: a hash of texts and features, so that only these fit the classifier.

    Raises:
        DataError: Texts and features do not fit together.
    """

    def __init__(
        self, texts: Sequence[str], features: Any, name: str = "precomputed", version: str | None = None
    ) -> None:
        self.name, texts = name, list(texts)
        self._features = np.ascontiguousarray(to_array(features))
        self._rows: dict[str, int] = {}
        if len(texts) != len(self._features):
            raise DataError(f"{name}: {len(texts):,} texts, but {len(self._features):,} rows of `features`")
        for row, text in enumerate(texts):
            first = self._rows.setdefault(text, row)
            if first != row and not np.array_equal(self._features[first], self._features[row]):
                raise DataError(f"{name}: `texts[{row}]` is the same as `texts[{first}]`, but has different features")
        self.version = _digest(texts, self._features) if version is None else version

    def check(self, texts: Iterable[str], what: str = "texts") -> None:
        """Check that all texts have features; `what` is their name in the error.

        Raises:
            DataError: One has none; the message has its index.
        """
        for index, text in enumerate(texts):
            if text not in self._rows:
                raise DataError(
                    f"`{what}[{index}]`: encoder {self.name} has no features of {text[:60]!r}, "
                    f"only those of the {len(self._rows):,} texts that it was created with"
                )

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Features of N texts: (N, H) or (N, layers, H)."""
        self.check(texts)
        return self._features[[self._rows[text] for text in texts]]


def _digest(texts: Sequence[str], features: np.ndarray) -> str:
    """Hash of texts and their features."""
    digest = hashlib.sha256(f"{features.dtype} {features.shape}".encode())
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    digest.update(features.data)
    return digest.hexdigest()


class SentenceTransformerEncoder:
    """A SentenceTransformer of the package sentence-transformers.

    Args:
        model: The SentenceTransformer, on the device for the computation.
        name: Name of the encoder. Default: that of the model.
    """

    def __init__(self, model: Any, name: str | None = None) -> None:
        self.model = model
        self.name = _model_name(model) if name is None else name

    @property
    def version(self) -> str:
        """Hash of weights, modules, prompts and tokenizer; changes with further training."""
        import torch  # noqa: PLC0415 - imported by the model's own package

        settings = [getattr(self.model, name, None) for name in ("prompts", "default_prompt_name")]
        digest = hashlib.sha256(repr([repr(self.model), settings]).encode())
        backend = getattr(getattr(self.model, "tokenizer", None), "backend_tokenizer", None)
        digest.update(b"" if backend is None else backend.to_str().encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Sentence embeddings of N texts: (N, H)."""
        return to_array(self.model.encode(list(texts), show_progress_bar=False))


def _model_name(model: Any) -> str:
    """Hub id or folder name of a SentenceTransformer's first module."""
    config = getattr(getattr(next(model.children(), None), "auto_model", None), "config", None)
    name = str(getattr(config, "_name_or_path", "") or "sentence-transformer")
    return Path(name).name if Path(name).exists() else name


def is_encoder(given: Any) -> bool:
    """Whether this is one encoder rather than several: a name, a configuration or an object."""
    return isinstance(given, str | EncoderConfig | Encoder) or callable(given)


def as_encoder(given: Any) -> Encoder:
    """An object as an encoder: an `Encoder`, a SentenceTransformer, or a callable with `name` and `version`.

    Raises:
        UsageError: Unsupported object.
    """
    if isinstance(given, Encoder):
        check_names(given)
        return given
    if not isinstance(given, type) and all(hasattr(given, part) for part in ("encode", "state_dict", "children")):
        return SentenceTransformerEncoder(given)
    if callable(given):
        return FunctionEncoder(given, getattr(given, "name", ""), getattr(given, "version", ""))
    raise UsageError(
        f"{type(given).__name__} is not an encoder: give a name, a path, an EncoderConfig, a SentenceTransformer, or "
        "an object with `name`, `version` and `encode(texts)`"
    )


def check_names(encoder: Encoder) -> None:
    """Check the name and the version of an encoder.

    Raises:
        UsageError: One is missing.
    """
    for field, value in (("name", encoder.name), ("version", encoder.version)):
        if not isinstance(value, str) or not value.strip():
            raise UsageError(
                f"an encoder that is a function or an object needs a {field} (a string), because features are stored "
                "by name and version: FunctionEncoder(function, name=..., version=...)"
            )


def to_array(values: Any) -> np.ndarray:
    """An array, from numpy, torch (any device) or scipy.sparse."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        return np.asarray(values.float() if values.is_floating_point() else values)
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values)


def encode_checked(encoder: Encoder, texts: Sequence[str], shape: tuple[int, ...] | None = None) -> np.ndarray:
    """Features of N texts, at least one: (N, *shape), float32; `shape` is that of earlier features, if any.

    Raises:
        FecError: The encoder failed.
        DataError: An array of another shape, or not of numbers.
        NonFiniteError: NaN or infinity.
    """
    name = encoder.name
    try:
        values = to_array(encoder.encode(texts))
    except FecError:
        raise
    except Exception as error:
        raise FecError(f"{name}: the encoder failed ({type(error).__name__}: {reason(error)})") from error
    if values.dtype.kind not in "fiub":
        raise DataError(f"{name}: the encoder returned {values.dtype} values; it must return an array of numbers")
    if values.ndim not in (2, 3) or len(values) != len(texts) or 0 in values.shape:
        raise DataError(
            f"{name}: the encoder returned an array {values.shape} for {len(texts):,} texts; it must be "
            f"({len(texts)}, H) or ({len(texts)}, layers, H)"
        )
    if shape is not None and values.shape[1:] != shape:
        raise DataError(
            f"{name}: the encoder returned features of shape {values.shape[1:]}, but {shape} before; if it has "
            "changed, change its version"
        )
    with np.errstate(over="ignore"):  # becomes infinity, which is reported
        values = values.astype(np.float32, copy=False)
    broken = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(1))
    if len(broken):
        raise NonFiniteError(f"{name}: NaN or infinity in the feature of the text {texts[broken[0]][:60]!r}")
    return values
