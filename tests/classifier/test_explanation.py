"""Words by Unicode's rules, each left out in turn."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_classifier import FusionClassifier
from fusion_classifier.classifier.explanation import (
    NOTHING,
    Explanation,
    Word,
    explanations,
    grouped,
    occlude,
    without,
    word_spans,
)
from fusion_classifier.classifier.models import DEFAULT_MODEL
from fusion_classifier.cli.main import app
from fusion_classifier.config import DEFAULT_HEAD
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.tasks.named.demo import Demo
from fusion_classifier.training.decision import Decision

pytestmark = pytest.mark.slow  # many commands or trainings

TEXT = "After the long meeting on Tuesday I was so grateful to the driver."


@pytest.fixture
def classifier(demo_classifier: FusionClassifier) -> FusionClassifier:
    """Real weights, a head trained on the demo corpus."""
    return demo_classifier


@pytest.fixture(scope="module")
def several(minilm: str, tmp_path_factory: pytest.TempPathFactory) -> FusionClassifier:
    """The same for any number of labels a text."""
    task = Demo().load()
    labels = [[task.labels[i]] for i in task.targets("train")]
    store = tmp_path_factory.mktemp("store")
    return FusionClassifier([minilm], head="linear", store=store).fit(task.split("train").texts, labels)


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in word_spans(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("I can't believe it's over!!! 😭😭", ["I", "can't", "believe", "it's", "over", "!!!", "😭😭"]),
        ("A well-known, self-made man - 3.5 m", ["A", "well-known", ",", "self-made", "man", "-", "3.5", "m"]),
        ("-5 and - and a- and -b", ["-", "5", "and", "-", "and", "a", "-", "and", "-", "b"]),
        ("今日は嬉しい。", ["今", "日", "は", "嬉", "し", "い", "。"]),
        ("आज मैं बहुत खुश हूँ", ["आज", "मैं", "बहुत", "खुश", "हूँ"]),
        ("cafe\u0301 👩‍👩‍👧 :-) #1", ["cafe\u0301", "👩‍👩‍👧", ":-)", "#", "1"]),
        ("  \n\t", []),
    ],
)
def test_words_are_those_of_unicode_marks_and_emoji_apart(text: str, found: list[str]) -> None:
    assert words(text) == found


@settings(deadline=None, max_examples=300)
@given(text=st.text(max_size=60), most=st.integers(1, 12))
def test_spans_and_white_space_make_up_the_text(text: str, most: int) -> None:
    every = word_spans(text)
    for spans in (every, grouped(every, most)):
        position, rebuilt = 0, ""
        for start, end in spans:
            assert position <= start < end
            assert not text[position:start].strip()
            rebuilt += text[position:start] + text[start:end]
            position = end
        assert rebuilt + text[position:] == text
        assert not text[position:].strip()
    assert len(grouped(every, most)) == min(most, len(every))


@settings(deadline=None, max_examples=300)
@given(text=st.text(max_size=60).filter(str.strip))
def test_without_a_word_all_other_words_are_left_to_the_letter(text: str) -> None:
    for start, end in word_spans(text):
        rest = without(text, (start, end))
        kept = (text[:start] + text[end:]).split()
        assert rest.split() == (kept or [NOTHING])


def test_the_weight_is_the_drop_in_log_odds() -> None:
    """A model that counts the letter a and reads six words."""
    text = "banana b  an c a d aaaa aaa"
    found = occlude(text, lambda part: len(part.split()) > 6)
    assert not any("aaa" in one for one in found.texts)
    counts = [[float(one.count("a")), 0.0] for one in found.texts]
    a, _ = explanations(found, np.array(counts), ["a", "nothing"])
    assert [word.weight for word in a.words] == [3, 0, 1, 0, 1, 0, 0]
    assert (a.words[-1].text, a.words[-1].end) == ("aaaa aaa", len(text))


@pytest.mark.parametrize("text", ["", "  \n", None])
def test_an_empty_text_is_an_error(text: str) -> None:
    with pytest.raises(DataError, match="text to explain"):
        occlude(text, lambda _: False)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), multilabel=st.booleans())
def test_log_odds_are_those_of_the_probabilities(seed: int, multilabel: bool) -> None:
    import torch

    logits = torch.from_numpy(np.random.default_rng(seed).normal(0, 3, (4, 5)))
    decision = Decision(temperature=1.7, beta=0 if multilabel else 0.4, thresholds=(0.5,) * 5 if multilabel else None)
    p = decision.probabilities(logits).astype(np.float64)
    assert decision.log_odds(logits) == pytest.approx(np.log(p) - np.log1p(-p), abs=1e-3)


def test_the_one_emotional_word_has_the_greatest_weight(classifier: FusionClassifier) -> None:
    found = classifier.explain(TEXT)
    assert found.label == "gratitude" == classifier.predict([TEXT])[0]
    assert found.probability == pytest.approx(classifier.predict_proba([TEXT]).max(), abs=0.02)
    assert max(found.words, key=lambda word: word.weight).text == "grateful"
    assert all(TEXT[word.start : word.end] == word.text for word in found.words)
    (weight,) = [word.weight for word in found.words if word.text == "grateful"]
    column = list(classifier.classes_).index("gratitude")
    p, q = classifier.predict_proba([TEXT, TEXT.replace("grateful ", "")])[:, column].astype(np.float64)
    assert weight == pytest.approx(np.log(p / (1 - p)) - np.log(q / (1 - q)), abs=0.2)  # bfloat16


def test_every_label_can_be_explained(classifier: FusionClassifier) -> None:
    every = classifier.explain_labels(TEXT)
    assert sorted(one.label for one in every) == sorted(classifier.classes_)
    assert [one.probability for one in every] == sorted((one.probability for one in every), reverse=True)
    anger = classifier.explain(TEXT, "anger")
    assert anger == next(one for one in every if one.label == "anger")
    assert next(word.weight for word in anger.words if word.text == "grateful") < 0
    with pytest.raises(UsageError, match=r"`label`: 'love'.* anger, .*, surprise"):
        classifier.explain(TEXT, "love")


def test_several_labels_a_text(several: FusionClassifier) -> None:
    found = several.explain(TEXT)
    assert found.label == "gratitude"
    assert max(found.words, key=lambda word: word.weight).text == "grateful"


def test_a_long_text_costs_no_more_than_the_spans_asked_for(
    classifier: FusionClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    logits = classifier.predict_logits

    def counted(texts: Sequence[str]) -> object:
        asked.append(len(texts))
        return logits(texts)

    monkeypatch.setattr(classifier, "predict_logits", counted)
    text = "word " * 5000 + TEXT
    found = classifier.explain(text, max_spans=4)
    assert asked == [5]
    assert len(found.words) == 5
    assert (found.words[-1].weight, found.words[-1].end) == (0.0, len(text))
    assert 0 < found.words[-1].start < 5 * 256  # what max length cuts off
    assert len(classifier.explain("joy").words) == 1


@pytest.fixture
def saved(classifier: FusionClassifier, tmp_path: Path) -> str:
    classifier.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_the_command_prints_json_with_offsets_and_a_table(saved: str, minilm: str) -> None:
    from typer.testing import CliRunner

    done = CliRunner().invoke(app, ["explain", "--model", saved, TEXT, "--label", "joy", "--json", "-e", minilm])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["text"], found["label"]) == (TEXT, "joy")
    assert [TEXT[word["start"] : word["end"]] for word in found["words"]] == words(TEXT)
    table = CliRunner().invoke(app, ["explain", "--model", saved, TEXT, "-e", minilm])
    assert table.exit_code == 0, table.output
    assert "gratitude" in table.stdout
    assert "grateful" in table.stdout


def test_the_default_head_is_explained(bert_folder: Path, tmp_path: Path) -> None:
    """Weights are the differences of its log-odds without each word."""
    texts = [f"{text} {i}" for i in range(6) for text in ("we won", "he broke it", "it is dark")]
    classifier = FusionClassifier([f"{bert_folder}?dtype=float32"], store=tmp_path, training={"max_epochs": 2})
    classifier.fit(texts, ["joy", "anger", "fear"] * 6).set_params(keep_features=False)
    assert classifier.config_.head.name == DEFAULT_HEAD
    found = classifier.explain("we won 1", "joy")
    assert [word.text for word in found.words] == ["we", "won", "1"]
    p = classifier.predict_proba(["we won 1", "won 1", "we 1", "we won"])[:, 2].astype(np.float64)
    log_odds = np.log(p) - np.log1p(-p)
    np.testing.assert_allclose([word.weight for word in found.words], log_odds[0] - log_odds[1:], atol=1e-2)
    assert found.probability == pytest.approx(p[0], abs=1e-4)

    # In a notebook.
    html = classifier._repr_mimebundle_()["text/html"]
    assert "3: anger, fear, joy" in html
    assert DEFAULT_HEAD in html
    assert f"{100 * classifier.config_.members[0].accuracy:.1f}" in html
    assert "text/html" in FusionClassifier()._repr_mimebundle_(), "scikit-learn's, before it is fitted"


def test_in_a_notebook_words_are_shaded_and_escaped() -> None:
    found = Explanation("so <b> sad", "a&b", 0.5, (Word("<b>", 3, 6, 2.0), Word("sad", 7, 10, -1.0)))
    html = found._repr_html_()
    assert "<b>a&amp;b</b> 50.0%" in html
    assert 'so <span style="background:rgba(255, 140, 0, 0.60)" title="+2.00">&lt;b&gt;</span> ' in html
    assert 'rgba(60, 120, 255, 0.30)" title="-1.00">sad</span></p>' in html


def test_in_a_notebook_a_model_shows_scores() -> None:
    html = FusionClassifier.from_pretrained(DEFAULT_MODEL)._repr_html_()
    assert "27: admiration" in html
    assert "test, %" in html
    assert "weighted F1" in html
