"""What a line of predictions says."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_classifier.commands.predict import as_pipeline, model_and_texts
from fusion_classifier.errors import UsageError
from fusion_classifier.training.decision import Decision

NAMES = ("anger", "fear", "joy")


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), abstain=st.floats(0, 1), top_k=st.sampled_from([None, 1, 2, 5]))
def test_below_the_confidence_asked_for_the_label_is_null(seed: int, abstain: float, top_k: int | None) -> None:
    row = np.random.default_rng(seed).dirichlet(np.ones(3)).astype(np.float32)
    found = as_pipeline(row, NAMES, Decision(), top_k, abstain)
    best = {"label": NAMES[row.argmax()], "score": float(row.max())}
    if row.max() < abstain:
        silent = {"label": None, "score": float(row.max())}
        assert found == (silent if top_k is None else [silent])
    elif top_k is None:
        assert found == best
    else:
        assert isinstance(found, list)
        assert found[0] == best
        assert len(found) == min(top_k, 3)
        scores = [answer["score"] for answer in found]
        assert scores == sorted(scores, reverse=True)


def test_labels_over_their_thresholds_are_given_best_first() -> None:
    decision = Decision(thresholds=(0.5, 0.1, 0.9))
    found = as_pipeline(np.array([0.6, 0.7, 0.8], dtype=np.float32), NAMES, decision, None, None)
    assert isinstance(found, list)
    assert [answer["label"] for answer in found] == ["fear", "anger"]


def test_the_first_word_is_the_model_where_it_is_one(tmp_path: Path) -> None:
    folder = str(tmp_path)
    assert model_and_texts([folder, "a text"], None, has_file=False) == (folder, ["a text"])
    assert model_and_texts(["go-emotions", "a text"], None, has_file=False) == ("go-emotions", ["a text"])
    assert model_and_texts([folder], None, has_file=True) == (folder, [])
    assert model_and_texts(["owner/model", "a text"], None, has_file=False) == ("owner/model", ["a text"])  # Hub


@pytest.mark.parametrize(
    "words",
    [
        ["what a day!"],
        ["what a day!", "wonderful"],
        ["wonderful"],
        ["嬉しいです"],
        ["so happy " * 100],  # longer than a path may be
        ["~nobody says so"],  # no user's home
        [""],
    ],
)
def test_texts_alone_go_to_the_model_of_the_package(words: list[str]) -> None:
    assert model_and_texts(words, None, has_file=False) == ("go-emotions", words)
    assert model_and_texts(words, "go-emotions", has_file=False) == ("go-emotions", words)


@pytest.mark.parametrize(
    ("words", "has_file"), [(["./runs/rewiews", "a text"], False), (["runs/x"], False), (["rewiews"], True)]
)
def test_a_mistyped_model_is_not_taken_for_a_text(words: list[str], has_file: bool) -> None:
    with pytest.raises(UsageError, match=r"no such model folder.*--model go-emotions"):
        model_and_texts(words, None, has_file=has_file)
    assert model_and_texts(words, "go-emotions", has_file=has_file) == ("go-emotions", words)
