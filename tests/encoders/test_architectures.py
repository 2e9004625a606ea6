"""Every architecture gives what plain transformers gives for one text at a time, or is refused when loaded."""

import json
from collections.abc import Callable
from pathlib import Path

import architectures
import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.loading import TransformerEncoder, load_encoder
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.errors import UsageError, WeightsError

CPU = torch.device("cpu")
POOLINGS = ("mean", "max", "first", "last")
# docs/encoders.md promises it. Features here are of size 1 to 5.
MAX_DIFFERENCE = 2e-5
RNG = np.random.default_rng(0)
TEXTS = [" ".join(RNG.choice(architectures.WORDS, n)) for n in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 120)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("architectures")

    def folder(kind: str) -> Path:
        return root / kind if (root / kind).exists() else architectures.make(kind, root / kind)

    return folder


def plain(folder: Path, layers: tuple[int, ...]) -> list[np.ndarray]:
    """Hidden states (L, layers, H) of each text alone, each by a model that has seen no other text."""
    tokenizer, states = AutoTokenizer.from_pretrained(folder), []
    for text in TEXTS:
        model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            hidden = model(ids, output_hidden_states=True).hidden_states
        states.append(torch.stack([hidden[layer][0, : ids.shape[1]] for layer in layers], 1).numpy())
    return states


def pooled(states: np.ndarray) -> np.ndarray:
    """All poolings: (poolings, layers, H)."""
    return np.stack([states.mean(0), states.max(0), states[0], states[-1]])


def compared(kind: str, folder: Path) -> tuple[TransformerEncoder, np.ndarray]:
    """An encoder, and the largest difference of each pooling from plain transformers.

    With texts of all lengths beside it, after short texts, and alone.
    """
    layers = (-1,) if kind == "opt" else (1, -1)  # OPT's last layer is narrower
    spec = f"{folder}?pooling={'+'.join(POOLINGS)}&layers={','.join(map(str, layers))}&dtype=float32"
    encoder = load_encoder(parse_encoder(f"{spec}&max_length=128&pool_special_tokens=true"), CPU)
    expected = np.stack([pooled(states) for states in plain(folder, layers)])  # (N, poolings, layers, H)
    encoded = [encode(encoder, TEXTS), encode(encoder, TEXTS), [encode(encoder, [text])[0] for text in TEXTS]]
    found = np.stack([np.stack(features).reshape(expected.shape) for features in encoded])
    return encoder, np.abs(found - expected).max(axis=(0, 1, 3, 4))


@pytest.mark.parametrize("kind", sorted(architectures.ARCHITECTURES))
def test_features_are_those_of_plain_transformers(kind: str, made: Callable[[str], Path]) -> None:
    _, differences = compared(kind, made(kind))
    assert differences.max() < MAX_DIFFERENCE


OFFSET = ("data2vec-text", "ibert", "longformer", "luke", "roberta", "roberta-prelayernorm", "xlm-roberta-xl", "xmod")


@pytest.mark.parametrize("kind", OFFSET)
def test_relatives_of_roberta_have_fewer_positions(kind: str, made: Callable[[str], Path]) -> None:
    with pytest.raises(UsageError, match="use `max_length` 128 or less"):
        load_encoder(parse_encoder(f"{made(kind)}?max_length=129"), CPU)


def test_layers_of_different_widths_are_no_feature(made: Callable[[str], Path]) -> None:
    """OPT-350m, whose last layer is projected."""
    assert encode(load_encoder(parse_encoder(f"{made('opt')}?layers=1,2&max_length=99"), CPU), ["so"])[0].shape == (
        2,
        32,
    )
    with pytest.raises(UsageError, match=r"`layers` of different widths \(2: 32, 3: 16\)"):
        load_encoder(parse_encoder(f"{made('opt')}?layers=2,3&max_length=99"), CPU)


def test_deberta_is_computed_in_float32_unless_asked_otherwise(made: Callable[[str], Path]) -> None:
    folder = made("deberta")
    assert identify(parse_encoder(str(folder)), CPU).dtype == "float32"
    with pytest.raises(WeightsError, match=r"can't be run in bfloat16 .* set `dtype` to float32"):
        load_encoder(parse_encoder(f"{folder}?dtype=bfloat16&max_length=99"), CPU)


@pytest.mark.parametrize("kind", ["bros", "canine"])
def test_a_model_not_made_for_texts_is_refused_when_loaded(kind: str, tmp_path: Path) -> None:
    """Bros needs the places of words on a page; Canine has fewer states than characters."""
    settings = architectures.PLAIN | {"num_hash_buckets": 64, "local_transformer_stride": 8}

    AutoModel.from_config(AutoConfig.for_model(kind, **settings)).save_pretrained(tmp_path)
    architectures.save_tokenizer(tmp_path)
    with pytest.raises(WeightsError, match="can't be run"):
        load_encoder(parse_encoder(f"{tmp_path}?max_length=99"), CPU)


def test_features_that_were_wrong_before_have_another_key(made: Callable[[str], Path]) -> None:
    def version(kind: str) -> int:
        return int(identify(parse_encoder(f"{made(kind)}?dtype=float32"), CPU).settings["feature_version"])

    assert [version(kind) for kind in ("bert", "xlnet", "fnet", "big_bird")] == [1, 1, 2, 2]


# Tokenizer files.


def bertweet(folder: Path) -> Path:
    """A tokenizer whose merges are in a file that only it has."""
    architectures.make("roberta", folder)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertweetTokenizer"}))
    (folder / "vocab.txt").write_text("happy 1\nso 1\nh@@ 1\na@@ 1\np@@ 1\ny 1\ns@@ 1\no 1\n")
    (folder / "bpe.codes").write_text("#version: 0.2\nh a 1\nha p 1\nhap p 1\nhapp y</w> 1\ns o</w> 1\n")
    return folder


def test_vocabularies_of_any_name_are_part_of_the_key(tmp_path: Path) -> None:
    folder = bertweet(tmp_path / "m")
    before = identify(parse_encoder(str(folder)), CPU).key
    for name in ("README.md", "pytorch_model.bin", "generation_config.json", "modules.json", ".gitattributes"):
        (folder / name).write_text("[]")
    assert identify(parse_encoder(f"{folder}?pooling=mean"), CPU).key == before
    (folder / "bpe.codes").write_text("#version: 0.2\n")
    assert identify(parse_encoder(f"{folder}?pooling=mean"), CPU).key != before


SENTENCEPIECE = {
    "xlm-roberta": ("sentencepiece.bpe.model", {}),
    "deberta-v2": ("spm.model", {"do_lower_case": False, "vocab_type": "spm"}),
    "rembert": ("sentencepiece.model", {}),
}


@pytest.mark.parametrize("kind", SENTENCEPIECE)
def test_a_sentencepiece_file_alone_is_a_tokenizer(kind: str, tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    pytest.importorskip("google.protobuf")
    name, settings = SENTENCEPIECE[kind]
    folder = architectures.make(kind, tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    pieces = {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3} if kind == "deberta-v2" else {}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 5),
        model_prefix=str(tmp_path / "sp"),
        vocab_size=28,
        hard_vocab_limit=False,
        minloglevel=2,
        **pieces,
    )
    (tmp_path / "sp.model").rename(folder / name)
    encoder = load_encoder(parse_encoder(f"{folder}?max_length=99&dtype=float32&pooling=mean"), CPU)
    assert encoder.tokenizer(TEXTS[3])["input_ids"] == AutoTokenizer.from_pretrained(folder)(TEXTS[3])["input_ids"]
    assert np.isfinite(encode(encoder, ["so good"])[0]).all()


def test_sentencepiece_without_its_packages_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = architectures.make("llama", tmp_path / "m")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"")
    monkeypatch.setattr("fusion_classifier.support.extras._installed", lambda name: name != "google.protobuf")
    with pytest.raises(UsageError, match=r"needs google.protobuf: pip install 'llm-fusion-classifier\[llama\]'"):
        load_encoder(parse_encoder(f"{folder}?max_length=99"), CPU)
