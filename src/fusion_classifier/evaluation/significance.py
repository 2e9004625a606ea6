"""Tests whether one set of predictions is better than another on the same texts.

Two tests, both paired by text:

- Paired bootstrap: by how much do the scores differ, and how much does that depend on the choice of texts? Texts are
  drawn with replacement, the same for both sides and all seeds; the statistic is the difference of the means over
  seeds.
- McNemar's exact test, for each pair of seeds and for the two ensembles: do the two sides err on different texts?

Neither covers the variation between training seeds: train several seeds for that.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fusion_classifier.errors import DataError
from fusion_classifier.evaluation.metrics import CONFIDENCE, answer_scores, bootstrap_scores, percentile_interval
from fusion_classifier.evaluation.predictions import SplitPredictions

RESAMPLES = 10_000
ALPHA = 1 - CONFIDENCE

Verdict = Literal["a_better", "b_better", "mixed", "undecided"]


@dataclass(frozen=True)
class Difference:
    """A metric of both sides by seed, as fractions, and the mean of A minus the mean of B.

    The 95% interval and the two-sided p-value are None for a single text.
    """

    a: tuple[float, ...]
    b: tuple[float, ...]
    difference: float
    ci95: tuple[float, float] | None
    p: float | None


@dataclass(frozen=True)
class McNemar:
    """McNemar's exact test on the texts that A and B predict correctly, and the effect size with exact 95%
    intervals.

    The sizes are None if no text is correct for only one of the two.
    """

    a_only: int
    """Number of texts that only A predicts correctly."""
    b_only: int
    p: float
    """Two-sided p-value."""
    odds_ratio: float | None
    """`a_only` : `b_only`. None if infinite."""
    odds_ratio_ci95: tuple[float, float | None] | None
    cohens_g: float | None
    """Share of A − 1/2, from −0.5 to 0.5: 0.05 is small, 0.15 medium, 0.25 large."""
    cohens_g_ci95: tuple[float, float] | None


@dataclass(frozen=True)
class Ensembles:
    """Both sides as ensembles: the mean of the probabilities over the seeds."""

    a_accuracy: float
    b_accuracy: float
    test: McNemar


@dataclass(frozen=True)
class Comparison:
    """A against B on the same texts."""

    texts: int
    seeds_a: tuple[int, ...]
    seeds_b: tuple[int, ...]
    metrics: dict[str, Difference]
    """Accuracy, weighted and macro F1."""
    by_seed: dict[tuple[int, int], McNemar]
    """Test for each pair of seeds, the first of A with the first of B and so on."""
    ensembles: Ensembles
    verdict: Verdict


def compare(a: SplitPredictions, b: SplitPredictions) -> Comparison:
    """Compare two sets of predictions for the same texts.

    Raises:
        DataError: The texts, labels or label names differ.
    """
    b = matched(a, b)
    right_a, right_b = ({seed: one == a.labels for seed, one in side.answers.items()} for side in (a, b))
    metrics = differences(a.labels, list(a.answers.values()), list(b.answers.values()), len(a.names))
    together = ensembles(a, b)
    return Comparison(
        texts=len(a.labels),
        seeds_a=tuple(right_a),
        seeds_b=tuple(right_b),
        metrics=metrics,
        by_seed={
            seeds: mcnemar(right_a[seeds[0]], right_b[seeds[1]]) for seeds in zip(right_a, right_b, strict=False)
        },
        ensembles=together,
        verdict=verdict(metrics["accuracy"], together.test),
    )


def matched(a: SplitPredictions, b: SplitPredictions) -> SplitPredictions:
    """Return B with its labels numbered as in A, after checking that both have the same texts and labels.

    Raises:
        DataError: They differ; the message names the row.
    """
    if {*a.names} != {*b.names}:
        lone = sorted({*a.names} ^ {*b.names})[0]
        raise DataError(f"the runs have different labels: only one of them has {lone!r}; compare runs of one task")
    if len(a.hashes) != len(b.hashes):
        raise DataError(
            f"the runs were evaluated on {len(a.hashes):,} and {len(b.hashes):,} texts; compare runs on the same "
            "data, both cross-validated or neither"
        )
    other = np.flatnonzero(np.array(a.hashes) != np.array(b.hashes))
    if len(other):
        counts = f"{len(other):,} of {len(a.hashes):,} differ, first in row {other[0]}"
        raise DataError(f"the runs were evaluated on different texts: {counts}; compare runs on the same data")
    number = np.array([a.names.index(name) for name in b.names])  # index of B's labels in A
    labels = number[b.labels]
    other = np.flatnonzero(labels != a.labels)
    if len(other):
        pair = " and ".join(repr(a.names[one[other[0]]]) for one in (a.labels, labels))
        raise DataError(f"the runs have different labels: {pair} in row {other[0]}; evaluate both on the same data")
    return replace(
        b,
        names=a.names,
        labels=labels,
        answers={seed: number[answers] for seed, answers in b.answers.items()},
        by_seed={seed: probabilities[:, np.argsort(number)] for seed, probabilities in b.by_seed.items()},
    )


def differences(
    labels: np.ndarray, a: Sequence[np.ndarray], b: Sequence[np.ndarray], n_classes: int
) -> dict[str, Difference]:
    """Compare accuracy and both F1 scores of two sides by a paired percentile bootstrap.

    The p-value is below 0.05 if the 95% interval excludes zero, except for rounding. With 10,000 resamples the
    smallest is 0.0002.

    Source: Efron and Tibshirani: An Introduction to the Bootstrap, 1993, chapters 13 and 15; for two classifiers on
    one test set, Berg-Kirkpatrick, Burkett, Klein: An Empirical Investigation of Statistical Significance in NLP,
    EMNLP 2012, https://aclanthology.org/D12-1091.

    Args:
        labels: True labels, (N,), int64.
        a: Predicted labels (N,) per seed.
        b: The same for the other side; the number of seeds may differ.
        n_classes: Number of labels.
    """
    scores = [answer_scores(labels, side, n_classes) for side in (a, b)]
    found = {}
    for metric in scores[0]:
        values = [side[metric][0] for side in scores]
        difference = float(values[0].mean() - values[1].mean())
        found[metric] = Difference(tuple(values[0].tolist()), tuple(values[1].tolist()), difference, None, None)
    if len(labels) == 1:
        return found
    resamples_a, resamples_b = (bootstrap_scores(labels, side, n_classes, RESAMPLES) for side in (a, b))
    for metric, one in found.items():
        resampled = resamples_a[metric].mean(1) - resamples_b[metric].mean(1)
        low, high = percentile_interval(resampled)
        found[metric] = replace(one, ci95=(low, high), p=_p_value(resampled))
    return found


ROUNDING = 1e-12  # two equal means may differ by rounding


def _p_value(distribution: np.ndarray) -> float:
    """Return twice the share of resamples on the rarer side of zero, plus one to keep it above 0."""
    tail = min((distribution <= ROUNDING).sum(), (distribution >= -ROUNDING).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(distribution) + 1)))


def holm(p: Sequence[float]) -> list[float]:
    """Correct p-values for their number, so that one below α among true null hypotheses has at most probability α.

    Source: Holm: A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6, 1979.
    """
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(np.asarray(p)[order] * np.arange(len(p), 0, -1)), 1)
    return [float(one) for one in corrected]


def mcnemar(a_right: np.ndarray, b_right: np.ndarray) -> McNemar:
    """Test correctness by A and B, both (N,), bool.

    Under the null hypothesis a text that only one of the two predicts correctly belongs to either with probability
    1/2. Intervals are Clopper-Pearson intervals of A's share.

    Source: McNemar: Note on the sampling error of the difference between correlated proportions or percentages,
    Psychometrika 12, 1947; Dietterich: Approximate Statistical Tests for Comparing Supervised Classification Learning
    Algorithms, Neural Computation 10, 1998; Cohen: Statistical Power Analysis for the Behavioral Sciences, 2nd
    edition, 1988, chapter 5 (g); Agresti: Categorical Data Analysis, 3rd edition, 2013, section 11.1 (odds ratio).
    """
    from scipy.stats import binomtest  # noqa: PLC0415 - slow to import, rarely used

    a_only, b_only = int((a_right & ~b_right).sum()), int((b_right & ~a_right).sum())
    if not a_only + b_only:
        return McNemar(0, 0, 1.0, None, None, None, None)
    test, share = binomtest(a_only, a_only + b_only), a_only / (a_only + b_only)
    low, high = map(float, test.proportion_ci(CONFIDENCE, method="exact"))
    odds_ci95, g_ci95 = (low / (1 - low), _odds(high)), (low - 0.5, high - 0.5)
    return McNemar(a_only, b_only, float(test.pvalue), _odds(share), odds_ci95, share - 0.5, g_ci95)


def _odds(share: float) -> float | None:
    return None if math.isclose(share, 1) else share / (1 - share)


def ensembles(a: SplitPredictions, b: SplitPredictions) -> Ensembles:
    """Compare both sides as ensembles of their seeds (`SplitPredictions.ensemble`)."""
    right_a, right_b = (side.ensemble() == side.labels for side in (a, b))
    return Ensembles(float(right_a.mean()), float(right_b.mean()), mcnemar(right_a, right_b))


def verdict(accuracy: Difference, test: McNemar) -> Verdict:
    """Decide which side is better: interval and test must both be significant and agree on the side."""
    by_interval = 0 if accuracy.ci95 is None else int(accuracy.ci95[0] > 0) - int(accuracy.ci95[1] < 0)
    by_test = int(np.sign(test.a_only - test.b_only)) if test.p < ALPHA else 0
    if by_interval == by_test == 0:
        return "undecided"
    if by_interval != by_test:
        return "mixed"
    return "a_better" if by_interval > 0 else "b_better"


def in_words(found: Comparison, a: str, b: str) -> str:
    """Return the verdict as one sentence with the names of the two sides."""
    accuracy = found.metrics["accuracy"]
    sign = -1 if accuracy.difference < 0 else 1
    if sign < 0:
        a, b = b, a
    points = f"{abs(100 * accuracy.difference):.1f} points of accuracy"
    interval = "no interval with one text"
    if accuracy.ci95 is not None:
        ends = [f"{sign * 100 * end + 0.0:.1f}".replace("-", "−") for end in accuracy.ci95[::sign]]
        interval = f"95% interval {ends[0]} to {ends[1]}"
    evidence = f"{interval}; McNemar {p_text(found.ensembles.test.p)}"
    if found.verdict == "undecided":
        texts = "this one text" if found.texts == 1 else f"these {found.texts:,} texts"
        return f"{a} and {b} can't be told apart on {texts}: a difference of {points} ({evidence})."
    if found.verdict == "mixed":
        return (
            f"{a} is ahead of {b} by {points} ({evidence}), but the interval of the mean over seeds and McNemar's "
            "test of the ensembles disagree: more texts or seeds are needed."
        )
    return f"{a} is better than {b} by {points} ({evidence}): the choice of texts does not explain this difference."


def p_text(p: float) -> str:
    """Format a p-value as "p < 0.001" or "p = 0.012"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
