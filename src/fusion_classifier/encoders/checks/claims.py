# ruff: noqa: PLC0415 - transformers is imported when a model is loaded
"""Checks the size claimed by a model's configuration before a model of that size is created.

transformers creates missing weights at the size that the configuration claims before they can be found to be missing:
a file of a kilobyte could use up all memory.
"""

from typing import Any

from fusion_classifier.encoders.weights import Weights
from fusion_classifier.errors import WeightsError

MAX_LAYERS = 1000
MAX_PARAMETERS_PER_BYTE = 8  # of one bit each


def check_claims(weights: Weights, model_config: Any) -> None:
    """Check a transformers configuration."""
    import torch
    from transformers import AutoModel

    place = weights.folder if weights.gguf_file is None else weights.folder / weights.gguf_file
    kind = model_config.model_type
    if model_config.is_encoder_decoder:
        raise WeightsError(f"{place}: encoder-decoder models ({kind}) are not supported")
    if not hasattr(model_config, "num_hidden_layers") or not hasattr(model_config, "hidden_size"):
        raise WeightsError(f"{place}: a {kind} model has no plain stack of text layers")
    layers = model_config.num_hidden_layers
    if not 0 < layers <= MAX_LAYERS:
        raise WeightsError(f"{place}: the configuration claims {layers} layers; up to {MAX_LAYERS} are supported")
    with torch.device("meta"):  # shapes only
        claimed = sum(parameter.numel() for parameter in AutoModel.from_config(model_config).parameters())
    held = sum(path.stat().st_size for path in weights.files())
    if claimed > MAX_PARAMETERS_PER_BYTE * held:
        raise WeightsError(
            f"{place}: the configuration claims {claimed:,} parameters, but the files have {held:,} bytes; "
            "they do not belong together"
        )
