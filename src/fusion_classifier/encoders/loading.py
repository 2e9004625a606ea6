# ruff: noqa: PLC0415 - transformers takes seconds to import: only when a model is loaded
"""Loads a model and its tokenizer, and checks that every weight needed for a feature comes from the files."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders import behaviour, packed
from fusion_classifier.encoders.checks.claims import check_claims
from fusion_classifier.encoders.dense import load_dense
from fusion_classifier.encoders.gguf import load_packed, unpacked
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.projection import Projection, load_projection
from fusion_classifier.encoders.protocol import encode_checked
from fusion_classifier.encoders.quiet import quiet
from fusion_classifier.encoders.static import load_static
from fusion_classifier.errors import FecError, UsageError, WeightsError, library_errors
from fusion_classifier.support.extras import require
from fusion_classifier.support.files import user_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Model types whose pooler can be left out, so that its absence from the files does not matter.
WITHOUT_POOLER = ("bert", "roberta", "xlm-roberta", "camembert", "mpnet")
LOCAL: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}


@dataclass(frozen=True)
class TransformerEncoder:
    """A frozen model in evaluation mode, ready to encode."""

    identity: EncoderIdentity
    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    device: torch.device
    layers: tuple[int, ...]  # indices into the model's hidden states, 0 (embeddings) to the number of layers
    shape: tuple[int, ...]  # of one text's feature; with pooling `tokens`, of one token's states (layers, H)
    pool_special_tokens: bool  # whether pooling counts the tokens that the tokenizer adds
    packed: bool = False  # whether the model runs over texts without padding
    first_position: int = 0  # of a text's first token, where the model is packed
    pads: bool = True  # whether padding leaves a text's states as they are; else batches are of texts of equal length
    projection: Projection | None = None
    dense: torch.nn.Sequential | None = None  # applied to the pooled vector
    lock: AbstractContextManager[Any] | None = None  # of a model that a batch changes

    @property
    def config(self) -> EncoderConfig:
        """The configuration from which it was loaded."""
        return self.identity.config

    @contextmanager
    def errors_explained(self) -> Iterator[None]:
        """Convert errors of a loaded model or tokenizer, which are due to its files, to a WeightsError."""
        name, folder, dtype = self.config.name, self.identity.weights.folder, self.identity.dtype
        advice = "" if dtype == "float32" else "; try `dtype` float32"
        with library_errors(lambda why: WeightsError(f"{name}: the model in {folder} can't be run ({why}){advice}")):
            try:
                yield
            except (MemoryError, torch.OutOfMemoryError) as error:
                raise FecError(
                    f"{name}: out of memory on {self.device.type}; give a smaller `max_length`, or another `device`"
                ) from error

    @contextmanager
    def as_loaded(self) -> Iterator[None]:
        """The model as it was loaded, for one batch: a model whose state a batch changes runs one batch at a time."""
        with self.lock or nullcontext():
            if self.lock is not None:
                behaviour.restore(self.model)
            yield


@dataclass
class ObjectEncoder:
    """An encoder that is a Python object; its output is checked."""

    identity: EncoderIdentity
    shape: tuple[int, ...] | None = None  # of one text's feature; None until the first text is encoded

    @property
    def config(self) -> EncoderConfig:
        """A configuration of its name."""
        return self.identity.config

    def encode(self, texts: list[str]) -> list[np.ndarray]:
        """One float32 array per text, all of the same shape; errors as in `encode_checked`."""
        assert self.identity.encoder is not None
        if not texts:
            return []
        features = encode_checked(self.identity.encoder, texts, self.shape)
        self.shape = features.shape[1:]
        return list(features)


LoadedEncoder = TransformerEncoder | ObjectEncoder


def only_transformers(encoders: Iterable[LoadedEncoder], what: str) -> list[TransformerEncoder]:
    """The same encoders; UsageError if one is a Python object, which can't be `what`, such as "served"."""
    result: list[TransformerEncoder] = []
    for encoder in encoders:
        if isinstance(encoder, ObjectEncoder):
            kind = "static model" if encoder.identity.weights.source != "object" else "Python object"
            raise UsageError(f"encoder {encoder.config.name} is a {kind}, which can't be {what}")
        result.append(encoder)
    return result


def load_identified(identity: EncoderIdentity, device: torch.device) -> LoadedEncoder:
    """Load an encoder of either kind; errors as in `load_transformer`."""
    if identity.weights.is_static and not identity.is_object:
        return ObjectEncoder(replace(identity, encoder=load_static(identity)))
    return ObjectEncoder(identity) if identity.is_object else load_transformer(identity, device)


def load_encoder(config: EncoderConfig, device: torch.device, *, plain: bool = False) -> TransformerEncoder:
    """Find and load a model; see `load_transformer`."""
    return load_transformer(identify(config, device), device, plain=plain)


def load_transformer(identity: EncoderIdentity, device: torch.device, *, plain: bool = False) -> TransformerEncoder:
    """Load a model whose files are already found.

    Args:
        identity: Encoder to load.
        device: Device to load it on.
        plain: Leave the model as transformers created it, to be called with padded batches. Default: False.
    """
    name = identity.config.name
    if identity.is_object:
        raise UsageError(f"{name} is a Python object; give an encoder whose model is on disk or on the Hub")
    if identity.weights.is_static:
        raise UsageError(f"{name} is a static model, which has no layers; give a transformer")
    what = f"{name}: the model in {identity.weights.folder} can't be loaded"
    with library_errors(lambda why: WeightsError(f"{what} ({why})")):
        with quiet():
            tokenizer, model, info = _load_files(identity)
        _check_complete(identity, model, info)
        return _prepared(identity, tokenizer, model, device, plain=plain)


def load_tokenizer(identity: EncoderIdentity) -> "PreTrainedTokenizerBase":
    """A model's tokenizer without the model; WeightsError if it can't be loaded."""
    weights = identity.weights
    what = f"{identity.config.name}: the tokenizer in {weights.folder} can't be loaded"
    with library_errors(lambda why: WeightsError(f"{what} ({why})")), quiet():
        folder, source = weights.folder, LOCAL
        if weights.is_static:
            from transformers import PreTrainedTokenizerFast

            return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
        if weights.gguf_file is not None:
            kept = unpacked(weights, identity.fingerprint, identity.dtype)
            folder, source = (folder, {**LOCAL, "gguf_file": weights.gguf_file}) if kept is None else (kept, LOCAL)
        return _tokenizer(folder, source)


def _tokenizer(folder: Path, source: Mapping[str, Any] = LOCAL) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    if not (folder / "tokenizer.json").is_file() and any(folder.glob("*.model")):
        # transformers would ask for tiktoken, which does not help.
        require(f"{folder.name}: a SentencePiece tokenizer", "llama", "sentencepiece", "google.protobuf")
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, **source)
    return tokenizer


def _load_files(identity: EncoderIdentity) -> tuple["PreTrainedTokenizerBase", "PreTrainedModel", dict[str, Any]]:
    """Tokenizer, model and loading report."""
    from transformers import AutoConfig, AutoModel

    config, weights = identity.config, identity.weights
    folder: Path | None = weights.folder
    if weights.gguf_file is not None:
        folder = unpacked(weights, identity.fingerprint, identity.dtype)
        if folder is None and config.quantization != "none":
            raise UsageError(
                f"{config.name}: a GGUF file of this size is unpacked to 16 bits when it is loaded; "
                "for `quantization` int8 give the model's safetensors"
            )
        if folder is None:
            _, tokenizer, model, info = load_packed(weights, identity.dtype)
            return tokenizer, model, info
    model_config = AutoConfig.from_pretrained(folder, **LOCAL)
    check_claims(weights, model_config)
    options: dict[str, Any] = {"dtype": getattr(torch, identity.dtype), "use_safetensors": True}
    if config.quantization == "int8":
        options["quantization_config"] = _int8(config)
    if config.pooling != "pooler" and model_config.model_type in WITHOUT_POOLER:
        options["add_pooling_layer"] = False
    assert folder is not None
    tokenizer = _tokenizer(folder)
    model, info = AutoModel.from_pretrained(folder, output_loading_info=True, **options, **LOCAL)
    return tokenizer, model, info


def _int8(config: EncoderConfig) -> Any:
    """Weights of linear layers are converted to 8 bits one tensor at a time; the 16-bit files are only
    memory-mapped.
    """
    require(f"{config.name}: `quantization` int8", "int8", "torchao")
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int8WeightOnlyConfig())


def _check_complete(identity: EncoderIdentity, model: "PreTrainedModel", info: dict[str, Any]) -> None:
    """Check that the files contain every weight: transformers initializes missing ones randomly."""
    config = identity.config
    missing = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if missing:
        advice = "; use another `pooling`" if all("pooler" in key for key in missing) else ""
        raise WeightsError(
            f"{config.name}: the files in {identity.weights.folder} lack {len(missing)} weights of the model, "
            f"such as {missing[0]}{advice}"
        )
    if config.pooling == "pooler" and getattr(model, "pooler", None) is None:
        raise UsageError(f"{config.name}: this model has no pooler; use `pooling` mean, first, last or tokens")


def _prepared(
    identity: EncoderIdentity,
    tokenizer: "PreTrainedTokenizerBase",
    model: "PreTrainedModel",
    device: torch.device,
    *,
    plain: bool,
) -> TransformerEncoder:
    """The encoder for a loaded model; its settings are checked."""
    config = identity.config
    model.eval().requires_grad_(False)
    model.config.use_cache = False
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    layers = _resolve_layers(config, model.config.num_hidden_layers)
    _check_max_length(config, model, tokenizer)
    model = model.to(device)
    projection = _projection(identity, layers, width := _width(identity, model, layers))
    width = width if projection is None else projection.width
    vectors = len(layers) * len(config.poolings)
    dense = _dense(identity, len(layers), vectors * width)
    if dense is not None:
        vectors, width = 1, dense(torch.zeros(1, vectors * width)).shape[1]
    pool_special, changed = config.pool_special_tokens, behaviour.changed_by_batches(model)
    if not plain and config.pooling != "pooler":
        packed.drop_layers(model, max(layers))
    return TransformerEncoder(
        identity=identity,
        model=model,
        tokenizer=tokenizer,
        device=device,
        layers=layers,
        shape=(vectors, width) if config.pooling == "tokens" or vectors > 1 else (width,),
        pool_special_tokens=tokenizer.cls_token is not None if pool_special is None else pool_special,
        # A GPU is faster with few large operations on padded batches than with one for each length.
        packed=not plain
        and device.type == "cpu"
        and config.pooling != "pooler"
        and packed.prepare(model, config.max_length),
        first_position=behaviour.first_position(model),
        pads=model.config.model_type in behaviour.PADS and not changed,
        projection=None if projection is None else projection.to(device),
        dense=None if dense is None else dense.to(device),
        lock=Lock() if changed else None,
    )


def _width(identity: EncoderIdentity, model: "PreTrainedModel", layers: tuple[int, ...]) -> int:
    """Width of the hidden states; if the model is not well known, measured on a text of a few tokens."""
    if packed.is_known(model) and identity.config.quantization == "none":
        return int(model.config.hidden_size)
    what, dtype = f"{identity.config.name}: the model in {identity.weights.folder} can't be run", identity.dtype

    def explain(why: str) -> FecError:
        if dtype != "float32":
            try:
                behaviour.widths(model.float(), layers)
            except Exception:  # whatever is wrong, it is not the precision
                return WeightsError(f"{what} ({why})")
            return WeightsError(f"{what} in {dtype} ({why}); set `dtype` to float32")
        return WeightsError(f"{what} ({why})")

    with library_errors(explain):
        widths = behaviour.widths(model, layers)
    if len(set(widths)) > 1:
        named = ", ".join(f"{layer}: {width}" for layer, width in zip(layers, widths, strict=True))
        raise UsageError(
            f"{identity.config.name}: `layers` of different widths ({named}) can't be combined into one "
            f"feature; give one of them, or layers up to {layers[-1] - 1}"
        )
    return widths[0]


def _dense(identity: EncoderIdentity, layers: int, width: int) -> torch.nn.Sequential | None:
    """The dense layers of a sentence-transformers model, if requested."""
    config = identity.config
    if not config.dense:
        return None
    if layers > 1 or config.projection is not None or {"tokens", "pooler"} & {*config.poolings}:
        raise UsageError(
            f"{config.name}: dense layers read one layer, pooled, without projection; set `dense` to false"
        )
    return load_dense(identity.weights.folder, width)


def _projection(identity: EncoderIdentity, layers: tuple[int, ...], width: int) -> Projection | None:
    """The encoder's projection, if it has one; it must have been fitted on these files and layers."""
    config = identity.config
    if config.projection is None:
        return None
    path = user_path(config.projection)
    projection = load_projection(path)
    fitted_on = {"fingerprint": identity.fingerprint, "layers": list(layers)}
    if projection.fitted_on != fitted_on or projection.mean.shape != (len(layers), width):
        raise UsageError(
            f"{config.name}: the projection {path.name} was fitted on another model or other layers; "
            "fit one with `fec project` and the same encoder"
        )
    if config.pooling == "pooler":
        raise UsageError(f"{config.name}: a pooler's output can't be projected; use another `pooling`")
    return projection


def _resolve_layers(config: EncoderConfig, n_layers: int) -> tuple[int, ...]:
    """Positive indices of the hidden states, in the order given."""
    states = n_layers + 1
    if config.layers is None:
        return thirds(n_layers) if config.pooling == "tokens" else (n_layers,)
    for layer in config.layers:
        if not -states <= layer < states:
            raise UsageError(
                f"{config.name}: `layers`: no layer {layer}; the model has {n_layers}, so use {-states} to {n_layers}"
            )
    if config.pooling == "pooler" and config.layers != (-1,):
        raise UsageError(f"{config.name}: `pooling` pooler reads the last layer only; leave out `layers`")
    resolved = tuple(layer % states for layer in config.layers)
    if len(set(resolved)) < len(resolved):
        raise UsageError(f"{config.name}: `layers` {config.layers} contain a duplicate")
    return resolved


def thirds(n_layers: int) -> tuple[int, ...]:
    """Hidden states at a third, at two thirds and at the end of a model; fewer for a model of one or two layers."""
    return tuple(sorted({max(1, round(n_layers / 3)), max(1, round(2 * n_layers / 3)), n_layers}))


def _check_max_length(config: EncoderConfig, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    limit = min(tokenizer.model_max_length, behaviour.max_tokens(model) or tokenizer.model_max_length)
    if config.max_length > limit:
        raise UsageError(
            f"{config.name}: `max_length` {config.max_length} exceeds the model's limit of {limit} tokens; "
            f"use `max_length` {limit} or less"
        )
