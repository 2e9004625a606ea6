"""Paired comparison: what must hold for any two sets of predictions on the same texts."""

from dataclasses import replace
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from fusion_classifier.errors import DataError
from fusion_classifier.evaluation import significance
from fusion_classifier.evaluation.metrics import score
from fusion_classifier.evaluation.predictions import SplitPredictions
from fusion_classifier.evaluation.significance import (
    Difference,
    McNemar,
    compare,
    differences,
    holm,
    in_words,
    mcnemar,
    verdict,
)

NAMES = ("anger", "fear", "joy")
SEEDS = st.integers(0, 2**32 - 1)
COUNTS = st.integers(0, 60)


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(significance, "RESAMPLES", 400)


def side(
    seed: int, n: int = 60, n_seeds: int = 2, skill: float = 1.0, names: tuple[str, ...] = NAMES
) -> SplitPredictions:
    """Predictions that are better than chance by `skill`; texts and labels depend on `n` alone."""
    width = len(names)
    labels = np.random.default_rng(n).integers(0, width, n)
    rng = np.random.default_rng(seed)
    probabilities = {}
    for one in range(n_seeds):
        logits = rng.normal(size=(n, width)) + skill * np.eye(width)[labels]
        probabilities[one] = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    hashes = tuple(f"{i:032x}" for i in range(n))
    answers = {one: p.argmax(1) for one, p in probabilities.items()}
    return SplitPredictions("test", hashes, labels, probabilities, answers, names)


# The difference and its interval.


@settings(deadline=None, max_examples=5)
@given(seed=SEEDS)
def test_a_run_does_not_differ_from_itself(seed: int) -> None:
    found = compare(side(seed), side(seed))
    for metric in found.metrics.values():
        assert (metric.difference, metric.ci95, metric.p) == (0, (0, 0), 1)
    assert all(test.p == 1 for test in found.by_seed.values())
    assert found.ensembles.test == McNemar(0, 0, 1.0, None, None, None, None)
    assert found.verdict == "undecided"


@settings(deadline=None, max_examples=5)
@given(seed=SEEDS)
def test_swapping_the_sides_turns_every_sign(seed: int) -> None:
    a, b = side(seed, n_seeds=2), side(seed + 1, n_seeds=3, skill=2)
    there, back = compare(a, b), compare(b, a)
    for name, metric in there.metrics.items():
        turned = back.metrics[name]
        assert metric.difference == pytest.approx(-turned.difference)
        assert metric.ci95 == pytest.approx((-turned.ci95[1], -turned.ci95[0]))  # type: ignore[index]
        assert metric.p == turned.p
        assert (metric.a, metric.b) == (turned.b, turned.a)
    assert (there.ensembles.test.a_only, there.ensembles.test.p) == (
        back.ensembles.test.b_only,
        back.ensembles.test.p,
    )
    g, turned_g = there.ensembles.test.cohens_g, back.ensembles.test.cohens_g
    assert g == pytest.approx(-turned_g)  # type: ignore[operator]
    assert {there.verdict, back.verdict} in ({"a_better", "b_better"}, {"undecided"}, {"mixed"})


@settings(deadline=None, max_examples=5)
@given(seed=SEEDS)
def test_scores_are_those_of_the_metrics_module(seed: int) -> None:
    a, b = side(seed, n_seeds=3), side(seed + 1, n_seeds=1)
    found = compare(a, b)
    for name, metric in found.metrics.items():
        assert metric.a == pytest.approx([score(a.labels, p)[name] for p in a.by_seed.values()])
        assert metric.b == pytest.approx([score(b.labels, p)[name] for p in b.by_seed.values()])
        assert metric.difference == pytest.approx(np.mean(metric.a) - np.mean(metric.b))
        assert metric.ci95 is not None
        assert metric.ci95[0] <= metric.difference <= metric.ci95[1]


def test_the_interval_is_that_of_a_bootstrap_written_out() -> None:
    """Accuracy: the mean over texts of each text's own difference, with other random numbers."""
    a, b = side(1, 400), side(2, 400, skill=1.6)
    found = differences(a.labels, list(a.answers.values()), list(b.answers.values()), 3)["accuracy"]
    each = np.mean([p == a.labels for p in a.answers.values()], 0) - np.mean(
        [p == b.labels for p in b.answers.values()], 0
    )
    rng = np.random.default_rng(5)
    draws = [each[rng.integers(0, 400, 400)].mean() for _ in range(2000)]
    assert found.ci95 == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.015)


def test_pairing_by_text_makes_the_interval_narrow() -> None:
    """B is A with one more error in ten: unpaired, the interval would be as wide as that of two accuracies."""
    labels = np.zeros(200, dtype=np.int64)
    a = np.arange(200) % 2  # half right
    b = np.where(np.arange(200) % 20 == 0, 1, a)
    found = differences(labels, [a], [b], 2)["accuracy"]
    assert found.difference == pytest.approx(0.05)
    assert found.ci95 is not None
    assert found.ci95[0] > 0
    assert found.ci95[1] < 0.1


@settings(deadline=None, max_examples=8)
@given(seed=SEEDS, skill=st.floats(0, 3))
def test_p_is_small_where_the_interval_leaves_out_zero(seed: int, skill: float) -> None:
    found = compare(side(seed), side(seed + 1, skill=skill))
    for metric in found.metrics.values():
        assert metric.ci95 is not None
        assert metric.p is not None
        if metric.ci95[0] > 1e-9 or metric.ci95[1] < -1e-9:  # an end of -1e-16 is a resample without a difference
            assert metric.p <= 0.06  # the ends of the interval are interpolated between resamples
        else:
            assert metric.p >= 0.04


def test_one_text_has_no_interval_and_no_verdict() -> None:
    found = compare(side(1, 1), side(2, 1))
    assert found.metrics["accuracy"].ci95 is None
    assert found.metrics["accuracy"].p is None
    assert found.verdict == "undecided"
    assert "this one text" in in_words(found, "A", "B")


def test_the_same_call_gives_the_same_figures() -> None:
    assert compare(side(1), side(2)) == compare(side(1), side(2))


# McNemar's test.


@settings(deadline=None)
@given(both=COUNTS, a_only=COUNTS, b_only=COUNTS, none=COUNTS)
def test_mcnemar_is_twice_the_tail_of_a_fair_coin(both: int, a_only: int, b_only: int, none: int) -> None:
    a = np.repeat([True, True, False, False], [both, a_only, b_only, none])
    b = np.repeat([True, False, True, False], [both, a_only, b_only, none])
    found = mcnemar(a, b)
    assert (found.a_only, found.b_only) == (a_only, b_only)
    n = a_only + b_only
    tail = sum(comb(n, k) for k in range(min(a_only, b_only) + 1))
    assert found.p == pytest.approx(min(1.0, 2 * tail / 2**n))


def test_holm_by_hand() -> None:
    """0.01 · 4, 0.02 · 3, 0.03 · 2 (not below the one before), 0.4 · 1."""
    assert holm([0.4, 0.01, 0.03, 0.02]) == pytest.approx([0.4, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_mcnemar_by_hand() -> None:
    """Of 10 texts only one is right on, 9 are A's: twice the binomial tail, (1 + 10) / 2^10 · 2."""
    a = np.repeat([True, False], [9, 1])
    assert mcnemar(a, ~a).p == pytest.approx(22 / 1024)


@settings(deadline=None)
@given(a_only=st.integers(0, 200), b_only=st.integers(0, 200))
def test_effect_lies_in_its_exact_interval(a_only: int, b_only: int) -> None:
    right = np.repeat([True, False], [a_only, b_only])
    found = mcnemar(right, ~right)
    n = a_only + b_only
    if n == 0:
        assert found.cohens_g is None
        return
    assert found.cohens_g is not None
    assert found.cohens_g_ci95 is not None
    low, high = found.cohens_g_ci95
    assert -0.5 <= low <= found.cohens_g <= high <= 0.5
    assert found.cohens_g == pytest.approx(a_only / n - 0.5)
    # Clopper and Pearson: at each end what was seen is as rare as 2.5%.
    if a_only > 0:
        assert binom.sf(a_only - 1, n, low + 0.5) == pytest.approx(0.025, rel=1e-3)
    assert (found.odds_ratio is None) == (b_only == 0)
    if found.odds_ratio is not None:
        assert found.odds_ratio == pytest.approx(a_only / b_only)


def test_seeds_are_paired_in_their_order() -> None:
    a, b = side(1, n_seeds=4), side(2, n_seeds=2)
    found = compare(a, b)
    assert list(found.by_seed) == [(0, 0), (1, 1)]
    expected = mcnemar(a.answers[1] == a.labels, b.answers[1] == b.labels)
    assert found.by_seed[1, 1] == expected


def test_the_ensemble_is_the_mean_of_the_probabilities() -> None:
    a, b = side(1, n_seeds=2), side(2, n_seeds=3)
    found = compare(a, b).ensembles
    mean = np.mean(list(b.by_seed.values()), axis=0).argmax(1)
    assert found.b_accuracy == pytest.approx((mean == b.labels).mean())


def test_a_single_seed_answers_as_it_has_answered() -> None:
    """Its decision may be another than the most probable label."""
    one = side(1, n_seeds=1)
    decided = replace(one, answers={0: one.labels})
    assert compare(decided, one).ensembles.a_accuracy == 1


def test_an_ensemble_answers_as_its_seeds_do() -> None:
    """Offsets change all answers of both seeds: that of the ensemble is the one they agree on, or one of the two."""
    one = side(1, n_seeds=2)
    first = np.roll(one.labels, 1)
    agreed = replace(one, answers={0: one.labels, 1: one.labels})
    assert compare(agreed, one).ensembles.a_accuracy == 1
    given = replace(one, answers={0: first, 1: one.labels}).ensemble()
    assert ((given == first) | (given == one.labels)).mean() > 0.8
    assert np.array_equal(replace(one, answers={0: first, 1: first}).ensemble(), first)


# The same texts.


def test_labels_in_another_order_are_the_same_labels() -> None:
    a, b = side(1), side(2)
    turned = (2, 0, 1)  # new number of each old label
    names = tuple(NAMES[turned.index(i)] for i in range(3))
    number = np.array(turned)
    other = SplitPredictions(
        "test",
        b.hashes,
        number[b.labels],
        {seed: p[:, np.argsort(number)] for seed, p in b.by_seed.items()},
        {seed: number[p] for seed, p in b.answers.items()},
        names,
    )
    assert compare(a, other) == compare(a, b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: replace(b, names=("anger", "fear", "pride")), "'joy'"),
        (lambda _: side(2, 59), "60 and 59 texts"),
        (lambda b: replace(b, hashes=("f" * 32, *b.hashes[1:])), "1 of 60 differ, first in row 0"),
        (lambda b: replace(b, labels=np.roll(b.labels, 1)), "different labels"),
    ],
)
def test_other_texts_or_labels_are_refused(change: object, message: str) -> None:
    assert callable(change)
    with pytest.raises(DataError, match=message):
        compare(side(1), change(side(2)))


# In words.


@pytest.mark.parametrize(
    ("interval", "counts", "expected"),
    [
        ((0.01, 0.03), (60, 20), "a_better"),
        ((-0.03, -0.01), (20, 60), "b_better"),
        ((-0.01, 0.03), (40, 38), "undecided"),
        ((0.001, 0.03), (40, 38), "mixed"),
        ((-0.01, 0.03), (60, 20), "mixed"),
        ((0.01, 0.03), (20, 60), "mixed"),
    ],
)
def test_a_verdict_needs_interval_and_test(
    interval: tuple[float, float], counts: tuple[int, int], expected: str
) -> None:
    right = np.repeat([True, False], counts)
    assert verdict(Difference((0.5,), (0.5,), 0.0, interval, 0.1), mcnemar(right, ~right)) == expected


def test_the_sentence_names_the_better_one_first() -> None:
    worse, better = side(1, 600, skill=0.5), side(2, 600, skill=3)
    for a, b, names in ((better, worse, ("strong", "weak")), (worse, better, ("weak", "strong"))):
        sentence = in_words(compare(a, b), *names)
        assert sentence.startswith("strong is better than weak by ")
        assert "−" not in sentence
        assert "McNemar p < 0.001" in sentence


def test_sentence_of_runs_that_cannot_be_told_apart() -> None:
    assert "can't be told apart on these 60 texts" in in_words(compare(side(1), side(2)), "one", "other")
