"""The heads in which encoders meet, on a random batch, and the driver's word numbers and summary."""

import importlib
from argparse import ArgumentTypeError
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from fusion_classifier.config import FusionConfig
from fusion_classifier.features.arrays import FeatureShape, TokenStates

KINDS = ("seq", "each", "word", "wordsum", "labels", "labelattn", "mlp")
SHAPES = {"a": FeatureShape((2, 6), ragged=True), "b": FeatureShape((1, 5), ragged=True)}
LABELS = 4


@pytest.fixture
def heads(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks" / "accuracy")
    return importlib.import_module("meeting_heads")


def batch_of(words: str) -> dict[str, TokenStates]:
    """Three texts of one to three words, with two tokens a word in `b`."""
    torch.manual_seed(0)
    counts = torch.tensor([3, 1, 2])
    batch: dict[str, TokenStates] = {}
    for name, times in (("a", 1), ("b", 2)):
        numbers = torch.cat([torch.arange(n).repeat_interleave(times) for n in counts])
        batch[name] = TokenStates(torch.randn(len(numbers), *SHAPES[name].shape), counts * times)
        batch[name + words] = TokenStates(numbers[:, None, None], counts * times)
    return batch


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("own", [True, False])
def test_the_joint_part_trains_every_encoder(heads: ModuleType, kind: str, own: bool) -> None:
    config = FusionConfig(width=16, word_dropout=0.0)
    head = heads.HEADS[kind](config, SHAPES, LABELS, heads.Joint(own=own, depth=2, heads=2))
    batch = batch_of(heads.WORDS)
    head.fit_statistics([batch])
    own_terms, (share, joint) = head.objectives(batch)[:-1], head.objectives(batch)[-1]
    assert [logits.shape for _, logits in own_terms] == [(3, LABELS)] * 2
    assert sum(weight for weight, _ in own_terms) + share == pytest.approx(1)
    torch.nn.functional.cross_entropy(joint, torch.tensor([0, 1, 2])).backward()  # type: ignore[no-untyped-call]
    for pool in head.joint_pooling:
        gradient = pool.project.weight.grad
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0
    assert head.eval()(batch).isfinite().all()


@pytest.mark.parametrize(("kind", "meets"), [("seq", True), ("each", False)])
def test_only_where_encoders_meet_one_changes_anothers_gradient(heads: ModuleType, kind: str, meets: bool) -> None:
    head = heads.HEADS[kind](FusionConfig(width=16), SHAPES, LABELS, heads.Joint(heads=2)).eval()

    def gradient(scale: float) -> torch.Tensor:
        batch = batch_of(heads.WORDS)
        states = batch["a"].states.requires_grad_()
        batch["b"].states.mul_(scale)
        logit = head.parts(batch)[-1, 0, 0]  # of the joint part
        return torch.autograd.grad(logit, states)[0]

    changed = not torch.allclose(gradient(1.0), gradient(-1.0), rtol=1e-2, atol=1e-6)
    assert changed is meets


def test_variants_and_the_table(heads: ModuleType) -> None:
    meeting = importlib.import_module("meeting")
    parsed = meeting.parse("kind=seq,own=0,lr=1e-3,width=512,aug=1,enc=a+b")
    assert parsed["joint"] == {"own": 0}
    assert parsed["training"] == {"learning_rate": 1e-3}
    assert parsed["config"] == {"width": 512}
    assert parsed["other"] == {"kind": "seq", "aug": 1, "enc": "a+b"}
    for wrong, why in (("kind=sequence", "unknown kind 'sequence'"), ("lr=fast", "fast"), ("foo=1", "foo")):
        with pytest.raises(ArgumentTypeError, match=why):
            meeting.checked(wrong)
    rows = [
        {"task": "ED", "variant": variant, "seed": seed, "accuracy": accuracy}
        for variant, of in (("base", (60.0, 61.0, 62.0)), ("kind=seq", (61.0, 61.5, 63.5)))
        for seed, accuracy in enumerate(of)
    ]
    assert "| ED | `kind=seq` | 3 | 62.00 ± 1.32 | +1.00, p = 0.07 |" in meeting.summary(rows)
    parts = torch.zeros(2, 20, 2)
    parts[0, torch.arange(20), torch.arange(20) % 2] = 1.0
    assert meeting.cross_fitted(parts, np.arange(20) % 2) == 100.0
