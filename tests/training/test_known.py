"""Unknown texts: the score against its definition, its threshold against the wanted rate, its file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from fusion_classifier.errors import FecError, UsageError
from fusion_classifier.training.known import KNOWN_FILE, NEIGHBOURS, KnownTexts, nearest, projected, unit

WIDTH = 12


def known_texts(seed: int = 0, texts: int = 40, scores: int = 99) -> KnownTexts:
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(WIDTH, 5)))[0].astype(np.float16)
    vectors = rng.integers(-127, 128, size=(texts, 5)).astype(np.int8)
    centre, spread = np.array([-2, -0.8, 0], np.float32), np.array([1.5, 0.1, 1.2], np.float32)
    return KnownTexts(basis, vectors, centre, spread, np.sort(rng.normal(size=scores)).astype(np.float32))


def test_the_score_is_what_its_definition_says() -> None:
    known, rng = known_texts(), np.random.default_rng(1)
    x, log_odds = rng.normal(size=(2500, WIDTH)).astype(np.float32), rng.normal(size=(2500, 3))
    vectors, directions = known.vectors.astype(np.float64), known.basis.astype(np.float64)
    # The cosine to a text, both with all their parts: the stored text has none outside the directions.
    neighbours = NearestNeighbors(n_neighbors=NEIGHBOURS, metric="cosine").fit(vectors @ directions.T)
    distance, _ = neighbours.kneighbors(x.astype(np.float64))
    doubt = (-log_odds.max(1) - known.centre[0]) / known.spread[0]
    far = (distance.mean(1) - 1 - known.centre[1]) / known.spread[1]
    expected = (doubt + far - known.centre[2]) / known.spread[2]
    np.testing.assert_allclose(known.score(x, log_odds), expected, atol=0.02)  # directions are float16
    assert known.score(x[:0], log_odds[:0]).shape == (0,)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), scores=st.integers(1, 300), rate=st.floats(0.001, 0.999))
def test_at_most_the_rate_of_known_texts_is_above(seed: int, scores: int, rate: float) -> None:
    """Of n held-out texts and the next one each order is equally likely: the next is above ⌊rate (n + 1)⌋ at most."""
    known = known_texts(seed, scores=scores)
    above = int((known.scores > known.threshold(rate)).sum())
    if rate >= known.least_rate:
        assert above + 1 <= rate * (scores + 1) + 1e-6
        assert above + 2 > rate * (scores + 1) - 1e-6, "no stricter than it must be"
        assert known.note(rate) is None
    else:
        assert known.threshold(rate) == known.scores[-1]
        assert f"{scores:,} held-out texts" in str(known.note(rate))


@pytest.mark.parametrize("rate", [0, 1, -0.1, float("nan"), True])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    with pytest.raises(UsageError, match="`reject_unknown`"):
        known_texts().threshold(rate)


def test_a_text_is_not_its_own_neighbour() -> None:
    stored = unit(np.random.default_rng(0).normal(size=(1500, 6)).astype(np.float32))
    found = nearest(stored, stored, own=np.arange(1500))
    cosines = stored.astype(np.float64) @ stored.T.astype(np.float64) - 3 * np.eye(1500)
    np.testing.assert_allclose(found, np.sort(cosines, 1)[:, -NEIGHBOURS:].mean(1), atol=1e-6)
    assert nearest(stored[:1], stored[:1], own=np.arange(1)) == pytest.approx(1), "a single text has no other"


def test_what_lies_in_no_direction_makes_a_text_stranger() -> None:
    directions = np.eye(4, 2, dtype=np.float32)
    within, beside = projected(np.array([[3, 0, 0, 0], [3, 0, 4, 0]], np.float32), directions)
    assert within.tolist() == [1, 0]
    assert beside.tolist() == pytest.approx([0.6, 0])


def test_a_file_gives_the_same_scores(tmp_path: Path) -> None:
    known = known_texts()
    known.save(tmp_path)
    again = KnownTexts.load(tmp_path, WIDTH)
    assert again is not None
    x, log_odds = torch.randn(20, WIDTH).numpy(), np.zeros((20, 2))
    np.testing.assert_array_equal(again.score(x, log_odds), known.score(x, log_odds))
    assert again.threshold(0.1) == known.threshold(0.1)
    assert KnownTexts.load(tmp_path / "elsewhere", WIDTH) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"basis": np.zeros((WIDTH + 1, 5), np.float16)},
        {"vectors": np.zeros((3, 4), np.int8)},
        {"vectors": np.zeros(3, np.int8)},
        {"scores": np.zeros(0, np.float32)},
        {"scores": np.full(3, np.nan, np.float32)},
        {"spread": np.zeros(3, np.float32)},
    ],
)
def test_a_file_of_another_model_is_refused(tmp_path: Path, changes: dict[str, np.ndarray]) -> None:
    known = known_texts()
    KnownTexts(**{**vars(known), **changes}).save(tmp_path)
    with pytest.raises(FecError, match=KNOWN_FILE):
        KnownTexts.load(tmp_path, WIDTH)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / KNOWN_FILE).write_bytes(b"no tensors")
    with pytest.raises(FecError, match=KNOWN_FILE):
        KnownTexts.load(tmp_path, WIDTH)
