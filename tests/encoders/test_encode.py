"""Features of small random models of the true classes against plain transformers: one text at a time, no padding."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer, LlamaModel, PreTrainedModel, PreTrainedTokenizerBase

from fusion_classifier.encoders import Encoder, encode, load_encoder, parse_encoder
from fusion_classifier.encoders.encode import batches, tokenize
from fusion_classifier.errors import NonFiniteError, UsageError

CPU = torch.device("cpu")
TEXTS = [
    "a",
    "I can't believe it!",
    "what a day, what a day: we won",
    "the rain in spain stays mainly in the plain (so they say) and nobody minds",
    "??",
    "Why?",
]
KINDS = ("llama", "bert", "roberta")


@pytest.fixture(scope="session")
def folders(llama_folder: Path, bert_folder: Path, roberta_folder: Path) -> dict[str, Path]:
    return {"llama": llama_folder, "bert": bert_folder, "roberta": roberta_folder}


def load(folder: Path | str, settings: str = "") -> Encoder:
    return load_encoder(parse_encoder(f"{folder}?dtype=float32{settings}"), CPU)


def plainly(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, layers: list[int], pooling: str
) -> np.ndarray:
    """The feature of one text by hand; for a decoder the start token is left out of `mean` and `tokens`."""
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    with torch.no_grad():
        output = model(input_ids=ids, output_hidden_states=True)
    if pooling == "pooler":
        result: np.ndarray = output.pooler_output[0].numpy()
        return result
    states = np.stack([output.hidden_states[layer][0].numpy() for layer in layers], axis=1)  # (L, layers, H)
    own = states[1:] if isinstance(model, LlamaModel) and tokenizer.bos_token_id == ids[0, 0] else states
    if pooling == "tokens":
        return own
    pooled: np.ndarray = {"mean": own.mean(0), "first": states[0], "last": states[-1]}[pooling]
    return pooled if len(layers) > 1 else pooled.reshape(-1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["mean", "first", "last", "tokens", "pooler"])
@pytest.mark.parametrize("layers", [[-1], [-3, -1], [0, 2, 1]])
def test_features_equal_an_independent_computation(
    folders: dict[str, Path], kind: str, pooling: str, layers: list[int]
) -> None:
    if pooling == "pooler" and (kind == "llama" or layers != [-1]):
        pytest.skip("Llama has no pooler, and a pooler reads the last layer")
    encoder = load(folders[kind], f"&pooling={pooling}&layers={','.join(map(str, layers))}")
    model, tokenizer = AutoModel.from_pretrained(folders[kind]).eval(), AutoTokenizer.from_pretrained(folders[kind])
    for text, feature in zip(TEXTS, encode(encoder, TEXTS), strict=True):
        expected = plainly(model, tokenizer, text, layers, pooling)
        assert feature.dtype == np.float32
        assert feature.shape == expected.shape
        assert feature.shape[-len(encoder.shape) :] == encoder.shape
        np.testing.assert_allclose(feature, expected, atol=2e-5)


def test_a_decoders_start_token_is_pooled_only_on_request(folders: dict[str, Path]) -> None:
    without = encode(load(folders["llama"], "&pooling=tokens"), ["abc"])[0]
    with_it = encode(load(folders["llama"], "&pooling=tokens&pool_special_tokens=true"), ["abc"])[0]
    assert (len(without), len(with_it)) == (3, 4)
    np.testing.assert_allclose(with_it[1:], without, atol=1e-6)


def test_a_cls_model_pools_its_special_tokens_unless_told_otherwise(folders: dict[str, Path]) -> None:
    assert len(encode(load(folders["bert"], "&pooling=tokens"), ["abc"])[0]) == 5
    assert len(encode(load(folders["bert"], "&pooling=tokens&pool_special_tokens=false"), ["abc"])[0]) == 3


@pytest.fixture(scope="session")
def encoder_of(folders: dict[str, Path]) -> Callable[[str], Encoder]:
    loaded = {kind: load(folders[kind], "&layers=-2,-1") for kind in KINDS}
    return loaded.__getitem__


@given(st.sampled_from(KINDS), st.lists(st.sampled_from(TEXTS), min_size=1, max_size=9))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_feature_does_not_depend_on_the_batch(
    encoder_of: Callable[[str], Encoder], kind: str, texts: list[str]
) -> None:
    encoder = encoder_of(kind)
    together = encode(encoder, texts)
    for text, feature in zip(texts, together, strict=True):
        np.testing.assert_allclose(feature, encode(encoder, [text])[0], atol=2e-5)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80), st.integers(8, 200))
def test_batches_hold_every_text_once_within_the_budget(lengths: list[int], budget: int) -> None:
    from fusion_classifier.encoders.encode import TokenizedText

    tokenized = [TokenizedText((i,) * n, (True,) * n, truncated=False) for i, n in enumerate(lengths)]
    planned = batches(tokenized, budget)
    assert sorted(i for batch in planned for i in batch) == list(range(len(lengths)))
    for batch in planned:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget


def test_llama_in_bfloat16_is_finite_where_float16_is_not(folders: dict[str, Path], tmp_path: Path) -> None:
    """As Llama-2: states beyond 65,504 in the middle layers."""
    model = AutoModel.from_pretrained(folders["llama"])
    with torch.no_grad():
        model.layers[1].mlp.down_proj.weight.mul_(1e6)
    model.save_pretrained(tmp_path / "large")
    AutoTokenizer.from_pretrained(folders["llama"]).save_pretrained(tmp_path / "large")
    spec = f"{tmp_path / 'large'}?layers=-3,-1"
    precise = encode(load_encoder(parse_encoder(spec + "&dtype=float32"), CPU), TEXTS)
    assert max(np.abs(feature).max() for feature in precise) > 65_504
    brief = encode(load_encoder(parse_encoder(spec + "&dtype=bfloat16"), CPU), TEXTS)
    for a, b in zip(precise, brief, strict=True):
        assert np.isfinite(b).all()
        assert (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()) > 0.99
    with pytest.raises(NonFiniteError, match="--dtype float32"):
        encode(load_encoder(parse_encoder(spec + "&dtype=float16"), CPU), TEXTS)


def test_a_long_text_loses_its_end_and_is_counted(folders: dict[str, Path]) -> None:
    encoder = load(folders["bert"], "&max_length=10")
    long, short = tokenize(encoder, ["abcdefghijklmnop", "abc"])
    assert (len(long), long.truncated) == (10, True)
    assert (len(short), short.truncated) == (5, False)
    assert long.ids == tokenize(encoder, ["abcdefgh"])[0].ids


def test_a_template_stays_whole_when_the_text_is_cut(folders: dict[str, Path]) -> None:
    encoder = load(folders["llama"], "&max_length=12&template=x {text} - ")
    (cut,) = tokenize(encoder, ["abcdefghijklmnop"])
    decoded = "".join(encoder.tokenizer.convert_ids_to_tokens(list(cut.ids)))
    assert decoded == "<s>x abcdef - "
    assert len(cut) == 12
    with pytest.raises(UsageError, match="template alone"):
        tokenize(load(folders["llama"], "&max_length=5&template=much too long {text}"), ["abcdefghijkl"])


def test_a_template_is_put_around_the_text(folders: dict[str, Path]) -> None:
    prompted = encode(load(folders["llama"], "&pooling=last&template=so {text}?"), ["it is"])[0]
    np.testing.assert_allclose(prompted, encode(load(folders["llama"], "&pooling=last"), ["so it is?"])[0], atol=1e-6)


@given(st.text(min_size=1, max_size=40).filter(str.strip))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_has_a_finite_feature(encoder_of: Callable[[str], Encoder], text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert np.isfinite(encode(encoder_of("bert"), [text])[0]).all()


@pytest.mark.parametrize("preset", ["minilm", "smollm2"])
def test_real_weights_agree_with_plain_transformers(preset: str, request: pytest.FixtureRequest) -> None:
    encoder = load_encoder(parse_encoder(request.getfixturevalue(preset) + "?dtype=float32"), CPU)
    layers = [layer - encoder.model.config.num_hidden_layers - 1 for layer in encoder.layers]
    for text, feature in zip(TEXTS, encode(encoder, TEXTS), strict=True):
        expected = plainly(encoder.model, encoder.tokenizer, text, layers, "mean")
        np.testing.assert_allclose(feature, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_real_weights_know_what_belongs_together(minilm: str) -> None:
    texts = ["I am so happy today", "Today I feel full of joy", "The train leaves at nine from platform two"]
    happy, joyful, train = encode(load_encoder(parse_encoder(minilm), CPU), texts)

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))

    assert cosine(happy, joyful) > cosine(happy, train) + 0.2


def test_shuffled_input_gives_shuffled_output(encoder_of: Callable[[str], Encoder]) -> None:
    order = random.Random(0).sample(range(len(TEXTS)), len(TEXTS))
    straight = encode(encoder_of("roberta"), TEXTS)
    for i, feature in zip(order, encode(encoder_of("roberta"), [TEXTS[i] for i in order]), strict=True):
        np.testing.assert_allclose(feature, straight[i], atol=2e-5)
