"""`fec doctor`: what a bug report needs, and nothing that nobody should see."""

from pathlib import Path

import pytest
import torch

from fusion_classifier.commands.doctor import examine


def test_it_knows_versions_encoders_and_the_store(tmp_path: Path) -> None:
    found = examine(str(tmp_path / "store"))
    assert found["packages"]["torch"] == torch.__version__
    assert found["store"]["place"] == str(tmp_path / "store")
    assert found["store"]["features"] == "0.00 GB of 0 encoders"
    assert {"minilm-l6", "llama2-7b-chat"} <= set(found["encoders"])


def test_it_shows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a-secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    monkeypatch.setenv("FEC_API_KEY", "a-secret")
    assert "a-secret" not in str(examine(str(tmp_path)))
