"""Loading refuses whatever would give a feature that means nothing."""

import logging
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoTokenizer,
    CamembertConfig,
    CamembertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    GPT2Config,
    GPT2Model,
    MPNetConfig,
    MPNetModel,
    PreTrainedModel,
    T5Config,
    T5Model,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.loading import load_encoder, thirds
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.errors import FecError, UsageError, WeightsError

CPU = torch.device("cpu")


def copy(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("layers=9", "no layer 9"),
        ("layers=-5", "no layer -5"),
        ("layers=-1,3", "duplicate"),
        ("pooling=pooler&layers=1", "last layer only"),
        ("max_length=513", "512"),
    ],
)
def test_settings_that_the_model_can_not_have_are_named(bert_folder: Path, settings: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_encoder(parse_encoder(f"{bert_folder}?{settings}"), CPU)


def test_roberta_counts_two_positions_less(roberta_folder: Path) -> None:
    load_encoder(parse_encoder(f"{roberta_folder}?max_length=512"), CPU)
    with pytest.raises(UsageError, match="512"):
        load_encoder(parse_encoder(f"{roberta_folder}?max_length=513"), CPU)


def test_llama_has_no_pooler(llama_folder: Path) -> None:
    with pytest.raises(UsageError, match="no pooler"):
        load_encoder(parse_encoder(f"{llama_folder}?pooling=pooler"), CPU)


def test_missing_weights_are_never_made_up(bert_folder: Path, tmp_path: Path) -> None:
    folder = copy(bert_folder, tmp_path / "holes")
    tensors = load_file(folder / "model.safetensors")
    gone = next(name for name in tensors if "layer.1" in name)
    del tensors[gone]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=f"lack 1 weights.*{re.escape(gone)}"):
        load_encoder(parse_encoder(str(folder)), CPU)


def test_a_checkpoint_without_pooler_has_other_poolings(bert_folder: Path, tmp_path: Path) -> None:
    folder = copy(bert_folder, tmp_path / "no-pooler")
    tensors = {k: v for k, v in load_file(folder / "model.safetensors").items() if "pooler" not in k}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    load_encoder(parse_encoder(str(folder)), CPU)
    with pytest.raises(WeightsError, match="another `pooling`"):
        load_encoder(parse_encoder(f"{folder}?pooling=pooler"), CPU)


@pytest.mark.parametrize("damage", ["truncated", "no tokenizer", "bad config"])
def test_a_damaged_folder_is_one_sentence(bert_folder: Path, tmp_path: Path, damage: str) -> None:
    folder = copy(bert_folder, tmp_path / "damaged")
    if damage == "truncated":
        data = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    elif damage == "bad config":
        (folder / "config.json").write_text("{")
    else:
        for file in folder.glob("tokenizer*"):
            file.unlink()
    with pytest.raises(FecError) as error:
        load_encoder(parse_encoder(str(folder)), CPU)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_encoder_decoder_models_are_refused(bert_folder: Path, tmp_path: Path) -> None:
    config = T5Config(vocab_size=90, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    T5Model(config).save_pretrained(tmp_path / "t5")
    AutoTokenizer.from_pretrained(bert_folder).save_pretrained(tmp_path / "t5")
    with pytest.raises(WeightsError, match="encoder-decoder"):
        load_encoder(parse_encoder(str(tmp_path / "t5")), CPU)


def test_loading_leaves_the_model_frozen(bert_folder: Path) -> None:
    encoder = load_encoder(parse_encoder(str(bert_folder)), CPU)
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())


def test_llama_has_the_positions_of_its_configuration(llama_folder: Path) -> None:
    load_encoder(parse_encoder(f"{llama_folder}?max_length=512"), CPU)
    with pytest.raises(UsageError, match=r"`max_length`.*use `max_length` 512 or less"):
        load_encoder(parse_encoder(f"{llama_folder}?max_length=513"), CPU)


SIZES = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
OTHERS = ("camembert", "distilbert", "electra", "gpt2", "mpnet", "xlm-roberta")


def other_folder(kind: str, bert_folder: Path, to: Path) -> Path:
    """A small random model of another class, with the small BERT's tokenizer, whose padding index is 0."""
    tokenizer = AutoTokenizer.from_pretrained(bert_folder)
    n = len(tokenizer)
    offset = {"vocab_size": n, "max_position_embeddings": 60, "pad_token_id": 0} | SIZES
    model: PreTrainedModel
    torch.manual_seed(0)
    if kind == "camembert":
        model = CamembertModel(CamembertConfig(**offset))
    elif kind == "distilbert":
        model = DistilBertModel(DistilBertConfig(vocab_size=n, dim=24, hidden_dim=32, n_layers=3, n_heads=4))
    elif kind == "electra":
        model = ElectraModel(ElectraConfig(vocab_size=n, embedding_size=16, **SIZES))
    elif kind == "gpt2":
        model = GPT2Model(GPT2Config(vocab_size=n, n_embd=24, n_layer=3, n_head=4, n_positions=60))
    elif kind == "mpnet":
        model = MPNetModel(MPNetConfig(**{**offset, "pad_token_id": 1}))  # MPNet's is 1 whatever it is told
    else:
        model = XLMRobertaModel(XLMRobertaConfig(**offset))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name.lower():
                parameter.mul_(8)  # far apart, so that texts differ clearly
    model.save_pretrained(to)
    tokenizer.save_pretrained(to)
    return to


@pytest.mark.parametrize("kind", OTHERS)
def test_other_model_types_give_their_hidden_states_too(kind: str, bert_folder: Path, tmp_path: Path) -> None:
    folder = other_folder(kind, bert_folder, tmp_path / kind)
    encoder = load_encoder(parse_encoder(f"{folder}?dtype=float32&layers=0,-1,1&max_length=50"), CPU)
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    texts = ["a", "hello there, you", "abc def"]
    for text, feature in zip(texts, encode(encoder, texts), strict=True):
        with torch.no_grad():
            states = model(torch.tensor([tokenizer(text)["input_ids"]]), output_hidden_states=True).hidden_states
        expected = np.stack([states[layer][0].mean(0).numpy() for layer in (0, -1, 1)])
        np.testing.assert_allclose(feature, expected, atol=1e-5)


@pytest.mark.parametrize(("kind", "longest"), [("camembert", 59), ("gpt2", 60), ("mpnet", 58), ("xlm-roberta", 59)])
def test_the_longest_input_allowed_can_be_encoded(kind: str, longest: int, bert_folder: Path, tmp_path: Path) -> None:
    """Relatives of RoBERTa lose the positions up to their padding index."""
    folder = other_folder(kind, bert_folder, tmp_path / kind)
    encoder = load_encoder(parse_encoder(f"{folder}?dtype=float32&max_length={longest}"), CPU)
    assert np.isfinite(encode(encoder, ["a" * 100])[0]).all()
    with pytest.raises(UsageError, match=rf"`max_length`.*use `max_length` {longest} or less"):
        load_encoder(parse_encoder(f"{folder}?dtype=float32&max_length={longest + 1}"), CPU)


@pytest.mark.slow
def test_loading_leaves_its_host_alone(bert_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """In a process of its own, where nothing has been imported before."""
    program = f"""
import logging, sys
from transformers.utils import logging as library
names = ("transformers", "torchao", "torch.utils._pytree")
library.set_verbosity_info()
library.set_tqdm_hook(hook := lambda factory, args, kwargs: factory(*args, **kwargs))
before = [logging.getLogger(name).level for name in names], sys.stderr, library.is_progress_bar_enabled()
import torch
from fusion_classifier.encoders.loading import load_encoder, thirds
from fusion_classifier.encoders.spec import parse_encoder
load_encoder(parse_encoder({str(bert_folder)!r}), torch.device("cpu"))
assert before == ([logging.getLogger(name).level for name in names], sys.stderr, library.is_progress_bar_enabled())
assert library.set_tqdm_hook(None) is hook
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert capfd.readouterr() == ("", "")


def test_loading_at_once_in_threads_restores_the_settings(bert_folder: Path) -> None:
    logger = logging.getLogger("transformers")
    before = logger.level
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: load_encoder(parse_encoder(str(bert_folder)), CPU), range(8)))
    assert logger.level == before


THIRDS = {1: (1,), 2: (1, 2), 6: (2, 4, 6), 12: (4, 8, 12), 30: (10, 20, 30), 32: (11, 21, 32)}


@pytest.mark.parametrize(("n_layers", "expected"), THIRDS.items())
def test_token_states_come_from_thirds_of_the_model(n_layers: int, expected: tuple[int, ...]) -> None:
    assert thirds(n_layers) == expected
