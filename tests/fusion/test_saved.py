"""Heads in a folder: read as they were written, whatever strangers made of the file."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from fusion_classifier.config import HEAD_CONFIGS, FusionConfig, HeadConfig, LinearConfig, LlmEmbedConfig
from fusion_classifier.errors import FecError, UsageError
from fusion_classifier.features.arrays import FeatureShape
from fusion_classifier.fusion.head import Batch, Head
from fusion_classifier.fusion.registry import HEADS, build_head, register_head
from fusion_classifier.fusion.saved import load_head, save_head

SHAPES = {"a": FeatureShape((2, 6), ragged=False), "b": FeatureShape((4,), ragged=False)}
BATCH = {"a": torch.arange(36.0).reshape(3, 2, 6), "b": torch.ones(3, 4)}


class Tied(nn.Module):
    """The same weights twice."""

    def __init__(self, shapes: Mapping[str, FeatureShape], n_classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(shapes["b"].width, n_classes)
        self.second = nn.Linear(shapes["b"].width, n_classes)
        self.second.weight = self.first.weight

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self.first(batch["b"]) + self.second(batch["b"])  # type: ignore[no-any-return]


class MineConfig(HeadConfig):
    name: Literal["mine"] = "mine"


@pytest.fixture
def registered() -> Iterator[None]:
    @register_head(MineConfig)
    class Mine(Head):
        def __init__(self, config: MineConfig, shapes: Mapping[str, FeatureShape], n_classes: int) -> None:
            super().__init__(config, shapes, n_classes)
            self.layer = nn.Linear(self.pooled_width, n_classes)

        def forward(self, batch: Batch) -> Tensor:
            return self.layer(self.transform(batch))  # type: ignore[no-any-return]

    yield
    del HEAD_CONFIGS["mine"], HEADS[MineConfig]


@pytest.mark.parametrize("head", [FusionConfig(width=16), "linear", LlmEmbedConfig(width=16), "mine", Tied])
@pytest.mark.usefixtures("registered")
def test_a_head_comes_back(head: Any, tmp_path: Path) -> None:
    built = build_head(head, SHAPES, 3).eval()
    save_head(built, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    again = load_head(built.config, SHAPES, 3, tmp_path, given=head if head is Tied else None)
    assert not again.training
    assert torch.equal(again(BATCH), built(BATCH))


def test_a_module_is_asked_for(tmp_path: Path) -> None:
    built = build_head(Tied, SHAPES, 3)
    save_head(built, tmp_path)
    with pytest.raises(UsageError, match=r"test_saved\.Tied.*from_pretrained\(.*head=Tied\)"):
        load_head(built.config, SHAPES, 3, tmp_path)
    with pytest.raises(FecError, match=r"model\.safetensors.*does not fit"):
        load_head(built.config, SHAPES, 3, tmp_path, given=nn.Linear(4, 3))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    save_head(build_head("linear", SHAPES, 3), tmp_path)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    for cut in (0, 7, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(FecError, match=r"model\.safetensors"):
            load_head(LinearConfig(), SHAPES, 3, tmp_path)
    path.unlink()
    with pytest.raises(FecError, match=r"model\.safetensors"):
        load_head(LinearConfig(), SHAPES, 3, tmp_path)


@pytest.mark.parametrize(
    ("config", "shapes", "n_classes"),
    [
        (LinearConfig(), SHAPES, 4),
        (LinearConfig(), {"a": SHAPES["a"]}, 3),
        (FusionConfig(width=8), SHAPES, 3),
        (FusionConfig(width=10**9), SHAPES, 3),  # claims more memory than there is
        (LlmEmbedConfig(width=2**62), SHAPES, 3),
        (LinearConfig(), {"a": FeatureShape((10**12,), ragged=False)}, 3),
    ],
)
def test_another_head_than_that_of_the_file_is_refused(
    config: HeadConfig, shapes: Mapping[str, FeatureShape], n_classes: int, tmp_path: Path
) -> None:
    save_head(build_head("linear", SHAPES, 3), tmp_path)
    with pytest.raises(FecError, match=r"model\.safetensors.*configuration"):
        load_head(config, shapes, n_classes, tmp_path)


def test_nan_in_the_weights_is_named(tmp_path: Path) -> None:
    head = build_head("linear", SHAPES, 3)
    with torch.no_grad():
        head.output_bias[1] = torch.nan  # type: ignore[index]
    save_head(head, tmp_path)
    with pytest.raises(FecError, match=r"NaN.*linear\.bias"):
        load_head(LinearConfig(), SHAPES, 3, tmp_path)
