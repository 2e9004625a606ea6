"""Plain torch modules as heads: classes, functions and instances."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fusion_classifier.config import ModuleConfig
from fusion_classifier.errors import UsageError
from fusion_classifier.features.arrays import FeatureShape, PooledFeatures, TokenFeatures, TokenStates
from fusion_classifier.fusion.module import ModuleHead
from fusion_classifier.fusion.registry import build_head, head_config
from fusion_classifier.support.progress import QUIET
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.inference import predict_logits
from fusion_classifier.training.result import TrainingResult
from fusion_classifier.training.train import train

CPU = torch.device("cpu")
SHAPES = {"a": FeatureShape((4,), ragged=False)}


class Net(nn.Module):
    """Made from shapes and labels, for pooled features."""

    def __init__(self, shapes: Mapping[str, FeatureShape], n_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(sum(shape.layers * shape.width for shape in shapes.values()), n_classes)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self.layer(torch.cat([x.float().flatten(1) for x in batch.values()], 1))  # type: ignore[no-any-return]


class OnTokens(nn.Module):
    """Reads token states."""

    reads = "tokens"

    def __init__(self, shapes: Mapping[str, FeatureShape], n_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(next(iter(shapes.values())).width, n_classes)

    def forward(self, batch: Mapping[str, TokenStates]) -> Tensor:
        return self.layer(next(iter(batch.values())).mean().squeeze(1))  # type: ignore[no-any-return]


def deep(shapes: Mapping[str, FeatureShape], n_classes: int) -> nn.Module:
    return nn.Sequential(Net(shapes, 8), nn.ReLU(), nn.Linear(8, n_classes))


def data(rows: int, seed: int, *, ragged: bool = False) -> LabelledFeatures:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, rows)
    lengths = generator.integers(1, 4, rows) if ragged else np.ones(rows, dtype=np.int64)
    values = np.repeat(np.eye(4)[labels], lengths, axis=0) + 0.3 * generator.standard_normal((lengths.sum(), 4))
    values = values.astype(np.float16)
    if ragged:
        return LabelledFeatures({"a": TokenFeatures(values[:, None], np.append(0, lengths.cumsum()))}, labels)
    return LabelledFeatures({"a": PooledFeatures(values)}, labels)


def fit(head: Any, *, seed: int = 0, ragged: bool = False) -> TrainingResult:
    config = recipe("default", "module", max_epochs=30, learning_rate=3e-2)
    return train(head, config, data(150, 0, ragged=ragged), data(60, 1, ragged=ragged), 3, seed, CPU, QUIET)


@pytest.mark.parametrize(
    "head", [Net, deep, Net(SHAPES, 3), OnTokens], ids=["class", "function", "instance", "tokens"]
)
def test_it_learns_and_a_seed_gives_the_same_bits(head: Any) -> None:
    ragged = head is OnTokens
    trained, again = fit(head, ragged=ragged), fit(head, ragged=ragged)
    assert trained.best.valid_accuracy > 0.8
    for name, tensor in trained.head.state_dict().items():
        assert torch.equal(tensor, again.head.state_dict()[name])
    assert isinstance(trained.head, ModuleHead)
    assert predict_logits(trained.head, data(5, 2, ragged=ragged).features, 5, CPU).shape == (5, 3)


def test_an_instance_is_copied_and_its_weights_are_the_start() -> None:
    given = Net(SHAPES, 3)
    before = given.layer.weight.clone()
    fit(given)
    assert torch.equal(given.layer.weight, before)
    built = build_head(given, SHAPES, 3)
    assert torch.equal(built.module.layer.weight, before)  # type: ignore[union-attr, arg-type]


def test_its_configuration_says_what_it_is_and_reads() -> None:
    assert head_config(Net) == head_config(Net(SHAPES, 3)) == ModuleConfig(class_path=f"{__name__}.Net")
    assert head_config(deep).model_dump()["class_path"] == f"{__name__}.deep"
    assert head_config(Net).reads == "pooled"
    assert head_config(OnTokens).reads == "tokens"


class Wrong(Net):
    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return super().forward(batch)[:, 0]


class NoTensor(Net):
    def forward(self, _: Mapping[str, Tensor]) -> Tensor:
        return [1.0]  # type: ignore[return-value]


class Reads(Net):
    reads = "pictures"


@pytest.mark.parametrize(
    ("head", "named"),
    [
        (Wrong, r"Wrong.*\(64, 3\).*\(64,\)"),
        (NoTensor, r"NoTensor.*\(64, 3\).*list"),
        (Net(SHAPES, 5), r"Net.*\(64, 3\).*\(64, 5\)"),
        (lambda *_: 3, "lambda.*int"),
        (lambda *_: nn.Flatten(), "lambda.*no parameters"),
        (Reads, "`reads`.*tokens, pooled.*pictures"),
    ],
)
def test_a_module_that_does_not_fit_is_named(head: Any, named: str) -> None:
    with pytest.raises(UsageError, match=rf"`head`.*{named}"):
        fit(head)
