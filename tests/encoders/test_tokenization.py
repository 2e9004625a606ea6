"""Texts to token ids: templates, special tokens, texts that are too long, and their lengths."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.loading import TransformerEncoder, load_encoder, load_transformer
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.encoders.tokenization import is_truncated, token_lengths, tokenize, tokenize_windows
from fusion_classifier.errors import FecError, UsageError, WeightsError

CPU = torch.device("cpu")
KINDS = ("llama", "bert", "roberta")


def load(folder: Path | str, settings: str = "") -> TransformerEncoder:
    return load_encoder(parse_encoder(f"{folder}?dtype=float32{settings}"), CPU)


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
    with pytest.raises(UsageError, match=r"`template` alone.*`max_length`"):
        tokenize(load(folders["llama"], "&max_length=5&template=much too long {text}"), ["abcdefghijkl"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [4, 7, 11])
def test_a_cut_text_has_the_feature_of_its_beginning(folders: dict[str, Path], kind: str, limit: int) -> None:
    encoder = load(folders[kind], f"&max_length={limit}&pooling=tokens")
    text = "abcdefghijklmnop"
    added = 1 if kind == "llama" else 2
    cut, whole = tokenize(encoder, [text, text[: limit - added]])
    assert (cut.truncated, whole.truncated) == (True, False)
    assert (cut.ids, cut.own) == (whole.ids, whole.own)
    assert len(cut) == limit
    one, other = encode(encoder, [text, text[: limit - added]])
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)  # rounding differs with the batch's shape


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", ["{text}", "of {text}!"])
def test_cut_on_the_left_a_text_has_the_tokens_of_its_end(
    encoder_in: Callable[[str, str, int], TransformerEncoder], kind: str, template: str
) -> None:
    encoder = encoder_in(kind, template, 12)
    room = 12 - (1 if kind == "llama" else 2) - len(template.replace("{text}", ""))
    text = "abcdefghijklmnop"
    cut, whole, right = [
        *tokenize(encoder, [text, text[-room:]], side="left"),
        *tokenize(encoder, [text]),  # one does not change what the next does
    ]
    assert (cut.truncated, whole.truncated) == (True, False)
    assert (cut.ids, cut.own) == (whole.ids, whole.own)
    assert right.ids == tokenize(encoder, [text[:room]])[0].ids
    np.testing.assert_allclose(
        encode(encoder, [text], "left")[0], encode(encoder, [text[-room:]])[0], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
@given(template=st.text("xyz:- ", max_size=6), suffix=st.text("xyz:- ", max_size=6), length=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_in_a_template_the_longest_beginning_is_kept(
    encoder_in: Callable[[str, str, int], TransformerEncoder], kind: str, template: str, suffix: str, length: int
) -> None:
    limit, added, text = 20, 1 if kind == "llama" else 2, ("abcdefghij" * 4)[:length]
    encoder = encoder_in(kind, f"{template}{{text}}{suffix}", limit)
    (cut,) = tokenize(encoder, [text])
    room = limit - added - len(template) - len(suffix)
    own = [token for token, is_own in zip(cut.ids, cut.own, strict=True) if is_own]
    assert "".join(encoder.tokenizer.convert_ids_to_tokens(own)) == template + text[:room] + suffix
    assert cut.truncated == (length > room)
    assert len(cut) == min(limit, length + added + len(template) + len(suffix))


def test_a_tokenizers_own_side_does_not_count(folders: dict[str, Path], tmp_path: Path) -> None:
    """Tokenizers made for chat ship with truncation_side left; a text that is too long loses its end."""
    shutil.copytree(folders["bert"], tmp_path / "left")
    place = tmp_path / "left" / "tokenizer_config.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"truncation_side": "left"}))
    (cut,) = tokenize(load(tmp_path / "left", "&max_length=6"), ["abcdefghij"])
    assert cut.ids == tokenize(load(folders["bert"]), ["abcd"])[0].ids


def test_truncation_in_the_tokenizers_file_does_not_count(folders: dict[str, Path], tmp_path: Path) -> None:
    """sentence-transformers' models ship with both."""
    shutil.copytree(folders["bert"], tmp_path / "kept")
    place = tmp_path / "kept" / "tokenizer.json"
    kept = json.loads(place.read_text()) | {
        "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {
            "strategy": {"Fixed": 12},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
    }
    place.write_text(json.dumps(kept))
    tokenized = tokenize(load(tmp_path / "kept", "&max_length=20"), ["abcdefghijkl", "ab"])
    assert [len(one) for one in tokenized] == [14, 4]


def test_special_tokens_in_the_text_are_its_own(folders: dict[str, Path]) -> None:
    encoder = load(folders["llama"], "&pooling=tokens")
    assert [len(feature) for feature in encode(encoder, ["a<s>b", "</s>"])] == [3, 1]


def test_a_text_that_is_no_unicode_is_named(folders: dict[str, Path]) -> None:
    """Half a surrogate pair: json.loads and arguments that are not UTF-8 give such strings."""
    with pytest.raises(FecError):
        encode(load(folders["bert"]), ["good", "bad \ud800"])


# Lengths.

LENGTHS_OF = ["we won", "a", "it is very dark in here " * 3, "naïve 😀"]


@pytest.mark.parametrize("template", ["{text}", "Text: {text} Mood:"])
@pytest.mark.parametrize("model", ["bert_folder", "llama_folder", "roberta_folder"])
def test_lengths_are_those_before_cutting(model: str, template: str, request: pytest.FixtureRequest) -> None:
    config = parse_encoder(str(request.getfixturevalue(model)), {"template": template})
    identity = identify(config, CPU)
    encoder = load_transformer(identity, CPU)
    assert token_lengths(identity, LENGTHS_OF).tolist() == [len(text) for text in tokenize(encoder, LENGTHS_OF)]


def test_texts_longer_than_the_limit_keep_their_length(bert_folder: Path) -> None:
    identity = identify(parse_encoder(str(bert_folder), {"max_length": "8"}), CPU)
    lengths = token_lengths(identity, LENGTHS_OF)
    assert lengths.max() > 8
    encoder = load_transformer(identity, CPU)
    assert [text.truncated for text in tokenize(encoder, LENGTHS_OF)] == (lengths > 8).tolist()


@pytest.mark.slow
def test_a_gguf_file_counts_as_the_model_that_it_is(smollm2: str) -> None:
    identity = identify(parse_encoder(smollm2), CPU)
    encoder = load_transformer(identity, CPU)
    assert token_lengths(identity, LENGTHS_OF).tolist() == [len(text) for text in tokenize(encoder, LENGTHS_OF)]


def test_no_texts_have_no_lengths(bert_folder: Path) -> None:
    assert token_lengths(identify(parse_encoder(str(bert_folder)), CPU), []).shape == (0,)


def test_a_broken_tokenizer_is_an_error_that_names_the_folder(bert_folder: Path, tmp_path: Path) -> None:
    for file in bert_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "tokenizer.json").write_text("{", "utf-8")
    with pytest.raises(WeightsError, match=r"the tokenizer in .* can't be loaded"):
        token_lengths(identify(parse_encoder(str(tmp_path)), CPU), LENGTHS_OF)


LONG = " ".join(f"ab{i} cde" for i in range(30))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("template", ["{text}", "x {text} - "])
def test_all_of_a_long_text_is_read_in_windows(folders: dict[str, Path], kind: str, template: str) -> None:
    """Each window is read as a text of its own; a short text as ever."""
    encoder = load(folders[kind], f"&max_length=20&pooling=tokens&long=window&template={template}")
    long, short = tokenize_windows(encoder, [LONG, "abc"], template)
    assert (short.windows, long.truncated) == ((), False)
    assert all(8 < len(window) <= 20 for window in long.windows)
    assert sum(map(len, long.windows)) == len(long)
    assert not is_truncated(encoder, LONG)
    own = [token for window in long.windows for token, mine in zip(window.ids, window.own, strict=True) if mine]
    if template == "{text}":
        letters = "".join(encoder.tokenizer.convert_ids_to_tokens(own))
        assert re.sub(r"[^a-z0-9]", "", letters) == LONG.replace(" ", "")
    whole, alone = encode(encoder, [LONG, "abc"])
    np.testing.assert_allclose(
        alone, encode(load(folders[kind], f"&pooling=tokens&template={template}"), ["abc"])[0], atol=1e-5
    )
    counted = len(long) if encoder.pool_special_tokens else len(own)
    assert whole.shape == (counted, *encoder.shape)
    mean = load(folders[kind], f"&max_length=20&long=window&layers=-1&template={template}")
    last = whole[:, encoder.layers.index(max(encoder.layers))]
    np.testing.assert_allclose(encode(mean, [LONG])[0], last.mean(0), atol=1e-5)


def test_windows_have_a_key_of_their_own(folders: dict[str, Path]) -> None:
    plain, windows = (parse_encoder(f"{folders['bert']}{more}") for more in ("", "?long=window"))
    assert windows.name.endswith("?long=window")
    cut, read = identify(plain, CPU), identify(windows, CPU)
    assert cut.key != read.key
    assert "long" not in cut.settings  # features from before the setting keep their key


def test_a_text_without_spaces_is_read_in_windows(folders: dict[str, Path]) -> None:
    encoder = load(folders["bert"], "&max_length=10&long=window")
    (text,) = tokenize_windows(encoder, ["abcdefgh" * 20], "{text}")
    assert sum(map(sum, (window.own for window in text.windows))) == 160
