# ruff: noqa: PLC0415 - transformers takes seconds to import
"""The upper layers of a small encoder: their description, and their weights, from which the head `ensemble` starts.

The encoder's token states (pooling `tokens`) begin at a third of its layers. The layers above are the ones copied.
"""

from dataclasses import replace

import torch
from torch import Tensor

from fusion_classifier.config import UpperLayersConfig
from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.encoders.loading import LOCAL, load_transformer, thirds
from fusion_classifier.encoders.quiet import quiet

MODEL_TYPES = ("bert", "camembert", "roberta", "xlm-roberta")  # models with the layers of fusion/upper_layers.py
MAX_PARAMETERS = 15_000_000  # of the upper layers: those of an encoder of width 384; wider ones take minutes on a CPU
# Parts of a layer: their names in fusion/upper_layers.py, and in transformers.
PARTS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attended": "attention.output.dense",
    "attended_norm": "attention.output.LayerNorm",
    "expanded": "intermediate.dense",
    "contracted": "output.dense",
    "contracted_norm": "output.LayerNorm",
}


def describe_upper_layers(identity: EncoderIdentity) -> UpperLayersConfig | None:
    """The upper layers of an encoder; None if they can't be trained on its states, or are too large."""
    config, weights = identity.config, identity.weights
    as_stored = (config.pooling, config.layers, config.projection, config.quantization, config.long)
    if (
        identity.is_object
        or identity.model_type not in MODEL_TYPES
        or as_stored != ("tokens", None, None, "none", "cut")
        or config.pool_special_tokens is False
    ):
        return None
    from transformers import AutoConfig

    with quiet():
        model = AutoConfig.from_pretrained(weights.folder, **LOCAL)
    if model.hidden_act != "gelu" or model.num_hidden_layers < 2:
        return None
    found = UpperLayersConfig(
        encoder=config.name,
        layers=model.num_hidden_layers - thirds(model.num_hidden_layers)[0],
        heads=model.num_attention_heads,
        inner_width=model.intermediate_size,
        norm_epsilon=model.layer_norm_eps,
    )
    width = model.hidden_size
    parameters = found.layers * (4 * width * width + 2 * width * found.inner_width)
    return found if parameters <= MAX_PARAMETERS else None


def load_upper_layers(identity: EncoderIdentity, upper: UpperLayersConfig) -> dict[str, Tensor]:
    """Weights of the upper layers, float32, by their names in fusion/upper_layers.py."""
    encoder = load_transformer(replace(identity, dtype="float32"), torch.device("cpu"), plain=True)
    layers = encoder.model.get_submodule("encoder.layer")[-upper.layers :]
    return {
        f"layers.{number}.{ours}.{name}": tensor.detach()
        for number, layer in enumerate(layers)
        for ours, theirs in PARTS.items()
        for name, tensor in layer.get_submodule(theirs).state_dict().items()
    }
