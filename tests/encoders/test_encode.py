"""Features of small random models of the true classes against plain transformers: one text at a time, no padding."""

import random
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer, LlamaModel, PreTrainedModel, PreTrainedTokenizerBase

from fusion_classifier.encoders.batches import Job
from fusion_classifier.encoders.encode import encode, encode_batch, encode_jobs
from fusion_classifier.encoders.loading import TransformerEncoder, load_encoder
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.encoders.tokenization import tokenize
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


def load(folder: Path | str, settings: str = "") -> TransformerEncoder:
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
        np.testing.assert_allclose(feature, expected, atol=1e-5)


def test_a_decoders_start_token_is_pooled_only_on_request(folders: dict[str, Path]) -> None:
    without = encode(load(folders["llama"], "&pooling=tokens"), ["abc"])[0]
    with_it = encode(load(folders["llama"], "&pooling=tokens&pool_special_tokens=true"), ["abc"])[0]
    assert (len(without), len(with_it)) == (3, 4)
    np.testing.assert_allclose(with_it[1:], without, atol=1e-6)


def test_a_cls_model_pools_its_special_tokens(folders: dict[str, Path]) -> None:
    assert len(encode(load(folders["bert"], "&pooling=tokens"), ["abc"])[0]) == 5
    assert len(encode(load(folders["bert"], "&pooling=tokens&pool_special_tokens=false"), ["abc"])[0]) == 3


@given(st.sampled_from(KINDS), st.lists(st.sampled_from(TEXTS), min_size=1, max_size=9))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_feature_does_not_depend_on_the_batch(
    encoder_of: Callable[[str], TransformerEncoder], kind: str, texts: list[str]
) -> None:
    encoder = encoder_of(kind)
    together = encode(encoder, texts)
    for text, feature in zip(texts, together, strict=True):
        np.testing.assert_allclose(feature, encode(encoder, [text])[0], atol=1e-5)


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
    with pytest.raises(NonFiniteError, match="`dtype` to float32"):
        encode(load_encoder(parse_encoder(spec + "&dtype=float16"), CPU), TEXTS)


def test_a_template_is_put_around_the_text(folders: dict[str, Path]) -> None:
    prompted = encode(load(folders["llama"], "&pooling=last&template=so {text}?"), ["it is"])[0]
    np.testing.assert_allclose(prompted, encode(load(folders["llama"], "&pooling=last"), ["so it is?"])[0], atol=1e-6)


@given(st.text(min_size=1, max_size=40).filter(str.strip))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_has_a_finite_feature(encoder_of: Callable[[str], TransformerEncoder], text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert np.isfinite(encode(encoder_of("bert"), [text])[0]).all()


@pytest.mark.parametrize("preset", ["minilm", pytest.param("smollm2", marks=pytest.mark.slow)])
def test_real_weights_agree_with_plain_transformers(preset: str, request: pytest.FixtureRequest) -> None:
    config = parse_encoder(request.getfixturevalue(preset) + "?dtype=float32")
    encoder, plain = load_encoder(config, CPU), load_encoder(config, CPU, plain=True).model
    layers = [layer - plain.config.num_hidden_layers - 1 for layer in encoder.layers]
    for text, feature in zip(TEXTS, encode(encoder, TEXTS), strict=True):
        expected = plainly(plain, encoder.tokenizer, text, layers, "mean")
        np.testing.assert_allclose(feature, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_real_weights_know_what_belongs_together(minilm: str) -> None:
    texts = ["I am so happy today", "Today I feel full of joy", "The train leaves at nine from platform two"]
    happy, joyful, train = encode(load_encoder(parse_encoder(minilm), CPU), texts)

    def cosine(a: np.ndarray, b: np.ndarray) -> float:
        return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))

    assert cosine(happy, joyful) > cosine(happy, train) + 0.2


def test_shuffled_input_gives_shuffled_output(encoder_of: Callable[[str], TransformerEncoder]) -> None:
    order = random.Random(0).sample(range(len(TEXTS)), len(TEXTS))
    straight = encode(encoder_of("roberta"), TEXTS)
    for i, feature in zip(order, encode(encoder_of("roberta"), [TEXTS[i] for i in order]), strict=True):
        np.testing.assert_allclose(feature, straight[i], atol=1e-5)


POOLINGS = ("mean", "first", "last", "tokens")


@pytest.fixture(scope="session")
def encoder_with(folders: dict[str, Path]) -> Callable[[str, str], TransformerEncoder]:
    loaded = {(kind, how): load(folders[kind], f"&pooling={how}&layers=1,-1") for kind in KINDS for how in POOLINGS}
    return lambda kind, how: loaded[kind, how]


@given(
    st.sampled_from(KINDS),
    st.sampled_from(POOLINGS),
    st.text("abcXYZ ,!", min_size=1, max_size=30),
    st.lists(st.text("abcXYZ ,!", min_size=1, max_size=60), max_size=5),
)
@settings(max_examples=50, deadline=None)
def test_neighbours_in_the_batch_do_not_matter(
    encoder_with: Callable[[str, str], TransformerEncoder], kind: str, how: str, text: str, neighbours: list[str]
) -> None:
    encoder = encoder_with(kind, how)
    (alone,) = encode(encoder, [text])
    np.testing.assert_allclose(encode(encoder, [*neighbours, text])[-1], alone, atol=1e-5)
    np.testing.assert_allclose(encode(encoder, [text, *neighbours])[0], alone, atol=1e-5)


def test_a_text_of_no_token_is_pooled_over_what_is_added(folders: dict[str, Path]) -> None:
    mean, other = encode(load(folders["llama"]), ["", "abc"])
    np.testing.assert_allclose(mean, encode(load(folders["llama"], "&pooling=first"), [""])[0], atol=1e-5)
    np.testing.assert_allclose(other, encode(load(folders["llama"]), ["abc"])[0], atol=1e-5)


def test_no_texts_have_no_features(folders: dict[str, Path]) -> None:
    assert encode(load(folders["bert"]), []) == []


def test_minilm_agrees_with_plain_transformers_from_its_folder(minilm: str) -> None:
    """As its authors use it: mean over all tokens."""
    folder = minilm.partition("=")[2]
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    for text, feature in zip(TEXTS, encode(load(minilm), TEXTS), strict=True):
        np.testing.assert_allclose(feature, plainly(model, tokenizer, text, [-1], "mean"), atol=1e-5)


# Several poolings of one pass, several templates.


def test_joined_poolings_are_those_by_themselves_side_by_side(folders: dict[str, Path]) -> None:
    together = encode(load(folders["bert"], "&layers=1,2&pooling=mean+last+max+first"), TEXTS)
    ways = ("mean", "last", "max", "first")
    apart = [encode(load(folders["bert"], f"&layers=1,2&pooling={one}"), TEXTS) for one in ways]
    for i, feature in enumerate(together):
        assert feature.shape[0] == 8
        np.testing.assert_allclose(feature, np.concatenate([one[i] for one in apart]), atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean+mean", "mean+tokens", "mean+", "sum"])
def test_a_pooling_that_can_not_be_is_refused(folders: dict[str, Path], pooling: str) -> None:
    with pytest.raises(UsageError, match="pooling"):
        parse_encoder(f"{folders['bert']}?pooling={pooling}")


def test_features_of_several_templates_are_averaged(folders: dict[str, Path]) -> None:
    first, second = "Text: {text}", "{text} In one word:"
    together = encode(load(folders["llama"], f"&pooling=last&template={first}||{second}"), TEXTS)
    apart = [encode(load(folders["llama"], f"&pooling=last&template={one}"), TEXTS) for one in (first, second)]
    for i, feature in enumerate(together):
        np.testing.assert_allclose(feature, (apart[0][i] + apart[1][i]) / 2, atol=1e-5)


def test_templates_without_a_place_or_with_tokens_are_refused(folders: dict[str, Path]) -> None:
    for given_settings in ("template={text}||no place", "pooling=tokens&template={text}||Text: {text}"):
        with pytest.raises(UsageError):
            parse_encoder(f"{folders['llama']}?{given_settings}")


def test_tokens_without_layers_given_are_those_of_the_thirds(folders: dict[str, Path]) -> None:
    encoder = load_encoder(parse_encoder(f"{folders['llama']}?dtype=float32", features="tokens"), CPU)
    assert encoder.config.pooling == "tokens"
    assert encoder.layers == (2, 4, 6)
    given = encode(load(folders["llama"], "&pooling=tokens&layers=2,4,6"), TEXTS)
    for found, expected in zip(encode(encoder, TEXTS), given, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_batches_at_once_keep_their_order(
    encoder_of: Callable[[str], TransformerEncoder],
) -> None:
    encoder, threads = encoder_of("llama"), torch.get_num_threads()
    texts = [text * (1 + i % 7) + str(i) for i in range(40) for text in TEXTS]
    jobs = [Job(i, [tokenize(encoder, texts[i : i + 3])]) for i in range(0, len(texts), 3)]
    torch.set_num_threads(3)
    try:
        found = list(encode_jobs(encoder, iter(jobs)))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert [tag for tag, _ in found] == [job.tag for job in jobs]
    for job, (_, arrays) in zip(jobs, found, strict=True):
        for array, alone in zip(arrays, encode_batch(encoder, job.by_template), strict=True):
            np.testing.assert_allclose(array, alone, atol=1e-5)


def test_a_failing_batch_ends_the_work(
    encoder_of: Callable[[str], TransformerEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, threads, calls = encoder_of("llama"), torch.get_num_threads(), 0
    plain = encode_batch

    def failing(*arguments: object) -> list[np.ndarray]:
        nonlocal calls
        calls += 1
        if calls >= 5:  # two threads may count at once
            raise MemoryError("no more")
        return plain(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(sys.modules["fusion_classifier.encoders.encode"], "encode_batch", failing)
    jobs = (Job(i, [tokenize(encoder, ["some text"])]) for i in range(1000))
    with pytest.raises(MemoryError):
        list(encode_jobs(encoder, jobs))
    assert calls < 50
    assert torch.get_num_threads() == threads
