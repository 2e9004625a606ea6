"""The key under which features are kept."""

import shutil
from pathlib import Path

import pytest
import torch

from fusion_classifier.encoders import identify, parse_encoder

CPU = torch.device("cpu")


def key(spec: str) -> str:
    return identify(parse_encoder(spec), CPU).key


def test_the_place_and_name_of_a_model_do_not_matter(bert_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(bert_folder, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "README.md").write_text("a note")
    assert key(str(bert_folder)) == key(str(tmp_path / "elsewhere"))
    assert key(str(bert_folder)) == key(f"bert-large={bert_folder}?pooling=mean")


@pytest.mark.parametrize(
    "setting",
    [
        "layers=-2",
        "pooling=first",
        "pooling=tokens",
        "template=x {text}",
        "max_length=99",
        "dtype=float16",
        "pool_special_tokens=false",
    ],
)
def test_every_setting_that_decides_a_feature_is_part_of_it(bert_folder: Path, setting: str) -> None:
    assert key(f"{bert_folder}?{setting}") != key(str(bert_folder))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_one_changed_byte_of_the_files_is_another_key(bert_folder: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(bert_folder, folder)
    before = key(str(folder))
    data = bytearray((folder / name).read_bytes())
    data[-2] ^= 1
    (folder / name).write_bytes(data)
    assert key(str(folder)) != before


def test_auto_precision_is_the_same_as_naming_what_it_comes_to(bert_folder: Path) -> None:
    auto = identify(parse_encoder(str(bert_folder)), CPU)
    named = str(auto.dtype).removeprefix("torch.")
    assert key(f"{bert_folder}?dtype={named}") == auto.key
