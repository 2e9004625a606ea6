"""Loading refuses whatever would give a feature that means nothing."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, T5Config, T5Model

from fusion_classifier.encoders import load_encoder, parse_encoder
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
        ("layers=-1,3", "twice"),
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
    with pytest.raises(WeightsError, match="lack 1 weights"):
        load_encoder(parse_encoder(str(folder)), CPU)


def test_a_checkpoint_without_pooler_serves_every_other_pooling(bert_folder: Path, tmp_path: Path) -> None:
    folder = copy(bert_folder, tmp_path / "no-pooler")
    tensors = {k: v for k, v in load_file(folder / "model.safetensors").items() if "pooler" not in k}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    load_encoder(parse_encoder(str(folder)), CPU)
    with pytest.raises(WeightsError, match="another pooling"):
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
