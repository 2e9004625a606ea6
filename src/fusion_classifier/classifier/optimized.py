"""`OptimizedClassifier`: a model written by `fec optimize`, run with ONNX Runtime, without torch.

classifier = OptimizedClassifier(Path("my-model-fast"))
classifier.predict(["what a day!"])
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from fusion_classifier.classifier.inputs import check_texts
from fusion_classifier.classifier.labels import LabelledConfig
from fusion_classifier.classifier.models import CONFIG_FILE
from fusion_classifier.classifier.text_classifier import Scored, TextClassifier, TokenCounter
from fusion_classifier.config import Device, FrozenModel, Precision, TruncationSide
from fusion_classifier.errors import FecError, UsageError, reason
from fusion_classifier.support.extras import require
from fusion_classifier.support.validation import first_problem
from fusion_classifier.training.known import KnownTexts


class HeadGraphConfig(FrozenModel):
    """The head of an optimized model."""

    name: str
    """Name of the head that was trained."""
    onnx: str = "head.onnx"
    """File of its graph."""
    inputs: tuple[str, ...] = ()
    """Names of the graph's inputs."""
    outputs: tuple[str, ...] = ()
    """Names of the graph's outputs."""


class EncoderGraphConfig(FrozenModel):
    """An encoder of an optimized model."""

    name: str
    """Name of the encoder."""
    revision: str | None
    """Revision of its model."""
    fingerprint: str
    """SHA-256 over the model's files."""
    pooling: str
    """Pooling, which is part of the graph."""
    templates: tuple[str, ...]
    """Prompt templates; their features are averaged."""
    max_length: int
    """Maximum number of tokens per text."""
    layers: int
    """Number of layers in its output."""
    width: int
    """Width of a layer."""
    token_states: bool
    """Whether features are token states."""
    hidden_states: tuple[int, ...] = ()
    """Layers of the model in its output."""
    pool_special_tokens: bool = True
    """Whether pooling and head include special tokens."""
    pad_token_id: int = 0
    """Token with which shorter texts are padded."""
    int8: bool = False
    """Whether the head rounds the features to 8 bits."""
    onnx: str | None = None
    """File of the graph; None if it was not exported."""
    reason: str | None = None
    """Why it was not exported."""
    inputs: tuple[str, ...] = ()
    """Names of the graph's inputs."""
    tokenizer: str | None = None
    """File of the tokenizer."""


class OptimizedConfig(LabelledConfig):
    """`config.json` of an optimized model."""

    format: Literal["fusion-classifier-onnx"] = "fusion-classifier-onnx"
    """Always fusion-classifier-onnx."""
    precision: Precision = "float32"
    """Precision of the encoders' graphs."""
    head: HeadGraphConfig
    """The head."""
    encoders: tuple[EncoderGraphConfig, ...]
    """The encoders, in the head's order."""
    agreement: dict[str, Any] | None = None
    """Differences between the float32 graphs and PyTorch."""
    candidates: tuple[dict[str, Any], ...] = ()
    """Measurements of each precision."""


class OptimizedClassifier(TextClassifier):
    """A trained classifier as ONNX graphs.

    Args:
        folder: Folder written by `fec optimize`.
        device: auto or cpu.

    Raises:
        UsageError: Another device, or a package is missing.
        FecError: The folder can't be used.
    """

    config_: OptimizedConfig

    def __init__(self, folder: Path, device: Device = "auto") -> None:
        require("an optimized model", "onnx", "onnxruntime", "tokenizers")
        if device not in ("auto", "cpu"):
            raise UsageError(f"`device`: {folder} is optimized for the CPU, not for {device}; use the model itself")
        self.config_ = config = load_config(folder)
        self.classes_ = config.classes
        for encoder in config.encoders:
            if encoder.onnx is None:
                raise FecError(f"{folder}: encoder {encoder.name} is not in it ({encoder.reason})")
        from fusion_classifier.classifier.standalone import Classifier  # noqa: PLC0415 - an extra

        try:
            self._graphs = Classifier(folder)
        except Exception as error:  # what the libraries raise for damaged files has no class of its own
            raise FecError(f"{folder} can't be loaded ({reason(error)}); run fec optimize again") from error
        width = sum(encoder.layers * encoder.width for encoder in config.encoders)
        self.known_ = KnownTexts.load(folder, width) if "vectors" in config.head.outputs else None

    def predict_logits(self, X: Sequence[str], side: TruncationSide = "right") -> np.ndarray:
        """See `TextClassifier`."""
        return self._graphs.outputs(check_texts(X, "X"), side)["logits"]

    def encode_texts(self, X: Sequence[str], side: TruncationSide = "right") -> Any:
        """See `TextClassifier`."""
        return list(self._graphs.encoded(check_texts(X, "X"), side))

    def score_encoded(self, encoded: Any, *, unknown: bool) -> Scored:
        """See `TextClassifier`."""
        return self._scored(self._graphs.head_outputs(encoded), unknown=unknown)

    def token_counters(self) -> list[TokenCounter]:
        """See `TextClassifier`."""
        from tokenizers import Tokenizer  # noqa: PLC0415 - an extra

        counters = []
        for encoder, (_, _, tokenizer) in zip(self.config_.encoders, self._graphs.encoders, strict=True):
            own = Tokenizer.from_str(tokenizer.to_str())  # a tokenizer must not be used by two threads at once
            own.no_truncation()
            own.no_padding()
            count = partial(_token_counts, own)
            precision, templates = self.config_.precision, encoder.templates
            counters.append(
                TokenCounter(encoder.name, encoder.max_length, templates, precision, encoder.fingerprint, count)
            )
        return counters

    def _scored_chunks(self, chunks: Iterable[list[str]], *, unknown: bool) -> Iterator[Scored]:
        for texts in chunks:
            yield self._scored(self._graphs.outputs(texts), unknown=unknown)

    def _scored(self, found: dict[str, np.ndarray], *, unknown: bool) -> Scored:
        if not unknown:
            return found["logits"], None
        return found["logits"], self._known().score(found["vectors"], self.config_.decision.log_odds(found["logits"]))

    @cached_property
    def _counters(self) -> list[TokenCounter]:
        return self.token_counters()  # each call copies the tokenizers

    def _is_cut(self, text: str) -> bool:
        return all(
            one.count([template.replace("{text}", text)])[0] > one.max_length
            for one in self._counters
            for template in one.templates
        )


def load_config(folder: Path) -> OptimizedConfig:
    """Read `config.json` of an optimized model.

    Raises:
        FecError: It was not written by `fec optimize`, or is damaged.
    """
    path = folder / CONFIG_FILE
    try:
        return OptimizedConfig.model_validate(json.loads(path.read_text("utf-8")))
    except ValidationError as error:
        field, message = first_problem(error)
        raise FecError(f"{path}: {f'{field}: ' if field else ''}{message}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise FecError(f"{path} can't be read ({reason(error)})") from error


def _token_counts(tokenizer: Any, rendered: list[str]) -> list[int]:
    return [len(one.ids) for one in tokenizer.encode_batch(rendered)]
