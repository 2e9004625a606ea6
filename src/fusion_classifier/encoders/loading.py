"""Loads a model and its tokenizer, checked: every weight that a feature needs comes from the files."""

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TorchAoConfig,
)
from transformers.utils import logging as transformers_logging

from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders import packed
from fusion_classifier.encoders.checks.claims import check_claims
from fusion_classifier.encoders.gguf import load_packed, unpacked
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.projection import Projection, load_projection
from fusion_classifier.errors import UsageError, WeightsError, said_of
from fusion_classifier.support.extras import require
from fusion_classifier.support.files import user_path


@dataclass(frozen=True)
class Encoder:
    """A frozen model in evaluation mode, ready to encode.

    `layers` are indices into the model's hidden states, 0 (embeddings) to the number of layers.
    `shape` is that of one text's feature; with pooling `tokens`, of one token's states (layers, H).
    `packed` says that the model runs over texts without padding.
    """

    identity: EncoderIdentity
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    layers: tuple[int, ...]
    shape: tuple[int, ...]
    pool_special_tokens: bool
    packed: bool = False
    projection: Projection | None = None

    @property
    def config(self) -> EncoderConfig:
        """The configuration it was loaded from."""
        return self.identity.config


def load_encoder(config: EncoderConfig, device: torch.device, *, plain: bool = False) -> Encoder:
    """Find, check and load an encoder; see `load_identified`.

    Raises:
        WeightsError: the files can't be found, read, or lack weights that the feature needs.
        UsageError: a setting that this model can't have.
    """
    return load_identified(identify(config, device), device, plain=plain)


def load_identified(identity: EncoderIdentity, device: torch.device, *, plain: bool = False) -> Encoder:
    """Load an encoder whose files are already found.

    Args:
        identity: what to load.
        device: where to.
        plain: leave the model as transformers made it, to be called with padded batches.

    Raises:
        WeightsError: the files can't be read, or lack weights that the feature needs.
        UsageError: a setting that this model can't have.
    """
    what = f"{identity.config.name}: the model in {identity.weights.folder} can't be loaded"
    with said_of(lambda why: WeightsError(f"{what} ({why})")):
        return _loaded(identity, device, plain=plain)


def _loaded(identity: EncoderIdentity, device: torch.device, *, plain: bool) -> Encoder:
    config, weights = identity.config, identity.weights
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    with contextlib.redirect_stderr(io.StringIO()):  # the GGUF reader draws a progress bar of its own
        tokenizer, model, info = _load(identity)
    # transformers fills what the files lack with random numbers; a feature from those means nothing.
    missing = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if missing:
        advice = "; use another pooling" if all("pooler" in key for key in missing) else ""
        raise WeightsError(
            f"{config.name}: the files in {weights.folder} lack {len(missing)} weights of the model, "
            f"such as {missing[0]}{advice}"
        )
    if config.pooling == "pooler" and getattr(model, "pooler", None) is None:
        raise UsageError(f"{config.name}: this model has no pooler; use mean, first, last or tokens")
    model.eval().requires_grad_(False)
    model.config.use_cache = False
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    layers = _resolve_layers(config, model.config.num_hidden_layers)
    _check_max_length(config, model, tokenizer)
    projection = _projection(identity, layers, model.config.hidden_size)
    width = model.config.hidden_size if projection is None else projection.width
    vectors = len(layers) * len(config.poolings)
    ragged_or_many = config.pooling == "tokens" or vectors > 1
    pool_special = config.pool_special_tokens
    return Encoder(
        identity=identity,
        model=model.to(device),
        tokenizer=tokenizer,
        device=device,
        layers=layers,
        shape=(vectors, width) if ragged_or_many else (width,),
        pool_special_tokens=tokenizer.cls_token is not None if pool_special is None else pool_special,
        # A GPU would rather have few large operations on padded batches than one for each length.
        packed=not plain
        and device.type == "cpu"
        and config.pooling != "pooler"
        and packed.prepare(model, config.max_length),
        projection=None if projection is None else projection.to(device),
    )


def _load(identity: EncoderIdentity) -> tuple[PreTrainedTokenizerBase, PreTrainedModel, dict[str, Any]]:
    """Tokenizer, model and loading report."""
    weights = identity.weights
    folder: Path | None = weights.folder
    if weights.gguf_file is not None:
        folder = unpacked(weights, identity.fingerprint, identity.dtype)
        if folder is None and identity.config.quantization != "none":
            raise UsageError(
                f"{identity.config.name}: a GGUF file of this size is unpacked to 16 bits as it is loaded; "
                "for quantization int8 take the model's safetensors"
            )
        if folder is None:
            _, tokenizer, model, info = load_packed(weights, identity.dtype)
            return tokenizer, model, info
    source: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    model_config = AutoConfig.from_pretrained(folder, **source)
    check_claims(weights, model_config)
    options: dict[str, Any] = {"dtype": identity.dtype, "output_loading_info": True, "use_safetensors": True}
    if identity.config.quantization == "int8":
        options["quantization_config"] = _int8(identity.config)
    if identity.config.pooling != "pooler" and model_config.model_type in WITHOUT_POOLER:
        options["add_pooling_layer"] = False
    tokenizer = AutoTokenizer.from_pretrained(folder, **source)
    model, info = AutoModel.from_pretrained(folder, **options, **source)
    return tokenizer, model, info


def _int8(config: EncoderConfig) -> TorchAoConfig:
    """Weights of linear layers become 8 bits tensor by tensor; the files' 16 bits are mapped, not kept, but count as
    resident until the system wants their pages back.

    Raises:
        UsageError: torchao is not installed.
    """
    require(f"{config.name}: quantization int8", "int8", "torchao")
    from torchao.quantization import Int8WeightOnlyConfig  # noqa: PLC0415 - an extra

    return TorchAoConfig(Int8WeightOnlyConfig())


# Model types whose pooler can be left out, so that its absence from the files does not matter.
WITHOUT_POOLER = ("bert", "roberta", "xlm-roberta", "camembert", "mpnet")
# Model types that count positions from the padding index on.
POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")


def _projection(identity: EncoderIdentity, layers: tuple[int, ...], width: int) -> Projection | None:
    """The encoder's projection, if it has one, and it is one of this model's files and layers."""
    config = identity.config
    if config.projection is None:
        return None
    path = user_path(config.projection)
    projection = load_projection(path)
    fitted_on = {"fingerprint": identity.fingerprint, "layers": list(layers)}
    if projection.fitted_on != fitted_on or projection.mean.shape != (len(layers), width):
        raise UsageError(
            f"{config.name}: the projection {path.name} was fitted on another model or other layers; "
            "fit one with fec project and the same encoder"
        )
    if config.pooling == "pooler":
        raise UsageError(f"{config.name}: the pooler's output is no state; use another pooling with a projection")
    return projection


def _resolve_layers(config: EncoderConfig, n_layers: int) -> tuple[int, ...]:
    """Positive indices of the hidden states, in the order given."""
    states = n_layers + 1
    if config.layers is None:
        return thirds(n_layers) if config.pooling == "tokens" else (n_layers,)
    for layer in config.layers:
        if not -states <= layer < states:
            raise UsageError(
                f"{config.name}: no layer {layer}; the model has {n_layers} layers, so {-states} to {n_layers}"
            )
    if config.pooling == "pooler" and config.layers != (-1,):
        raise UsageError(f"{config.name}: pooling pooler reads the last layer only; leave out --layers")
    resolved = tuple(layer % states for layer in config.layers)
    if len(set(resolved)) < len(resolved):
        raise UsageError(f"{config.name}: layers {config.layers} name one layer twice")
    return resolved


def thirds(n_layers: int) -> tuple[int, ...]:
    """The hidden states at a third, at two thirds and at the end of a model; fewer of a model of one or two."""
    return tuple(sorted({max(1, round(n_layers / 3)), max(1, round(2 * n_layers / 3)), n_layers}))


def _check_max_length(config: EncoderConfig, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    limits = [tokenizer.model_max_length]
    if hasattr(model.config, "max_position_embeddings"):
        used_up = model.config.pad_token_id + 1 if model.config.model_type in POSITIONS_AFTER_PADDING else 0
        limits.append(model.config.max_position_embeddings - used_up)
    if config.max_length > min(limits):
        raise UsageError(
            f"{config.name}: max length {config.max_length} is over the model's {min(limits)} tokens; "
            f"use --max-length {min(limits)} or less"
        )
