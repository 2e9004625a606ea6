"""Encoders and heads that are Python objects: trained, saved, loaded."""

import json
from pathlib import Path
from string import ascii_lowercase, digits
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from torch import Tensor, nn

from fusion_classifier import FunctionEncoder, FusionClassifier, FusionHeadClassifier, PrecomputedEncoder
from fusion_classifier.classifier.folder import load_model
from fusion_classifier.errors import DataError, FecError, UsageError, WeightsError

TEXTS = [f"{word} {i}" for i in range(12) for word in ("we won", "he broke it", "it is dark")]
LABELS = ["joy", "anger", "fear"] * 12


def letters(texts: list[str]) -> np.ndarray:
    """How often each letter and digit is in a text: (N, 36)."""
    return np.array([[text.count(one) for one in ascii_lowercase + digits] for text in texts], dtype=np.float32)


class Tiny(nn.Module):
    """A head of one's own."""

    def __init__(self, shapes: Any, n_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(sum(shape.layers * shape.width for shape in shapes.values()), n_classes)

    def forward(self, batch: Any) -> Tensor:
        logits: Tensor = self.linear(torch.cat([feature.flatten(1).float() for feature in batch.values()], dim=1))
        return logits


@pytest.fixture
def counts() -> FunctionEncoder:
    return FunctionEncoder(letters, name="letters", version="1")


def classifier(encoders: Any, tmp_path: Path, **more: Any) -> FusionClassifier:
    more = {"head": "linear", "training": {"max_epochs": 60, "learning_rate": 1e-2}} | more
    return FusionClassifier(encoders, store=tmp_path / "store", **more)


def test_a_function_is_an_encoder(counts: FunctionEncoder, tmp_path: Path) -> None:
    fitted = classifier(counts, tmp_path).fit(TEXTS, LABELS)
    assert fitted.score(TEXTS, LABELS) == 1
    assert fitted.explain("we won").label == "joy"
    assert clone(fitted).fit(TEXTS, LABELS).predict(TEXTS[:2]).tolist() == ["joy", "anger"]


def test_beside_an_encoder_with_a_name(counts: FunctionEncoder, bert_folder: Path, tmp_path: Path) -> None:
    fitted = classifier([str(bert_folder), counts], tmp_path).fit(TEXTS, LABELS)
    assert [saved.config.name for saved in fitted.config_.encoders] == [bert_folder.name, "letters"]
    assert fitted.score(TEXTS, LABELS) > 0.9


def test_features_computed_elsewhere(tmp_path: Path) -> None:
    fitted = classifier(PrecomputedEncoder(TEXTS, letters(TEXTS)), tmp_path).fit(TEXTS, LABELS)
    assert fitted.score(TEXTS, LABELS) == 1
    with pytest.raises(DataError, match="no features"):
        fitted.predict(["another text"])


def test_features_of_further_texts_fit_a_saved_classifier(tmp_path: Path) -> None:
    computed = PrecomputedEncoder(TEXTS, letters(TEXTS), version="1")
    fitted, new = classifier(computed, tmp_path).fit(TEXTS, LABELS), ["we won again", "it is so dark"]
    with pytest.warns(UserWarning, match="precomputed"):
        fitted.save_pretrained(tmp_path / "model")
    further = PrecomputedEncoder(new, letters(new), version="1")
    loaded = FusionClassifier.from_pretrained(tmp_path / "model", encoders={"precomputed": further})
    assert loaded.predict(new).tolist() == ["joy", "fear"]
    other = PrecomputedEncoder(new, letters(new))
    with pytest.raises(FecError, match=r"encoders\['precomputed'\].*version"):
        FusionClassifier.from_pretrained(tmp_path / "model", encoders={"precomputed": other})


@pytest.mark.parametrize("encoders", [[], [3], [letters], ["minilm-l6", "minilm-l6"]])
def test_what_is_no_encoder_is_named(encoders: list[Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="encoders"):
        classifier(encoders, tmp_path).fit(TEXTS, LABELS)


def test_an_object_is_not_saved_and_has_to_be_given(counts: FunctionEncoder, tmp_path: Path) -> None:
    fitted, folder = classifier(counts, tmp_path).fit(TEXTS, LABELS), tmp_path / "model"
    with pytest.warns(UserWarning, match=r"encoder letters.*from_pretrained\(…, encoders=\{'letters': …\}\)"):
        fitted.save_pretrained(folder)
    assert "letters" in (folder / "README.md").read_text("utf-8")
    assert "encoders={'letters': …}" in (folder / "README.md").read_text("utf-8")
    with pytest.raises(WeightsError, match=r"letters.*encoders=\{'letters'"):
        FusionClassifier.from_pretrained(folder)
    with pytest.raises(UsageError, match=r"encoders\['others'\].*letters"):
        FusionClassifier.from_pretrained(folder, encoders={"others": counts})
    for other in (FunctionEncoder(letters, "letters", "2"), FunctionEncoder(letters, "others", "1")):
        with pytest.raises(FecError, match=r"encoders\['letters'\].*not the encoder"):
            FusionClassifier.from_pretrained(folder, encoders={"letters": other})
    loaded = FusionClassifier.from_pretrained(folder, encoders={"letters": counts})
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), fitted.predict_proba(TEXTS), atol=1e-3)
    assert clone(loaded).set_params(store=tmp_path / "store").fit(TEXTS, LABELS).score(TEXTS, LABELS) > 0.9


def test_a_scikit_learn_classifier_is_a_head(counts: FunctionEncoder, tmp_path: Path) -> None:
    pytest.importorskip("skops")
    head = LogisticRegression(C=10)
    fitted = classifier(counts, tmp_path, head=head, training=None).fit(TEXTS, LABELS, sample_weight=[1, 2, 3] * 12)
    assert fitted.score(TEXTS, LABELS) == 1
    assert not hasattr(head, "coef_")  # it was cloned
    search = GridSearchCV(clone(fitted), {"head__C": [1e-6, 10.0]}, cv=2, error_score="raise").fit(TEXTS, LABELS)
    assert search.best_params_["head__C"] == search.best_estimator_.head_.classifier.C
    with pytest.warns(UserWarning, match="letters"):
        fitted.save_pretrained(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "README.md",
        "config.json",
        "head.skops",
        "known.safetensors",
    }
    loaded = FusionClassifier.from_pretrained(tmp_path / "model", encoders={"letters": counts})
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), fitted.predict_proba(TEXTS), atol=1e-3)
    assert clone(loaded).set_params(store=tmp_path / "store").fit(TEXTS, LABELS).score(TEXTS, LABELS) > 0.9


def test_a_torch_module_is_a_head(bert_folder: Path, tmp_path: Path) -> None:
    fitted = classifier(f"{bert_folder}?dtype=float32", tmp_path, head=Tiny).fit(TEXTS, LABELS)
    with pytest.warns(UserWarning, match="head=Tiny"):
        fitted.save_pretrained(tmp_path / "model")
    assert "head=Tiny" in (tmp_path / "model" / "README.md").read_text("utf-8")
    with pytest.raises(UsageError, match="head=Tiny"):
        FusionClassifier.from_pretrained(tmp_path / "model")
    loaded = FusionClassifier.from_pretrained(tmp_path / "model", head=Tiny)
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), fitted.predict_proba(TEXTS), atol=1e-3)


def test_heads_of_features_of_ones_own(tmp_path: Path) -> None:
    X = letters(TEXTS)
    for head in (LogisticRegression(), Tiny, "linear"):
        fitted = FusionHeadClassifier(head).fit(X, LABELS)
        folder = tmp_path / type(head).__name__
        if head is Tiny:
            with pytest.warns(UserWarning, match=r"FusionHeadClassifier\.from_pretrained\(…, head=Tiny\)"):
                fitted.save_pretrained(folder)
        else:
            fitted.save_pretrained(folder)
        loaded = FusionHeadClassifier.from_pretrained(folder, head=Tiny if head is Tiny else None)
        np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
        assert clone(loaded).fit(X, LABELS).score(X, LABELS) > 0.5


def test_a_saved_object_says_so(counts: FunctionEncoder, tmp_path: Path) -> None:
    fitted = classifier(counts, tmp_path).fit(TEXTS, LABELS)
    with pytest.warns(UserWarning, match="letters"):
        fitted.save_pretrained(tmp_path / "model")
    described = json.loads((tmp_path / "model" / "config.json").read_text("utf-8"))
    assert described["encoders"][0]["is_object"] is True
    assert load_model(tmp_path / "model").config == fitted.config_
