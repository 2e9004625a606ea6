"""Head `ensemble`: the weighted sum of its members, whatever they are."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusion_classifier.config import EnsembleConfig, FusionConfig, LinearConfig, LlmEmbedConfig, UpperLayersConfig
from fusion_classifier.errors import FecError
from fusion_classifier.features.arrays import FeatureShape, TokenStates
from fusion_classifier.fusion.ensemble import REPEATS, EnsembleHead, with_repeats
from fusion_classifier.fusion.head import Batch
from fusion_classifier.fusion.linear import LinearHead
from fusion_classifier.fusion.registry import build_head
from fusion_classifier.fusion.saved import load_head, save_head

SHAPES = {"a": FeatureShape((3, 8), ragged=True), "b": FeatureShape((2, 6), ragged=True)}
SMALL = EnsembleConfig(attention=FusionConfig(width=16), repeats=2)
LABELS = 4


def batch(seed: int = 0) -> Batch:
    """Five texts of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([3, 1, 4, 2, 6])
    return {
        name: TokenStates(torch.randn(int(lengths.sum()), *shape.shape, generator=generator), lengths)
        for name, shape in SHAPES.items()
    }


def random_head(config: EnsembleConfig = SMALL) -> EnsembleHead:
    """A head in which no weight is 0."""
    torch.manual_seed(0)
    head = build_head(config, SHAPES, LABELS).eval()
    assert isinstance(head, EnsembleHead)
    with torch.no_grad():
        for tensor in head.parameters():
            tensor.normal_()
        head.mixture.copy_(torch.rand(len(head.mixture)))
    return head


@torch.no_grad()
def test_its_members_are_linear_and_attention_by_encoder() -> None:
    head = random_head()
    assert head.members == ["linear last", "linear all", "linear a", "linear b", "attention a", "attention b"]
    parts = head.parts(batch())
    assert parts.shape == (6, 5, LABELS)
    for part, member in zip(parts[:4], head.linear.values(), strict=True):
        torch.testing.assert_close(part, member(batch()))
    by_seed = [one.parts(batch()) for one in head.attention]  # type: ignore[operator]
    assert not torch.allclose(by_seed[0], by_seed[1])
    torch.testing.assert_close(parts[4:], (by_seed[0] + by_seed[1]) / 2)


@torch.no_grad()
def test_a_linear_member_reads_its_encoder_alone() -> None:
    head = random_head()
    before = head.parts(batch())
    after = head.parts({**batch(), "b": batch(1)["b"]})
    changed = [not torch.equal(*pair) for pair in zip(before, after, strict=True)]
    assert changed == [True, True, False, True, False, True]


@torch.no_grad()
def test_logits_are_the_weighted_sum_of_the_members() -> None:
    head = random_head()
    expected = sum(a * part for a, part in zip(head.mixture, head.parts(batch()), strict=True))
    torch.testing.assert_close(head(batch()), expected)
    head.mixture.copy_(torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(head(batch()), head.linear["all"](batch()))


def test_single_layers_are_one_linear_member() -> None:
    shapes = {"a": FeatureShape((8,), ragged=False)}
    head = build_head(SMALL, shapes, LABELS)
    assert isinstance(head, EnsembleHead)
    assert head.members == ["linear all", "attention a"]
    assert head.parts({"a": torch.randn(3, 8)}).shape == (2, 3, LABELS)


def test_co_occurrence_is_a_member() -> None:
    head = random_head(EnsembleConfig(attention=FusionConfig(width=16, cooccurrence=4), repeats=1))
    assert head.members[4:] == ["attention a", "attention b", "co-occurrence"]
    assert head.parts(batch()).shape == (7, 5, LABELS)


UPPER = UpperLayersConfig(encoder="b", layers=2, heads=3, inner_width=12, norm_epsilon=1e-5)


@torch.no_grad()
def test_upper_layers_are_a_member(tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"upper": UPPER})
    head = random_head(config)
    assert head.members[-1] == "upper layers b"
    assert head.upper is not None
    parts = head.parts(batch())
    assert parts.shape == (7, 5, LABELS)
    torch.testing.assert_close(parts[-1], head.upper(batch()))
    changed = head.parts({**batch(), "a": batch(1)["a"]})
    assert torch.equal(changed[-1], parts[-1])
    save_head(head, tmp_path)
    again = load_head(EnsembleConfig.model_validate(config.model_dump()), SHAPES, LABELS, tmp_path)
    assert torch.equal(again(batch()), head(batch()))


@pytest.mark.parametrize("wrong", [{"encoder": "c"}, {"heads": 4}, {"inner_width": 13}, {"layers": 3}])
def test_upper_layers_that_do_not_fit_are_refused(wrong: dict[str, object], tmp_path: Path) -> None:
    save_head(random_head(SMALL.model_copy(update={"upper": UPPER})), tmp_path)
    config = SMALL.model_copy(update={"upper": UPPER.model_copy(update=wrong)})
    with pytest.raises(FecError, match=r"model\.safetensors"):
        load_head(config, SHAPES, LABELS, tmp_path)


def test_the_prior_turns_to_upper_layers_with_the_rows() -> None:
    with_them = EnsembleHead(SMALL.model_copy(update={"upper": UPPER}), SHAPES, LABELS)
    without = EnsembleHead(SMALL, SHAPES, LABELS)
    for rows, trusted in ((16, 0.5), (48, 0.75), (10**6, 1.0)):
        prior = with_them.prior(rows)
        assert float(prior[-1]) == pytest.approx(trusted, abs=1e-4)
        torch.testing.assert_close(prior[:-1], (1 - trusted / 4) * without.prior(rows), atol=1e-4, rtol=0)


@given(st.integers(1, 10**6))
def test_the_prior_turns_to_attention_with_the_rows(rows: int) -> None:
    head = EnsembleHead(SMALL, SHAPES, LABELS)
    prior = head.prior(rows)
    assert (prior >= 0).all()
    assert float(head.prior(1)[:4].sum()) == pytest.approx(1, abs=0.02)
    assert float(head.prior(1)[4:].sum()) < 0.02
    more = head.prior(2 * rows)
    assert (more[4:] >= prior[4:]).all()
    assert (more[:4] <= prior[:4]).all()
    assert len(set(prior[:4].tolist())) == len(set(prior[4:].tolist())) == 1
    assert head.prior(10**6)[:4].sum() > 0.4  # linear members keep a say


def test_few_rows_are_worth_repeats() -> None:
    small = EnsembleConfig()
    for rows, repeats in ((1, REPEATS), (5000, REPEATS), (5001, 1)):
        found = with_repeats(small, rows)
        assert isinstance(found, EnsembleConfig)
        assert found.repeats == repeats
        assert len(EnsembleHead(found, SHAPES, LABELS).attention) == repeats
    assert with_repeats(SMALL, 10**6) is SMALL
    for other in (LinearConfig(), LlmEmbedConfig()):
        assert with_repeats(other, 10) is other


@torch.no_grad()
def test_saved_and_loaded_it_gives_the_same_bits(tmp_path: Path) -> None:
    head = random_head()
    save_head(head, tmp_path)
    loaded = load_head(SMALL, SHAPES, LABELS, tmp_path)
    assert isinstance(loaded, EnsembleHead)
    assert torch.equal(loaded(batch()), head(batch()))
    assert torch.equal(loaded.mixture, head.mixture)
    with pytest.raises(FecError, match="does not fit"):
        load_head(SMALL.model_copy(update={"repeats": 3}), SHAPES, LABELS, tmp_path)


@torch.no_grad()
def test_a_text_has_the_same_answer_in_any_batch() -> None:
    head, together = random_head(), random_head()(batch())
    start = 0
    for row, length in enumerate([3, 1, 4, 2, 6]):
        alone = {n: TokenStates(x.states[start : start + length], torch.tensor([length])) for n, x in batch().items()}  # type: ignore[union-attr]
        torch.testing.assert_close(head(alone)[0], together[row], atol=1e-5, rtol=1e-5)
        start += length


@torch.no_grad()
def test_its_transform_is_pooled_and_attentive() -> None:
    head = random_head()
    found = head.transform(batch())
    assert found.shape == (5, 3 * 8 + 2 * 6 + 2 * 16)
    torch.testing.assert_close(found[:, :36], head.linear["all"].transform(batch()))  # type: ignore[operator]
    torch.testing.assert_close(found[:, 36:], head.attention[0].transform(batch()))  # type: ignore[operator]


@torch.no_grad()
def test_columns_of_a_member_are_its_features() -> None:
    head = random_head()
    of_all = head.linear["all"].transform(batch())  # type: ignore[operator]
    for member in head.linear.values():
        assert isinstance(member, LinearHead)
        assert torch.equal(of_all[:, head.columns_of(member)], member.transform(batch()))
