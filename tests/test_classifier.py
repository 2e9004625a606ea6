"""`FusionClassifier`, the Python way in."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from fusion_classifier import FusionClassifier
from fusion_classifier.errors import DataError, FecError

TEXTS = [f"{word} {i}" for i in range(12) for word in ("we won", "he broke it", "it is dark")]
LABELS = ["joy", "anger", "fear"] * 12


@pytest.fixture
def fitted(bert_folder: Path, tmp_path: Path) -> FusionClassifier:
    classifier = FusionClassifier(
        encoders=[f"{bert_folder}?dtype=float32"],
        head="linear",
        store=tmp_path / "store",
        training={"max_epochs": 25},
    )
    return classifier.fit(TEXTS, LABELS)


def test_it_learns_what_is_easy(fitted: FusionClassifier) -> None:
    assert fitted.classes_.tolist() == ["anger", "fear", "joy"]
    assert fitted.score(TEXTS, LABELS) > 0.9
    assert set(fitted.predict(["we won again"])) <= {"anger", "fear", "joy"}


def test_probabilities_have_a_column_a_class_and_sum_to_one(fitted: FusionClassifier) -> None:
    probabilities = fitted.predict_proba(TEXTS[:7])
    assert probabilities.shape == (7, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert (fitted.predict(TEXTS[:7]) == fitted.classes_[probabilities.argmax(1)]).all()


def test_saved_and_loaded_it_predicts_the_same(fitted: FusionClassifier, tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
    loaded = FusionClassifier.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS[:9]), fitted.predict_proba(TEXTS[:9]))
    assert loaded.classes_.tolist() == fitted.classes_.tolist()


def test_whole_numbers_as_labels_stay_numbers(bert_folder: Path, tmp_path: Path) -> None:
    numbers = np.array([{"joy": 5, "anger": 1, "fear": 3}[label] for label in LABELS])
    classifier = FusionClassifier([str(bert_folder)], store=tmp_path / "store").fit(TEXTS, numbers)
    classifier.save_pretrained(tmp_path / "model")
    loaded = FusionClassifier.from_pretrained(tmp_path / "model")
    assert loaded.classes_.tolist() == [1, 3, 5]
    assert loaded.predict(TEXTS[:2]).dtype.kind == "i"


def test_the_same_seed_gives_the_same_bits(bert_folder: Path, tmp_path: Path) -> None:
    runs = [
        FusionClassifier([str(bert_folder)], head="llmembed", training={"max_epochs": 2}, store=tmp_path / "store")
        .fit(TEXTS, LABELS)
        .predict_proba(TEXTS)
        for _ in range(2)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])


def test_parameters_follow_the_estimator_contract(bert_folder: Path) -> None:
    classifier = FusionClassifier([str(bert_folder)], head="llmembed", seed=3)
    copy = clone(classifier)
    assert copy.get_params() == classifier.get_params()
    with pytest.raises(NotFittedError):
        copy.predict(["a text"])
    with pytest.raises(NotFittedError):
        copy.save_pretrained("nowhere")


def test_validation_texts_may_be_given(bert_folder: Path, tmp_path: Path) -> None:
    classifier = FusionClassifier([str(bert_folder)], store=tmp_path / "store")
    classifier.fit(TEXTS[3:], LABELS[3:], X_valid=TEXTS[:3], y_valid=LABELS[:3])
    assert classifier.classes_.tolist() == ["anger", "fear", "joy"]
    with pytest.raises(DataError, match="'envy'"):
        classifier.fit(TEXTS[3:], LABELS[3:], X_valid=["oh"], y_valid=["envy"])


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ("one string", ["a"], "list of texts"),
        (["", "b"], ["x", "y"], "text 0 is empty"),
        (["a", None], ["x", "y"], "text 1 is None"),
        (["a", "b"], ["x"], "1 labels for 2 texts"),
        (["a"] * 12, ["x"] * 12, "two different labels"),
        (["a", "b"], ["x", "y"], "too few"),
    ],
)
def test_what_can_not_be_used_is_an_error_that_says_why(
    bert_folder: Path, texts: list[str], labels: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        FusionClassifier([str(bert_folder)]).fit(texts, labels)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FecError, match="not a model folder"):
        FusionClassifier.from_pretrained(tmp_path)


def test_a_damaged_model_is_refused_by_name(fitted: FusionClassifier, tmp_path: Path) -> None:
    model = tmp_path / "model"
    fitted.save_pretrained(model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"id2label": {"0": "a", "1": "b"}}))
    with pytest.raises(FecError, match=r"model\.safetensors"):
        FusionClassifier.from_pretrained(model)
    (model / "config.json").write_text(json.dumps(config | {"head": {"name": "unheard-of"}}))
    with pytest.raises(FecError, match="head"):
        FusionClassifier.from_pretrained(model)
    (model / "config.json").write_text("{")
    with pytest.raises(FecError, match=r"config\.json"):
        FusionClassifier.from_pretrained(model)
    (model / "config.json").write_text(json.dumps(config))
    (model / "model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(FecError, match=r"model\.safetensors"):
        FusionClassifier.from_pretrained(model)
