"""The published head: its size, and its forward pass against an independent computation in NumPy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fusion_classifier.config import LlmEmbedConfig
from fusion_classifier.features.arrays import FeatureShape, TokenStates
from fusion_classifier.fusion.head import count_parameters
from fusion_classifier.fusion.registry import build_head

PUBLISHED = {
    "llama2-7b-chat": FeatureShape((5, 4096), ragged=False),
    "bert-large": FeatureShape((1024,), ragged=False),
    "roberta-large": FeatureShape((1024,), ragged=False),
}


def random_batch(shapes: dict[str, FeatureShape], rows: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(rows, *shape.shape, generator=generator) * 0.3 for name, shape in shapes.items()}


def test_the_published_trio_has_the_published_parameters() -> None:
    assert count_parameters(build_head(LlmEmbedConfig(), PUBLISHED, 32)) == 25_492_768


def published_by_hand(state: dict[str, np.ndarray], batch: dict[str, np.ndarray]) -> np.ndarray:
    """The formula for the trio, written out."""

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return np.asarray(x @ state[f"{name}.weight"].T + state[f"{name}.bias"])

    llama, bert, roberta = batch["llama2-7b-chat"], batch["bert-large"], batch["roberta-large"]
    compressed = [np.maximum(linear(f"compress.{i}.0", llama[:, i]), 0) for i in range(5)]
    X = np.stack([*compressed, bert, roberta], axis=1)
    products = np.einsum("bnd,bmd->bnm", X, X).reshape(len(X), 49)
    normalized = 2 / (1 + np.exp(-products)) - 1
    hidden = np.concatenate([normalized, llama.mean(1)], axis=1)
    assert hidden.shape[1] == 4145
    hidden = np.maximum(linear("classifier.0", hidden), 0)
    hidden = np.maximum(linear("classifier.3", hidden), 0)
    return linear("classifier.6", hidden)


def test_the_forward_pass_is_the_published_formula() -> None:
    torch.manual_seed(0)
    head = build_head(LlmEmbedConfig(), PUBLISHED, 32).eval()
    batch = random_batch(PUBLISHED, 3)
    state = {name: tensor.double().numpy() for name, tensor in head.state_dict().items()}
    expected = published_by_hand(state, {name: tensor.double().numpy() for name, tensor in batch.items()})
    with torch.no_grad():
        np.testing.assert_allclose(head(batch).numpy(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("shapes", "vectors", "residual"),
    [
        ({"a": (3, 20), "b": (2, 30), "c": (16,), "d": (9,)}, 7, 50),
        ({"a": (12,), "b": (16,)}, 2, 12),
        ({"b": (16,), "a": (4, 8)}, 5, 8),
        ({"a": (7,)}, 1, 7),
    ],
)
def test_any_set_of_encoders_is_fused_alike(shapes: dict[str, tuple[int, ...]], vectors: int, residual: int) -> None:
    described = {name: FeatureShape(shape, ragged=False) for name, shape in shapes.items()}
    head = build_head(LlmEmbedConfig(width=16), described, 5)
    assert head.get_submodule("classifier.0").in_features == vectors**2 + residual
    assert head(random_batch(described, 4)).shape == (4, 5)


def test_only_unequal_widths_get_a_projection() -> None:
    shapes = {name: FeatureShape(shape, ragged=False) for name, shape in {"a": (2, 8), "b": (16,), "c": (9,)}.items()}
    head = build_head(LlmEmbedConfig(width=16), shapes, 3)
    assert [type(module).__name__ for module in head.get_submodule("project").children()] == ["Identity", "Linear"]


def test_token_states_come_in_by_their_mean() -> None:
    torch.manual_seed(0)
    pooled = {"a": FeatureShape((2, 8), ragged=False)}
    head = build_head(LlmEmbedConfig(width=4), pooled, 3).eval()
    states = torch.randn(10, 2, 8)  # of two texts, with 6 and 4 tokens
    by_hand = torch.stack([states[:6].mean(0), states[6:].mean(0)])
    torch.testing.assert_close(head({"a": TokenStates(states, torch.tensor([6, 4]))}), head({"a": by_hand}))


def test_dropout_acts_in_training_only() -> None:
    shapes = {"a": FeatureShape((2, 8), ragged=False)}
    head, batch = build_head(LlmEmbedConfig(width=64), shapes, 3), random_batch(shapes, 2)
    assert not torch.equal(head(batch), head(batch))
    head.eval()
    assert torch.equal(head(batch), head(batch))


def by_hand(
    state: dict[str, np.ndarray],
    batch: dict[str, np.ndarray],
    width: int,
    sigma: float,
) -> np.ndarray:
    """The module's docstring for any set of encoders, one text at a time."""

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return np.asarray(state[f"{name}.weight"] @ x + state[f"{name}.bias"])

    layered = [name for name, values in batch.items() if values.ndim == 3] or [next(iter(batch))]
    logits = []
    for row in range(len(next(iter(batch.values())))):
        stack: list[np.ndarray] = []
        means = []
        for name in layered:
            states = np.atleast_2d(batch[name][row])
            for vector in states:
                stack.append(np.maximum(linear(f"compress.{len(stack)}.0", vector), 0))
            means.append(states.mean(0))
        for i, name in enumerate(name for name in batch if name not in layered):
            vector = batch[name][row]
            stack.append(vector if len(vector) == width else linear(f"project.{i}", vector))
        c = np.array([[np.tanh(sigma * (a @ b) / 2) for b in stack] for a in stack])
        hidden = np.concatenate([c.ravel(), *means])
        for name in ("classifier.0", "classifier.3"):
            hidden = np.maximum(linear(name, hidden), 0)
        logits.append(linear("classifier.6", hidden))
    return np.stack(logits)


@pytest.mark.parametrize(
    "shapes",
    [
        {"a": (3, 20), "b": (2, 30)},  # two layered encoders
        {"a": (3, 20), "b": (16,), "c": (2, 16), "d": (9,)},  # and single ones between, of d's width and not
        {"a": (12,), "b": (16,), "c": (5,)},  # single ones only: the first has the LLM's role
        {"a": (16,), "b": (16,)},
        {"a": (7,)},
        {"b": (9,), "a": (4, 8)},
    ],
)
@pytest.mark.parametrize("sigma", [1.0, 0.25])
def test_the_forward_pass_of_any_set_of_encoders_is_the_formula(
    shapes: dict[str, tuple[int, ...]], sigma: float
) -> None:
    described = {name: FeatureShape(shape, ragged=False) for name, shape in shapes.items()}
    torch.manual_seed(0)
    head = build_head(LlmEmbedConfig(width=16, sigma=sigma), described, 5).eval()
    batch = random_batch(described, 4)
    state = {name: tensor.double().numpy() for name, tensor in head.state_dict().items()}
    arrays = {name: tensor.double().numpy() for name, tensor in batch.items()}
    with torch.no_grad():
        found = head(batch).numpy()
    np.testing.assert_allclose(found, by_hand(state, arrays, 16, sigma), rtol=1e-4, atol=1e-5)
    assert np.ptp(found, axis=0).max() > 1e-3  # texts differ
