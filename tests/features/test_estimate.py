"""The cost of an extraction, estimated before it."""

from pathlib import Path

import pytest
import torch

from fusion_classifier.encoders.loading import load_encoder
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.features.estimate import Cost, estimate

CPU = torch.device("cpu")


def test_bytes_are_those_of_all_texts(bert_folder: Path) -> None:
    """Half of the texts are long: a sample of one length would be wrong."""
    encoder = load_encoder(parse_encoder(f"{bert_folder}?dtype=float32&pooling=tokens"), CPU)
    texts = ["a"] * 400 + ["a" * 96] * 400
    cost = estimate(encoder, texts)
    assert cost is not None
    layers, width = encoder.shape
    assert cost.bytes == pytest.approx(400 * (3 + 98) * layers * width * 2)
    assert cost.pooled_bytes == pytest.approx(800 * layers * width * 2)
    assert cost.seconds > 0
    assert estimate(encoder, texts[:40]) is None


def test_only_minutes_and_gigabytes_are_told() -> None:
    assert Cost("a", 1000, 60, 1e8, 1e6).note is None
    slow = Cost("a", 1000, 1800, 1e8, 1e6).note
    assert slow is not None
    assert "about 30 min 00 s and 100.0 MB" in slow
    assert "`max_length`" in slow
    assert "pooled" not in slow
    large = Cost("a", 1000, 60, 3e9, 2e6).note
    assert large is not None
    assert "3.0 MB per text" in large
    assert "`pooling` mean: 2.0 MB" in large
    assert "fec project" in large
