"""Predictions as lines and as files."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_classifier.commands.predict import as_pipeline
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
