"""The key under which features are kept."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.spec import parse_encoder

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
    assert key(f"{bert_folder}?dtype={auto.dtype}") == auto.key


def test_how_the_files_are_found_is_no_part_of_it(bert_folder: Path) -> None:
    assert key(f"{bert_folder}?revision=v2") == key(str(bert_folder))


def test_the_key_is_of_the_order_of_layers_too(bert_folder: Path) -> None:
    assert key(f"{bert_folder}?layers=1,2") != key(f"{bert_folder}?layers=2,1")


def test_digests_are_remembered_in_the_users_cache(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = key(str(bert_folder))
    memory = tmp_path / "fec" / "file-digests.json"
    known = json.loads(memory.read_text())
    weights = (bert_folder / "model.safetensors").resolve()
    (digest,) = (value for place, value in known.items() if place.startswith(f"{weights}:"))
    assert digest == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert not list(memory.parent.glob("*.tmp"))
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", None)  # nothing is read again
        assert key(str(bert_folder)) == before


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "null"])
def test_a_broken_memory_of_digests_is_made_anew(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    before = key(str(bert_folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "fec").mkdir()
    (tmp_path / "fec" / "file-digests.json").write_text(content)
    assert key(str(bert_folder)) == before
    assert isinstance(json.loads((tmp_path / "fec" / "file-digests.json").read_text()), dict)


def test_a_cache_that_can_not_be_written_only_costs_time(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = key(str(bert_folder))
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert key(str(bert_folder)) == before
