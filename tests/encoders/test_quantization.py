"""Encoders with weights of 8 bits: half as large, nearly the same, another key."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.loading import load_encoder
from fusion_classifier.encoders.reordered import ReorderedLinear
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.errors import UsageError
from fusion_classifier.tasks.named.demo import Demo

CPU = torch.device("cpu")


def weight_bytes(model: nn.Module) -> int:
    """Of linear layers, with the scales."""
    blocks = sum(2 * p.in_features * p.out_features for p in model.modules() if isinstance(p, ReorderedLinear))
    weights = [part.weight for part in model.modules() if isinstance(part, nn.Linear)]
    parts = [
        [getattr(weight, name) for name in weight.tensor_data_names]
        if hasattr(weight, "tensor_data_names")
        else [weight]
        for weight in weights
    ]
    return blocks + sum(tensor.nbytes for tensors in parts for tensor in tensors)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["minilm-l6", "smollm2-135m"])
def test_real_weights_in_8_bits_are_half_as_large(name: str) -> None:
    pytest.importorskip("torchao")
    texts = Demo().load().split("valid").texts[:24]
    plain = load_encoder(parse_encoder(f"{name}?dtype=bfloat16"), CPU)
    small = load_encoder(parse_encoder(f"{name}?dtype=bfloat16&quantization=int8"), CPU)
    assert 0.5 <= weight_bytes(small.model) / weight_bytes(plain.model) < 0.52
    a, b = (np.stack(encode(e, texts)).reshape(len(texts), -1).astype(np.float64) for e in (plain, small))
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert cosines.min() > 0.99
    assert not np.array_equal(a, b)


def test_8_bits_are_another_key_and_no_other_changes() -> None:
    plain, small = (identify(parse_encoder(f"minilm-l6{more}"), CPU) for more in ("", "?quantization=int8"))
    assert plain.key != small.key
    assert "quantization" not in plain.settings
    assert small.config.name == "minilm-l6?quantization=int8"


def test_without_torchao_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> object:
        return None if name == "torchao" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(UsageError, match=r"needs torchao: pip install .*\[int8\]"):
        load_encoder(parse_encoder("minilm-l6?quantization=int8"), CPU)


def test_a_width_that_is_not_offered_is_refused() -> None:
    with pytest.raises(UsageError, match="quantization"):
        parse_encoder("minilm-l6?quantization=int4")


@pytest.mark.slow
def test_torchao_adds_nothing_to_what_a_command_prints(tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    command = ["extract", "demo", "-e", "minilm-l6?quantization=int8", "--limit", "8", "--store", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "fusion_classifier", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "encoded now" in done.stdout
    assert all(line.startswith(("encoding with minilm-l6", "the names of")) for line in done.stderr.splitlines()), (
        done.stderr
    )
