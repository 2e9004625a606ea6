"""Folds: a partition that keeps equal rows together and spreads the labels."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_classifier.fusion.folds import ALWAYS, FOLDS, fold_numbers, sample

SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed: int, rows: int, different: int, labels: int, *, several: bool) -> tuple[np.ndarray, np.ndarray]:
    """Rows of which at most so many are different, and labels that any two equal rows may disagree on."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((different, 3)).astype(np.float32)[generator.integers(0, different, rows)]
    if several:
        return x, (generator.random((rows, labels)) < 0.3).astype(np.int64)
    return x, generator.integers(0, labels, rows)


@given(SEEDS, st.integers(1, 80), st.integers(1, 80), st.integers(1, 6), st.integers(0, 6), st.booleans())
@settings(max_examples=100, deadline=None)
def test_every_text_is_in_one_fold_and_names_in_none(
    seed: int, rows: int, different: int, labels: int, names: int, several: bool
) -> None:
    x, targets = drawn(seed, rows + names, different, labels, several=several)
    folds = fold_numbers(x, targets, seed, names)
    assert folds.shape == (rows + names,)
    assert folds.dtype == np.int64
    assert ((folds[:rows] >= 0) & (folds[:rows] < FOLDS)).all()
    assert (folds[rows:] == ALWAYS).all()


@given(SEEDS, st.integers(1, 80), st.integers(1, 20), st.booleans())
@settings(max_examples=100, deadline=None)
def test_equal_rows_are_in_the_same_fold(seed: int, rows: int, different: int, several: bool) -> None:
    x, targets = drawn(seed, rows, different, 3, several=several)
    folds = fold_numbers(x, targets, seed)
    for row in np.unique(x, axis=0):
        assert len(set(folds[(x == row).all(1)].tolist())) == 1


@given(SEEDS, st.integers(1, 80), st.integers(1, 40), st.integers(1, 40), st.booleans())
@settings(max_examples=100, deadline=None)
def test_equal_texts_share_a_fold_whatever_their_features(
    seed: int, rows: int, different: int, texts: int, several: bool
) -> None:
    """Also where only a third row links two: by its text with the one, by its features with the other."""
    x, targets = drawn(seed, rows, different, 3, several=several)
    groups = np.random.default_rng(seed + 1).integers(0, texts, rows)
    folds = fold_numbers(x, targets, seed, groups=groups)
    for same in [groups == group for group in np.unique(groups)] + [
        (x == row).all(1) for row in np.unique(x, axis=0)
    ]:
        assert len(set(folds[same].tolist())) == 1


@given(SEEDS, st.integers(1, 80), st.integers(1, 80), st.integers(0, 6), st.booleans())
@settings(max_examples=50, deadline=None)
def test_groups_without_new_links_change_no_fold(
    seed: int, rows: int, different: int, names: int, several: bool
) -> None:
    x, targets = drawn(seed, rows + names, different, 3, several=several)
    plain = fold_numbers(x, targets, seed, names)
    as_features = np.unique(x, axis=0, return_inverse=True)[1].ravel()
    for groups in (as_features, as_features.max() - as_features, np.arange(rows + names)):
        np.testing.assert_array_equal(fold_numbers(x, targets, seed, names, groups), plain)


@given(SEEDS, st.integers(5, 100), st.integers(1, 6))
@settings(max_examples=100, deadline=None)
def test_each_label_is_spread_over_the_folds(seed: int, rows: int, labels: int) -> None:
    x, targets = drawn(seed, rows, rows, labels, several=False)
    x = x + np.arange(rows, dtype=np.float32)[:, None]  # all different
    folds = fold_numbers(x, targets, seed)
    assert np.ptp(np.bincount(folds, minlength=FOLDS)) <= 1
    for label in range(labels):
        assert np.ptp(np.bincount(folds[targets == label], minlength=FOLDS)) <= 1


@given(SEEDS, st.integers(10, 60))
@settings(max_examples=50, deadline=None)
def test_several_labels_count_for_the_rarest(seed: int, rows: int) -> None:
    """Every row has the frequent label; the rare one is spread all the same."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((rows, 3)).astype(np.float32)
    rare = (generator.random(rows) < 0.3).astype(np.int64)
    folds = fold_numbers(x, np.stack([np.ones(rows, np.int64), rare], 1), seed)
    assert np.ptp(np.bincount(folds[rare == 1], minlength=FOLDS)) <= 1


@given(SEEDS, st.integers(2, 60), st.booleans())
@settings(max_examples=50, deadline=None)
def test_the_order_of_rows_does_not_matter(seed: int, rows: int, several: bool) -> None:
    x, targets = drawn(seed, rows, rows, 3, several=several)
    x = x + np.arange(rows, dtype=np.float32)[:, None]
    order = np.random.default_rng(seed + 1).permutation(rows)
    np.testing.assert_array_equal(fold_numbers(x[order], targets[order], 7), fold_numbers(x, targets, 7)[order])


def test_another_seed_gives_other_folds() -> None:
    x, targets = drawn(0, 60, 60, 3, several=False)
    assert (fold_numbers(x, targets, 0) == fold_numbers(x, targets, 0)).all()
    assert (fold_numbers(x, targets, 0) != fold_numbers(x, targets, 1)).any()


@given(SEEDS, st.integers(0, 40), st.integers(1, 40))
def test_a_sample_is_of_different_rows_in_order(seed: int, rows: int, count: int) -> None:
    chosen = sample(rows, count, seed)
    assert len(chosen) == min(rows, count)
    assert (np.diff(chosen) > 0).all()
    assert set(chosen.tolist()) <= set(range(rows))
