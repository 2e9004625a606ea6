"""The device that computes."""

import os

import pytest
import torch

from fusion_classifier.encoders.device import resolve_device

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


def test_cublas_is_set_before_the_first_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch reads the setting once, at the first product of the process; later it would be too late for training."""
    monkeypatch.setenv(CUBLAS, "")  # so that it is restored
    monkeypatch.delenv(CUBLAS)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("cpu").type == "cpu"
    assert CUBLAS not in os.environ
    assert resolve_device("auto").type == "cuda"
    assert os.environ[CUBLAS] == ":4096:8"
    monkeypatch.setenv(CUBLAS, ":16:8")  # the user's
    resolve_device("cuda")
    assert os.environ[CUBLAS] == ":16:8"
