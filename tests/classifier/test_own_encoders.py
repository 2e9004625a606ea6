"""Classifiers on encoders that are Python objects."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from fusion_classifier import FunctionEncoder, FusionClassifier, PrecomputedEncoder
from fusion_classifier.errors import DataError, FecError

WORDS = ("sun", "dry", "clear", "rain", "wet", "storm")
TEXTS = [f"{word} {place}" for word in WORDS for place in ("here", "there", "north", "south", "at sea", "in town")]
LABELS = ["no" if text.split()[0] in WORDS[:3] else "yes" for text in TEXTS]


def count(texts: list[str]) -> np.ndarray:
    return np.array([[text.count(word) for word in WORDS] for text in texts])


def test_an_object_is_one_encoder_among_others(bert_folder: Path, tmp_path: Path) -> None:
    mine = FunctionEncoder(count, "words", "1")
    classifier = FusionClassifier([mine, f"{bert_folder}?dtype=float32"], head="linear", store=tmp_path)
    classifier.fit(TEXTS, LABELS)
    assert classifier.predict(["rain and storm", "dry and clear"]).tolist() == ["yes", "no"]


def test_a_saved_classifier_asks_for_its_object(tmp_path: Path) -> None:
    mine = FunctionEncoder(count, "words", "1")
    classifier = FusionClassifier(mine, head="linear", store=tmp_path / "store").fit(TEXTS, LABELS)
    with pytest.warns(UserWarning, match="encoders=.*'words'"):
        classifier.save_pretrained(tmp_path / "model")
    again = FusionClassifier.from_pretrained(tmp_path / "model", encoders={"words": mine})
    np.testing.assert_array_equal(again.predict_proba(TEXTS), classifier.predict_proba(TEXTS))
    with pytest.raises(FecError, match=r"words.*from_pretrained"):
        FusionClassifier.from_pretrained(tmp_path / "model").predict(TEXTS)
    changed = {"words": FunctionEncoder(count, "words", "2")}
    with pytest.raises(FecError, match="words"):
        FusionClassifier.from_pretrained(tmp_path / "model", encoders=changed).predict(TEXTS)


def test_a_text_without_features_is_named_by_its_index(tmp_path: Path) -> None:
    known = [text for text in TEXTS if text != "rain there"]
    computed = PrecomputedEncoder(known, count(known))
    classifier = FusionClassifier(computed, head="linear", store=tmp_path)
    with pytest.raises(DataError, match=rf"`X\[{TEXTS.index('rain there')}\]`.*'rain there'"):
        classifier.fit(TEXTS, LABELS)
    with warnings.catch_warnings(action="error"):
        classifier.fit(known, [LABELS[TEXTS.index(text)] for text in known])
    with pytest.raises(DataError, match="'rain there'"):
        classifier.predict(["sun here", "rain there"])
