"""Predictions as lines and as files."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_classifier.commands.predict import Answers, as_pipeline, flat, writer
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


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), score=st.floats(-3, 3), top_k=st.sampled_from([None, 1, 2]))
def test_a_text_of_no_class_has_no_label_and_says_so(seed: int, score: float, top_k: int | None) -> None:
    row = np.random.default_rng(seed).dirichlet(np.ones(3)).astype(np.float32)
    plain = Answers(NAMES, Decision(), top_k).of(row, score)
    found = Answers(NAMES, Decision(), top_k, threshold=1.0).of(row, score)
    said = {"unknown": score > 1, "unknown_score": score}
    rejected = {"label": None, "score": float(row.max())}
    expected = plain if isinstance(plain, list) else [plain]
    expected = [one | said for one in ([rejected] if score > 1 else expected)]
    assert found == (expected if top_k else expected[0])
    columns = Answers(NAMES, Decision(), top_k, threshold=1.0).columns(lists=top_k is not None)
    assert list(flat(found)) == list(columns) == [*flat(plain), "unknown", "unknown_score"]


def test_true_and_false_in_a_csv_are_those_of_json(tmp_path: Path) -> None:
    answers = Answers(NAMES, Decision(), threshold=1.0)
    row = np.array([0.5, 0.25, 0.25], np.float32)
    with writer(tmp_path / "a.csv", "text", answers.columns(lists=False)) as write:
        write([{"text": text} | flat(answers.of(row, score)) for text, score in (("a", 2.0), ("b", 0.5))])
    lines = (tmp_path / "a.csv").read_text("utf-8").splitlines()
    assert lines == ["text,label,score,unknown,unknown_score", "a,,0.5,true,2.0", "b,anger,0.5,false,0.5"]


def test_offsets_decide_the_answer_and_leave_its_probability() -> None:
    row = np.array([0.6, 0.3, 0.1], dtype=np.float32)
    decision = Decision(offsets=(0.0, 0.0, 2.0))
    assert as_pipeline(row, NAMES, decision, None, None) == {"label": NAMES[2], "score": pytest.approx(0.1)}
    ranked = as_pipeline(row, NAMES, decision, 3, None)
    assert [one["label"] for one in ranked] == [NAMES[2], NAMES[0], NAMES[1]]
