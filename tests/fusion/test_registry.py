"""Heads by name, by configuration, and heads of other packages."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import pytest
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from fusion_classifier.config import HEAD_CONFIGS, AnyHeadConfig, FeatureKind, FusionConfig, HeadConfig, LinearConfig
from fusion_classifier.errors import UsageError
from fusion_classifier.features.arrays import FeatureShape
from fusion_classifier.fusion.head import Batch, Head
from fusion_classifier.fusion.registry import HEADS, build_head, head_config, head_names, parse_head, register_head

SHAPES = {"a": FeatureShape((2, 6), ragged=False), "b": FeatureShape((4,), ragged=False)}
BATCH = {"a": torch.arange(36.0).reshape(3, 2, 6), "b": torch.ones(3, 4)}


class Holder(BaseModel):
    """As a run's or a model's configuration holds a head's."""

    model_config = ConfigDict(extra="forbid")
    head: AnyHeadConfig


class MineConfig(HeadConfig):
    reads: ClassVar[FeatureKind] = "tokens"
    name: Literal["mine"] = "mine"
    width: int = 3


class Mine(Head):
    """Only what is required."""

    def __init__(self, config: MineConfig, shapes: Mapping[str, FeatureShape], n_classes: int) -> None:
        super().__init__(config, shapes, n_classes)
        self.layer = nn.Linear(self.pooled_width, n_classes)

    def forward(self, batch: Batch) -> Tensor:
        return self.layer(self.transform(batch))  # type: ignore[no-any-return]


@pytest.fixture
def mine() -> Iterator[None]:
    register_head(MineConfig)(Mine)
    yield
    del HEAD_CONFIGS["mine"], HEADS[MineConfig]


@pytest.mark.parametrize("name", ["fusion", "linear", "llmembed"])
def test_a_configuration_comes_back_from_json(name: str) -> None:
    config = parse_head(name)
    described = Holder(head=config).model_dump(mode="json")
    assert described == {"head": config.model_dump(mode="json")}, "as it always was: no field more"
    assert Holder.model_validate(described).head == config
    assert type(build_head(config, SHAPES, 3)) is HEADS[type(config)]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"name": "warp"}, ["head", "'warp'", "fusion, linear, llmembed"]),
        ({"name": "warp", "defined_in": "stars.heads"}, ["'warp'", "import stars.heads"]),
        ({"width": 64}, ["None"]),
        ({"name": "fusion", "width": 1}, ["head.width", "8"]),
        ({"name": "linear", "width": 64}, ["head.width"]),
        ("fusion", ["head"]),
    ],
)
def test_a_wrong_configuration_is_named(given: object, named: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        Holder.model_validate({"head": given})
    assert all(part in str(caught.value) for part in named)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: parse_head("warp"), "'warp'.*fusion, linear, llmembed"),
        (lambda: parse_head("scikit-learn"), "scikit-learn"),
        (lambda: parse_head("linear", sigma=1.0), "`sigma`.*linear"),
        (lambda: parse_head("fusion", width=1), "`width`.*8"),
        (lambda: head_config(3), "`head`.*3"),
        (lambda: head_config(Mine), "Mine.*@register_head"),
        (lambda: build_head(MineConfig(), SHAPES, 3), "MineConfig.*@register_head"),
    ],
)
def test_a_head_that_there_is_not_is_named(call: Any, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        call()


@pytest.mark.usefixtures("mine")
def test_a_registered_head_is_known_by_name_and_in_files() -> None:
    assert "mine" in head_names()
    config = parse_head("mine", width=5)
    assert config.reads == "tokens"
    described = Holder(head=config).model_dump(mode="json")
    assert described["head"] == {"name": "mine", "width": 5, "defined_in": Mine.__module__}
    assert Holder.model_validate(described).head == config
    for given in ("mine", config, MineConfig(), Mine):
        assert isinstance(build_head(given, SHAPES, 4), Mine)


@pytest.mark.usefixtures("mine")
def test_a_head_needs_forward_only() -> None:
    head = build_head("mine", SHAPES, 4)
    before = head(BATCH)
    head.start_at(torch.arange(4.0))  # without an output bias nothing happens
    assert torch.equal(head(BATCH), before)
    assert head.output_bias is None
    assert torch.equal(head.parts(BATCH)[0], before)


def test_a_head_object_is_copied() -> None:
    given = build_head("linear", SHAPES, 3)
    copy = build_head(given, SHAPES, 3)
    assert copy is not given
    with torch.no_grad():
        copy.output_bias.add_(1)  # type: ignore[union-attr]
    assert not torch.equal(copy(BATCH), given(BATCH))
    assert head_config(given) == LinearConfig()


def test_names_of_other_heads_and_no_name_are_refused() -> None:
    class NoName(HeadConfig):
        pass

    class Thief(HeadConfig):
        name: Literal["fusion"] = "fusion"

    with pytest.raises(UsageError, match=r"NoName.*`name`"):
        register_head(NoName)
    with pytest.raises(UsageError, match=r"Thief.*'fusion'.*FusionConfig"):
        register_head(Thief)
    register_head(MineConfig)(Mine)
    register_head(MineConfig)(Mine)  # a cell that was run twice
    del HEAD_CONFIGS["mine"], HEADS[MineConfig]


@pytest.mark.parametrize("name", ["linear", "mine"])
@pytest.mark.usefixtures("mine")
def test_pooled_features_are_unit_vectors_side_by_side(name: str) -> None:
    head = build_head(name, SHAPES, 3)
    found = head.transform(BATCH)
    assert found.shape == (3, 16)
    for part in (found[:, :6], found[:, 6:12], found[:, 12:]):
        torch.testing.assert_close(part.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(found[:, 12:], torch.full((3, 4), 0.5))


def test_the_transform_of_fusion_and_llmembed() -> None:
    fusion = build_head(FusionConfig(width=8), SHAPES, 3).eval()
    assert fusion.transform(BATCH).shape == (3, 2 * 8)
    torch.testing.assert_close(fusion.transform(BATCH)[:, :8], fusion.pooling[0](BATCH["a"]).mean(1))  # type: ignore
    llmembed = build_head("llmembed", SHAPES, 3).eval()
    found = llmembed.transform(BATCH)
    assert found.shape == (3, 256)
    torch.testing.assert_close(llmembed.classifier[-1](found), llmembed(BATCH))  # type: ignore[index,operator]
