"""One text by itself and many at once get the same answers."""

from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fusion_classifier import FusionClassifier
from fusion_classifier.classifier import saved_encoders
from fusion_classifier.features import store


@pytest.fixture(scope="module", params=["fusion", "linear"])
def classifier(
    request: pytest.FixtureRequest, bert_folder: Path, llama_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> FusionClassifier:
    texts = [f"{word} {i}" for i in range(12) for word in ("we won", "he broke it", "it is dark")]
    return FusionClassifier(
        [f"{folder}?dtype=float32&max_length=200" for folder in (bert_folder, llama_folder)],
        head=request.param,
        store=tmp_path_factory.mktemp("store"),
        training={"max_epochs": 5},
    ).fit(texts, ["joy", "anger", "fear"] * 12)


def test_a_text_has_the_same_probabilities_in_any_batch(classifier: FusionClassifier) -> None:
    lengths = [1, 2, 3, 7, 8, 9, 15, 16, 17, 40, 63, 64, 65, 130, 190, 260]
    texts = [("we won it and he broke it, " * 20)[-length:].strip() or "x" for length in lengths]
    together = classifier.predict_proba(texts)
    alone = np.concatenate([classifier.predict_proba([text]) for text in texts])
    few = np.concatenate([classifier.predict_proba(texts[i : i + 3]) for i in range(0, len(texts), 3)])
    np.testing.assert_allclose(alone, together, atol=1e-5)
    np.testing.assert_allclose(few, together, atol=1e-5)
    assert np.ptp(together, axis=0).max() > 1e-3, "texts must differ for this to tell anything"


@pytest.mark.parametrize("keep", [True, False])
def test_texts_that_lose_their_end_are_told(classifier: FusionClassifier, keep: bool) -> None:
    before, classifier.keep_features = classifier.keep_features, keep
    try:
        with pytest.warns(UserWarning, match=r"1 text longer than 200 tokens.*`max_length`.*`long` window"):
            classifier.predict(["we won", f"{keep} and on " * 40])
    finally:
        classifier.keep_features = before


def test_encoders_are_found_once_and_the_store_once_a_call(
    classifier: FusionClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Counter[str]()

    def counted(module: ModuleType, name: str) -> None:
        function = getattr(module, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    counted(saved_encoders, "identify")
    counted(saved_encoders, "locate")
    counted(store, "hashes_in")
    texts = [f"we won {i} times" for i in range(40)]
    monkeypatch.setattr("fusion_classifier.classifier.text_classifier.CHUNK_TEXTS", 10)
    classifier.predict(texts)
    calls.clear()
    for _ in range(3):
        classifier.predict(texts)
    assert calls == {"hashes_in": 3 * 2}  # for each of two encoders


def test_a_single_text_leaves_the_store_as_it_is(classifier: FusionClassifier) -> None:
    def versions() -> dict[str, int]:
        return {str(path): len(list(path.iterdir())) for path in Path(str(classifier.store)).rglob("_versions")}

    before = versions()
    assert len(before) == 2
    for number in range(5):
        classifier.predict([f"one text, number {number}"])
    assert versions() == before
    classifier.predict(["two new texts", "in one call"])
    assert versions() == {path: count + 1 for path, count in before.items()}
