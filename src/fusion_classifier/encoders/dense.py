"""Dense layers that some models of sentence-transformers apply to the pooled vector."""
# ruff: noqa: PLC0415 - torch takes seconds to import, and finding an encoder does not need it

import json
from pathlib import Path
from typing import TYPE_CHECKING

from fusion_classifier.encoders.sentence_settings import ACTIVATIONS, dense_places
from fusion_classifier.errors import WeightsError

if TYPE_CHECKING:
    from torch import nn


def dense_files(folder: Path) -> list[tuple[Path, Path]]:
    """Configuration and weights of each dense layer of a model folder."""
    places = dense_places(folder)
    if not places:
        raise WeightsError(f"{folder} has no dense layers; leave out `dense`")
    files = [(place / "config.json", place / "model.safetensors") for place in places]
    missing = next((path for pair in files for path in pair if not path.is_file()), None)
    if missing is not None:
        raise WeightsError(
            f"{missing}: no such file (pickled weights are not read because they can run code); give a `pooling`, "
            "which leaves out the dense layers"
        )
    return files


def load_dense(folder: Path, width: int) -> "nn.Sequential":
    """The dense layers of a model folder, float32, for vectors of this width."""
    from safetensors.torch import load_file
    from torch import nn

    layers: list[nn.Module] = []
    for settings, weights in dense_files(folder):
        config, state = json.loads(settings.read_text("utf-8")), load_file(weights)
        activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
        weight = state["linear.weight"].float()
        if weight.shape[1] != width or activation not in ACTIVATIONS:
            raise WeightsError(f"{weights}: a dense layer for vectors of width {weight.shape[1]}, not {width}")
        linear = nn.Linear(width, len(weight), bias="linear.bias" in state)
        linear.load_state_dict({name.removeprefix("linear."): tensor.float() for name, tensor in state.items()})
        layers += [linear, getattr(nn, activation)()]
        width = len(weight)
    return nn.Sequential(*layers).requires_grad_(False)
