"""Static models give the mean of their tokens' vectors, as model2vec does."""

import json
import subprocess
import sys
from pathlib import Path

import architectures
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.loading import load_encoder, load_identified
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.encoders.tokenization import token_lengths
from fusion_classifier.errors import UsageError, WeightsError

CPU = torch.device("cpu")
WORDS = ["[UNK]", *architectures.WORDS]
TEXTS = ["so good", "a very sad day", "so good zebra good", "zebra"]
VECTORS = np.random.default_rng(0).normal(size=(len(WORDS), 16)).astype(np.float32)


def save_tokenizer(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.fixture
def potion(tmp_path: Path) -> Path:
    """As model2vec saves it."""
    folder = tmp_path / "potion"
    folder.mkdir()
    save_file({"embeddings": VECTORS}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True}))
    module = {"idx": 0, "name": "0", "path": ".", "type": "sentence_transformers.models.StaticEmbedding"}
    normalize = {"idx": 1, "name": "1", "path": "1_Normalize", "type": "sentence_transformers.models.Normalize"}
    (folder / "modules.json").write_text(json.dumps([module, normalize]))
    save_tokenizer(folder)
    return folder


def expected(text: str, vectors: np.ndarray = VECTORS, *, unknown: bool = False) -> np.ndarray:
    ids = [WORDS.index(word) if word in WORDS else 0 for word in text.split()]
    kept = [i for i in ids if i or unknown]
    return vectors[kept].mean(0) if kept else np.zeros(vectors.shape[1])


def features(spec: str) -> np.ndarray:
    return np.stack(encode(load_identified(identify(parse_encoder(spec), CPU), CPU), TEXTS))


def test_unknown_words_do_not_count(potion: Path) -> None:
    np.testing.assert_allclose(features(str(potion)), [expected(text) for text in TEXTS], atol=1e-6)
    np.testing.assert_allclose(
        features(f"{potion}?template=bad {{text}}"), [expected(f"bad {text}") for text in TEXTS], atol=1e-6
    )


def test_weights_and_mapping_of_small_vocabularies_are_applied(potion: Path) -> None:
    mapping, weights = np.arange(len(WORDS)) // 2, np.linspace(0.5, 2, len(WORDS))
    save_file({"embeddings": VECTORS, "mapping": mapping, "weights": weights}, potion / "model.safetensors")
    vectors = VECTORS[mapping] * weights[:, None]
    np.testing.assert_allclose(features(str(potion)), [expected(text, vectors) for text in TEXTS], atol=1e-6)


def test_a_static_embedding_of_sentence_transformers_counts_all(tmp_path: Path) -> None:
    folder = tmp_path / "static" / "0_StaticEmbedding"
    folder.mkdir(parents=True)
    save_file({"embedding.weight": VECTORS}, folder / "model.safetensors")
    save_tokenizer(folder)
    module = {"idx": 0, "name": "0", "path": folder.name, "type": "sentence_transformers.models.StaticEmbedding"}
    (folder.parent / "modules.json").write_text(json.dumps([module]))
    found = features(str(folder.parent))
    np.testing.assert_allclose(found, [expected(text, unknown=True) for text in TEXTS], atol=1e-6)


def test_it_equals_model2vec_where_that_is_installed(potion: Path) -> None:
    theirs = pytest.importorskip("model2vec").StaticModel.from_pretrained(potion, normalize=False).encode(TEXTS)
    np.testing.assert_allclose(features(str(potion)), theirs, atol=1e-6)


@pytest.mark.parametrize("settings", ["pooling=tokens", "pooling=last", "layers=1"])
def test_what_a_static_model_has_not_is_refused(potion: Path, settings: str) -> None:
    with pytest.raises(UsageError, match="a static model has one vector per text; use `pooling` mean"):
        features(f"{potion}?{settings}")


def test_a_static_model_is_no_transformer(potion: Path) -> None:
    with pytest.raises(UsageError, match="a static model, which has no layers"):
        load_encoder(parse_encoder(str(potion)), CPU)


def test_vectors_of_another_vocabulary_are_refused(potion: Path) -> None:
    save_file({"embeddings": VECTORS[:-1]}, potion / "model.safetensors")
    with pytest.raises(WeightsError, match="26 vectors for 27 tokens"):
        features(str(potion))


def test_tokens_are_counted_as_for_any_encoder(potion: Path) -> None:
    assert token_lengths(identify(parse_encoder(str(potion)), CPU), TEXTS).tolist() == [2, 4, 4, 1]


def test_no_torch_is_loaded_to_encode(potion: Path) -> None:
    program = f"""
import sys
from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.encoders.static import load_static
from fusion_classifier.encoders.weights import locate
config = EncoderConfig(name="a", model={str(potion)!r})
load_static(EncoderIdentity(config, locate(config), "", "float32")).encode(["so good"])
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
