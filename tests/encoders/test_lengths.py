"""Token counts are those of the encoder that will read the texts."""

from pathlib import Path

import pytest
import torch

from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.loading import load_transformer
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.encoders.tokenization import token_lengths, tokenize
from fusion_classifier.errors import WeightsError

TEXTS = ["we won", "a", "it is very dark in here " * 3, "naïve 😀"]
CPU = torch.device("cpu")


@pytest.mark.parametrize("template", ["{text}", "Text: {text} Mood:"])
@pytest.mark.parametrize("model", ["bert_folder", "llama_folder", "roberta_folder"])
def test_lengths_are_those_before_cutting(model: str, template: str, request: pytest.FixtureRequest) -> None:
    config = parse_encoder(str(request.getfixturevalue(model)), {"template": template})
    identity = identify(config, CPU)
    encoder = load_transformer(identity, CPU)
    assert token_lengths(identity, TEXTS).tolist() == [len(text) for text in tokenize(encoder, TEXTS)]


def test_texts_longer_than_the_limit_keep_their_length(bert_folder: Path) -> None:
    identity = identify(parse_encoder(str(bert_folder), {"max_length": "8"}), CPU)
    lengths = token_lengths(identity, TEXTS)
    assert lengths.max() > 8
    encoder = load_transformer(identity, CPU)
    assert [text.truncated for text in tokenize(encoder, TEXTS)] == (lengths > 8).tolist()


def test_a_gguf_file_counts_as_the_model_that_it_is(smollm2: str) -> None:
    identity = identify(parse_encoder(smollm2), CPU)
    encoder = load_transformer(identity, CPU)
    assert token_lengths(identity, TEXTS).tolist() == [len(text) for text in tokenize(encoder, TEXTS)]


def test_no_texts_have_no_lengths(bert_folder: Path) -> None:
    assert token_lengths(identify(parse_encoder(str(bert_folder)), CPU), []).shape == (0,)


def test_a_broken_tokenizer_is_an_error_that_names_the_folder(bert_folder: Path, tmp_path: Path) -> None:
    for file in bert_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "tokenizer.json").write_text("{", "utf-8")
    with pytest.raises(WeightsError, match=r"the tokenizer in .* can't be loaded"):
        token_lengths(identify(parse_encoder(str(tmp_path)), CPU), TEXTS)
