"""Head `fusion`: checked against an independent computation in NumPy, text by text, without padding."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_classifier.config import FusionConfig
from fusion_classifier.features.arrays import FeatureShape, PooledFeatures, TokenFeatures
from fusion_classifier.fusion.fusion import MAX_LABEL_QUERIES, FusionHead
from fusion_classifier.fusion.registry import build_head, parse_head

SHAPES = {
    "small": FeatureShape((3, 8), ragged=True),
    "wide": FeatureShape((2, 12), ragged=True),
    "pooled": FeatureShape((10,), ragged=False),
}
LENGTHS = {"small": [4, 1, 7], "wide": [2, 5, 3]}
CONFIG = FusionConfig(width=16, cooccurrence=4)


def features(seed: int = 0, texts: int = 3) -> dict[str, TokenFeatures | PooledFeatures]:
    """Features of three texts, with states of very different scale."""
    rng = np.random.default_rng(seed)
    result: dict[str, TokenFeatures | PooledFeatures] = {}
    for name, shape in SHAPES.items():
        scale = np.exp(rng.normal(size=shape.shape) * 2)
        if shape.ragged:
            lengths = (LENGTHS[name] * texts)[:texts]
            offsets = np.concatenate([[0], np.cumsum(lengths)])
            values = rng.normal(size=(offsets[-1], *shape.shape)) * scale + scale
            result[name] = TokenFeatures(values.astype(np.float32), offsets)
        else:
            result[name] = PooledFeatures((rng.normal(size=(texts, *shape.shape)) * scale).astype(np.float32))
    return result


def fitted(config: FusionConfig = CONFIG, n_classes: int = 5, seed: int = 0) -> FusionHead:
    """A head with statistics and with weights everywhere, those that start at zero too."""
    torch.manual_seed(seed)
    head = build_head(config, SHAPES, n_classes)
    assert isinstance(head, FusionHead)
    sample = features(1, texts=30)
    head.fit_statistics([{name: values.batch(np.arange(30)) for name, values in sample.items()}])
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        head.mixture.copy_(torch.rand(len(head.mixture)))
    return head.eval()


def by_hand(head: FusionHead, text: dict[str, np.ndarray]) -> np.ndarray:
    """Logits of one text, each encoder's states (L, layers, H); the formulas of the docstrings."""
    state = {name: tensor.double().numpy() for name, tensor in head.state_dict().items()}
    pooled = []
    for number, states in enumerate(text.values()):
        p = f"pooling.{number}."
        x = states.reshape(len(states), -1).astype(np.float64)
        z = np.clip((x - state[p + "mean"]) / state[p + "std"], -8, 8)
        h = z @ state[p + "project.weight"].T + state[p + "project.bias"]
        h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5)
        h = h * state[p + "norm.weight"] + state[p + "norm.bias"]
        queries = state.get(p + "queries", np.zeros((5, h.shape[1])))  # one token needs none
        scores = h @ queries.T  # (L, C)
        weights = np.exp(scores - scores.max(0)) / np.exp(scores - scores.max(0)).sum(0)
        pooled.append(weights.T @ h)  # (C, d)
    logits = []
    for label in range(state["bias"].shape[1]):
        vectors = [one[label] for one in pooled]
        own = [v @ w[label] + b[label] for v, w, b in zip(vectors, state["weight"], state["bias"], strict=True)]
        logit = np.dot(state["mixture"][: len(own)], own)
        if "common" in state:
            common = [vector @ matrix for vector, matrix in zip(vectors, state["common"], strict=True)]
            cosines = []
            for part in range(4):
                cut = [vector.reshape(4, -1)[part] for vector in common]
                for i in range(len(cut)):
                    for j in range(i + 1, len(cut)):
                        cosines.append(cut[i] @ cut[j] / np.linalg.norm(cut[i]) / np.linalg.norm(cut[j]))
            r = np.array(cosines)
            logit += state["mixture"][-1] * (r / np.sqrt(np.abs(r) + 1e-3)) @ state["pair_weight"][label]
        logits.append(logit)
    return np.array(logits)


@pytest.mark.parametrize("cooccurrence", [0, 4])
def test_logits_are_those_of_the_formula(cooccurrence: int) -> None:
    head = fitted(CONFIG.model_copy(update={"cooccurrence": cooccurrence}))
    values = features()
    logits = head({name: one.batch(np.arange(3)) for name, one in values.items()}).detach().numpy()
    for row in range(3):
        text = {}
        for name, one in values.items():
            if isinstance(one, TokenFeatures):
                text[name] = one.values[one.offsets[row] : one.offsets[row + 1]]
            else:
                text[name] = one.values[row][None, None]
        np.testing.assert_allclose(logits[row], by_hand(head, text), atol=2e-4)


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(3)), count=st.integers(1, 3))
def test_a_text_s_logits_do_not_depend_on_its_neighbours(order: list[int], count: int) -> None:
    head, values = fitted(), features()
    together = head({name: one.batch(np.arange(3)) for name, one in values.items()})
    rows = np.array(order[:count])
    some = head({name: one.batch(rows) for name, one in values.items()})
    torch.testing.assert_close(some, together[rows], atol=1e-5, rtol=1e-4)


def test_a_pooled_feature_is_a_text_of_one_token() -> None:
    torch.manual_seed(0)
    tokens = build_head(CONFIG, {"a": FeatureShape((2, 8), ragged=True)}, 5).eval()
    pooled = build_head(CONFIG, {"a": FeatureShape((2, 8), ragged=False)}, 5).eval()
    pooled.load_state_dict(tokens.state_dict(), strict=False)
    values = np.random.default_rng(0).normal(size=(6, 2, 8)).astype(np.float32)
    one_each = TokenFeatures(values, np.arange(7))
    rows = np.arange(6)
    torch.testing.assert_close(tokens({"a": one_each.batch(rows)}), pooled({"a": PooledFeatures(values).batch(rows)}))


def test_a_single_encoder_has_no_cooccurrence_term() -> None:
    head = build_head(CONFIG, {"a": FeatureShape((8,), ragged=False)}, 5)
    assert not [name for name, _ in head.named_parameters() if name in ("common", "pair_weight")]


def test_many_labels_share_queries() -> None:
    n_classes = MAX_LABEL_QUERIES + 1
    head = build_head(CONFIG, SHAPES, n_classes).eval()
    logits = head({name: one.batch(np.arange(3)) for name, one in features().items()})
    assert logits.shape == (3, n_classes)
    assert torch.isfinite(logits).all()


def test_statistics_leave_out_massive_activations() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(3, 2, size=(2000, 1, 4)).astype(np.float32)
    values[7, 0, 1] = 50_000
    tokens = TokenFeatures(values, np.arange(0, 2001, 10))
    head = build_head(CONFIG, {"a": tokens.shape}, 2)
    head.fit_statistics([{"a": tokens.batch(np.arange(200))}])
    pooling = head.get_submodule("pooling.0")
    assert isinstance(pooling.std, torch.Tensor)
    assert isinstance(pooling.mean, torch.Tensor)
    np.testing.assert_allclose(np.delete(pooling.std.numpy(), 1), 2, atol=0.1)
    np.testing.assert_allclose(np.delete(pooling.mean.numpy(), 1), 3, atol=0.2)
    # Untreated, that one token would make the standard deviation over 1,000.
    assert pooling.std[1] < 3


def test_a_constant_state_is_only_centred() -> None:
    tokens = TokenFeatures(np.full((40, 1, 4), 5, dtype=np.float32), np.arange(0, 41, 4))
    head = build_head(CONFIG, {"a": tokens.shape}, 2).eval()
    head.fit_statistics([{"a": tokens.batch(np.arange(10))}])
    assert torch.isfinite(head({"a": tokens.batch(np.arange(10))})).all()


def test_dropout_acts_in_training_only_and_never_drops_all() -> None:
    heavy = CONFIG.model_copy(update={"word_dropout": 0.99})
    head = fitted(heavy)
    batch = {name: one.batch(np.arange(3)) for name, one in features().items()}
    assert torch.equal(head(batch), head(batch))
    head.train()
    for _ in range(20):
        assert torch.isfinite(head(batch)).all()
    assert not torch.equal(head(batch), head(batch))


@pytest.mark.parametrize("cooccurrence", [0, 4])
def test_logits_are_a_mixture_of_each_encoders_own(cooccurrence: int) -> None:
    head = fitted(CONFIG.model_copy(update={"cooccurrence": cooccurrence}))
    batch = {name: one.batch(np.arange(3)) for name, one in features().items()}
    objectives = head.objectives(batch)
    assert sum(share for share, _ in objectives) == pytest.approx(1)
    own = [logits for _, logits in objectives[: len(SHAPES)]]
    if cooccurrence:
        torch.testing.assert_close(objectives[-1][1], head(batch))
    else:
        torch.testing.assert_close((torch.stack(own) * head.mixture[:, None, None]).sum(0), head(batch))
        fresh = build_head(CONFIG.model_copy(update={"cooccurrence": 0}), SHAPES, 5).eval()
        torch.testing.assert_close(fresh.parts(batch).mean(0), fresh(batch))
    # Another text for one encoder changes that encoder's logits and no other's.
    other = features(seed=5)["wide"].batch(np.arange(3))
    changed = [logits for _, logits in head.objectives({**batch, "wide": other})]
    assert [torch.equal(a, b) for a, b in zip(own, changed, strict=False)] == [True, False, True]


@pytest.mark.parametrize("cooccurrence", [0, 4])
def test_every_parameter_learns(cooccurrence: int) -> None:
    head = fitted(FusionConfig(width=16, cooccurrence=cooccurrence)).train()
    objectives = head.objectives({name: one.batch(np.arange(3)) for name, one in features().items()})
    torch.stack([share * logits.square().sum() for share, logits in objectives]).sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_width_must_be_a_multiple_of_the_cooccurrence_heads() -> None:
    with pytest.raises(Exception, match=r"width.* 10 must be a multiple of .*cooccurrence.* 4"):
        parse_head("fusion", width=10, cooccurrence=4)
