"""Encoders that are Python objects: what is accepted, and what they may return."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from fusion_classifier.encoders.protocol import (
    Encoder,
    FunctionEncoder,
    PrecomputedEncoder,
    SentenceTransformerEncoder,
    as_encoder,
    encode_checked,
)
from fusion_classifier.errors import DataError, FecError, NonFiniteError, UsageError

TEXTS = ["one", "two", "three"]


def lengths(texts: Sequence[str]) -> np.ndarray:
    return np.array([[len(text), 1.0] for text in texts])


class Own:
    """An encoder of a third party, which knows nothing of this package."""

    name, version = "own", "7"

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return lengths(texts)


class Embedder:
    """A callable with a name and a version."""

    name, version = "embedder", "2"

    def __call__(self, texts: list[str]) -> np.ndarray:
        return lengths(texts)


@pytest.mark.parametrize("given", [Own(), Embedder(), FunctionEncoder(lengths, "f", "1")])
def test_what_turns_texts_into_arrays_is_an_encoder(given: Any) -> None:
    encoder = as_encoder(given)
    assert isinstance(encoder, Encoder)
    assert (encoder.name, encoder.version) == (given.name, given.version)
    features = encode_checked(encoder, TEXTS)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, lengths(TEXTS))


@pytest.mark.parametrize("given", [3, None, object(), {"name": "a"}])
def test_what_does_not_is_refused_with_what_may_be_given(given: object) -> None:
    with pytest.raises(UsageError, match=r"is not an encoder: .*`version`"):
        as_encoder(given)


@pytest.mark.parametrize(
    ("name", "version", "lacks"), [("", "1", "name"), ("a", " ", "version"), ("a", 1, "version")]
)
def test_a_missing_name_or_version_is_explained(name: str, version: Any, lacks: str) -> None:
    with pytest.raises(UsageError, match=f"needs a {lacks} .*stored by name and version"):
        FunctionEncoder(lengths, name, version)


def test_a_bare_function_lacks_a_name() -> None:
    with pytest.raises(UsageError, match=r"needs a name .*FunctionEncoder"):
        as_encoder(lengths)


@pytest.mark.parametrize(
    "returned",
    [
        lambda texts: [[1, 2]] * len(texts),
        lambda texts: sparse.csr_array(np.array([[1, 2]] * len(texts))),
        lambda texts: np.array([[1, 2]] * len(texts), dtype=np.float16),
    ],
)
def test_lists_and_sparse_matrices_are_arrays_too(returned: Callable[[list[str]], Any]) -> None:
    np.testing.assert_array_equal(encode_checked(FunctionEncoder(returned, "f", "1"), TEXTS), [[1, 2]] * 3)


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (np.ones(3), DataError, r"\(3,\) for 3 texts; it must be \(3, H\)"),
        (np.ones((2, 4)), DataError, r"\(2, 4\) for 3 texts"),
        (np.ones((3, 1, 1, 1)), DataError, r"\(3, 1, 1, 1\)"),
        (np.ones((3, 0)), DataError, r"\(3, 0\)"),
        (np.array([["a"]] * 3), DataError, "array of numbers"),
        (None, DataError, "array of numbers"),
        (np.array([[1.0] * 4, [np.nan] * 4, [np.inf] * 4]), NonFiniteError, "'two'"),
        (np.full((3, 4), 1e300), NonFiniteError, "'one'"),
        (np.ones((3, 2)), DataError, r"\(2,\), but \(4,\) before; .*change its version"),
    ],
)
def test_what_can_be_no_features_is_refused(returned: Any, error: type[FecError], message: str) -> None:
    encoder = FunctionEncoder(lambda _: returned, "mine", "1")
    with pytest.raises(error, match=f"^mine: .*{message}"):
        encode_checked(encoder, TEXTS, (4,))


def test_an_encoder_that_fails_is_named() -> None:
    def fail(_: list[str]) -> None:
        raise KeyError("key")

    with pytest.raises(FecError, match=r"^mine: .*KeyError: 'key'"):
        encode_checked(FunctionEncoder(fail, "mine", "1"), TEXTS)


def test_precomputed_features_belong_to_their_texts() -> None:
    features = np.random.default_rng(0).normal(size=(3, 2, 4))
    encoder = PrecomputedEncoder(TEXTS, features)
    np.testing.assert_array_equal(encoder.encode(["three", "one", "three"]), features[[2, 0, 2]])
    with pytest.raises(DataError, match=r"`X\[1\]`: encoder precomputed .*'four'"):
        encoder.check(["one", "four"], "X")
    with pytest.raises(DataError, match=r"`texts\[0\]`"):
        encoder.encode(["four"])


def test_precomputed_features_have_the_version_of_their_content() -> None:
    features = np.arange(6.0).reshape(3, 2)
    version = PrecomputedEncoder(TEXTS, features).version
    assert PrecomputedEncoder(list(TEXTS), features.copy(order="F"), "other").version == version
    assert PrecomputedEncoder(["one", "two", "four"], features).version != version
    assert PrecomputedEncoder(TEXTS, features + 1e-9).version != version
    assert PrecomputedEncoder(TEXTS, features.reshape(3, 1, 2)).version != version


def test_precomputed_features_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="3 texts, but 2 rows"):
        PrecomputedEncoder(TEXTS, np.ones((2, 4)))
    with pytest.raises(DataError, match=r"`texts\[2\]` is the same as `texts\[0\]`"):
        PrecomputedEncoder(["a", "b", "a"], np.arange(3.0)[:, None])
    assert PrecomputedEncoder(["a", "b", "a"], np.ones((3, 1))).encode(["a"]).tolist() == [[1]]


def sentence_transformer(seed: int = 0) -> Any:
    """A stand-in with the interface of a SentenceTransformer: torch modules, `encode`, `prompts`."""
    torch = pytest.importorskip("torch")

    class Letters(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(128, 6, dtype=torch.bfloat16)

    class SentenceTransformer(torch.nn.Sequential):  # type: ignore[misc,name-defined]
        prompts: dict[str, str]
        default_prompt_name = None

        def encode(self, texts: list[str], *, show_progress_bar: bool = True) -> np.ndarray:
            assert not show_progress_bar
            with torch.no_grad():
                rows = [self[0].embedding(torch.tensor([ord(c) % 128 for c in text])).mean(0) for text in texts]
            result: np.ndarray = torch.stack(rows).float().numpy()
            return result

    torch.manual_seed(seed)
    model = SentenceTransformer(Letters())
    model.prompts = {}
    return model


def test_a_sentence_transformer_is_known_by_its_weights() -> None:
    import torch

    model = sentence_transformer()
    encoder = as_encoder(model)
    assert isinstance(encoder, SentenceTransformerEncoder)
    assert encoder.name == "sentence-transformer"
    assert SentenceTransformerEncoder(model, "mine").name == "mine"
    np.testing.assert_array_equal(encode_checked(encoder, TEXTS), model.encode(TEXTS, show_progress_bar=False))
    version = encoder.version
    assert as_encoder(sentence_transformer()).version == version
    assert as_encoder(sentence_transformer(1)).version != version
    model.prompts = {"query": "query: "}
    assert encoder.version != version
    model.prompts = {}
    assert encoder.version == version
    with torch.no_grad():
        model[0].embedding.weight[3, 3] += 1
    assert encoder.version != version, "it was trained further"
