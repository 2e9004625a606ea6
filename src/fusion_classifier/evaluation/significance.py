"""Whether one set of predictions is better than another on the same texts.

Two questions, two tests, both paired by text:

- By how much do the scores differ, and how far does that hang on the choice of texts? Paired bootstrap: texts are
  drawn with replacement, the same for both sides and all their seeds; the statistic is the difference of the means
  over seeds.
- Do the two sides err on different texts? McNemar's exact test, for each pair of seeds and for the two ensembles.

Neither covers what another training seed would change: that is what several seeds are for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import binomtest, bootstrap

from fusion_classifier.errors import DataError
from fusion_classifier.evaluation.metrics import CONFIDENCE, CONFUSION_METRICS
from fusion_classifier.evaluation.predictions import StoredPredictions

RESAMPLES = 10_000
BATCH = 100  # resamples in memory at once
ALPHA = 1 - CONFIDENCE

Verdict = Literal["a_better", "b_better", "mixed", "undecided"]


@dataclass(frozen=True)
class Difference:
    """A metric of both sides, as fractions; `a` and `b` a value a seed, `difference` that of their means (A − B)."""

    a: tuple[float, ...]
    b: tuple[float, ...]
    difference: float
    ci95: tuple[float, float] | None
    p: float | None


@dataclass(frozen=True)
class McNemar:
    """McNemar's exact test: texts that only A or only B has right, and the two-sided p-value."""

    a_only: int
    b_only: int
    p: float


@dataclass(frozen=True)
class SeedPair:
    """The test for one seed of each side."""

    seed_a: int
    seed_b: int
    test: McNemar


@dataclass(frozen=True)
class Effect:
    """How one-sided the texts are that only one of the two has right; each with its exact 95 % interval.

    `odds_ratio` is only A : only B, infinite where B is never right alone (then None, as in JSON); `cohens_g` the
    share of A − 1/2, from −0.5 to 0.5: 0.05 is small, 0.15 medium, 0.25 large. Both are None where the two are
    right on the same texts.
    """

    odds_ratio: float | None
    odds_ratio_ci95: tuple[float, float | None] | None
    cohens_g: float | None
    cohens_g_ci95: tuple[float, float] | None


@dataclass(frozen=True)
class Ensembles:
    """Both sides as one classifier each: the mean of the probabilities over their seeds."""

    a_accuracy: float
    b_accuracy: float
    test: McNemar
    effect: Effect


@dataclass(frozen=True)
class Comparison:
    """A against B on the same texts."""

    texts: int
    seeds_a: tuple[int, ...]
    seeds_b: tuple[int, ...]
    metrics: dict[str, Difference]
    by_seed: tuple[SeedPair, ...]
    ensembles: Ensembles
    verdict: Verdict


def compare(a: StoredPredictions, b: StoredPredictions) -> Comparison:
    """Compare two sets of predictions for the same texts.

    Raises:
        DataError: other texts, labels or label names.
    """
    b = matched(a, b)
    metrics = differences(a.labels, list(a.predicted.values()), list(b.predicted.values()), len(a.names))
    pairs = tuple(
        SeedPair(seed_a, seed_b, mcnemar(a.predicted[seed_a] == a.labels, b.predicted[seed_b] == b.labels))
        for seed_a, seed_b in zip(a.predicted, b.predicted, strict=False)
    )
    together = ensembles(a, b)
    return Comparison(
        len(a.labels),
        tuple(a.predicted),
        tuple(b.predicted),
        metrics,
        pairs,
        together,
        verdict(metrics["accuracy"], together.test),
    )


def matched(a: StoredPredictions, b: StoredPredictions) -> StoredPredictions:
    """B with its labels numbered as those of A, once it is sure that both speak of the same texts.

    Raises:
        DataError: other texts, labels or label names; the message names the row.
    """
    if {*a.names} != {*b.names}:
        lone = sorted({*a.names} ^ {*b.names})[0]
        raise DataError(f"the runs have other labels: only one of them knows {lone!r}; compare runs of one task")
    if len(a.rows) != len(b.rows):
        raise DataError(
            f"the runs were evaluated on {len(a.rows):,} and {len(b.rows):,} texts; compare runs on the same data"
        )
    other_text = (a.rows != b.rows) | (np.array(a.hashes) != np.array(b.hashes))
    if other_text.any():
        raise DataError(
            f"the runs were evaluated on other texts: {other_text.sum():,} of {len(a.rows):,} differ, first in row "
            f"{a.rows[other_text][0]}; compare runs on the same data"
        )
    number = np.array([a.names.index(name) for name in b.names])  # of B's labels among those of A
    labels = number[b.labels]
    if (labels != a.labels).any():
        row = int(np.flatnonzero(labels != a.labels)[0])
        raise DataError(
            f"the runs were graded against other labels: row {a.rows[row]} is {a.names[a.labels[row]]!r} in one and "
            f"{a.names[labels[row]]!r} in the other; evaluate both on the same data"
        )
    return StoredPredictions(
        a.names,
        b.rows,
        b.hashes,
        labels,
        {seed: number[predicted] for seed, predicted in b.predicted.items()},
        {seed: probabilities[:, np.argsort(number)] for seed, probabilities in b.probabilities.items()},
    )


def differences(
    labels: np.ndarray, a: Sequence[np.ndarray], b: Sequence[np.ndarray], n_classes: int
) -> dict[str, Difference]:
    """Accuracy and both F1 of two sides, with the paired percentile bootstrap interval of their difference.

    The p-value is two-sided and belongs to that interval: below 0.05 exactly where the 95 % interval leaves out
    zero, up to rounding; the smallest that 10,000 resamples can give is 0.0002. One text has neither.

    Source: Efron and Tibshirani: An Introduction to the Bootstrap, 1993, chapters 13 and 15; for two classifiers
    on one test set Berg-Kirkpatrick, Burkett, Klein: An Empirical Investigation of Statistical Significance in NLP,
    EMNLP 2012, https://aclanthology.org/D12-1091.

    Args:
        labels: true labels, (N,), int64.
        a: predicted labels (N,) of each seed.
        b: the same of the other side; the number of seeds may differ.
        n_classes: C.
    """
    cells = [[labels * n_classes + predicted for predicted in side] for side in (a, b)]

    def scores(rows: np.ndarray) -> list[np.ndarray]:
        """By side (seeds, metrics)."""
        return [np.array([_scores(cell[rows], n_classes) for cell in side]) for side in cells]

    def statistic(resamples: np.ndarray, axis: int) -> np.ndarray:  # noqa: ARG001 - scipy gives it
        """(metrics, resamples) of row numbers (resamples, N): one count of each resample serves all metrics."""
        means = [[side.mean(0) for side in scores(rows)] for rows in np.atleast_2d(resamples)]
        return np.array([mean_a - mean_b for mean_a, mean_b in means]).T

    everything = np.arange(len(labels))
    values_a, values_b = scores(everything)
    observed = values_a.mean(0) - values_b.mean(0)
    found = None
    if len(labels) > 1:  # one text says nothing of the spread
        found = bootstrap(
            (everything,),
            statistic,
            n_resamples=RESAMPLES,
            batch=BATCH,
            confidence_level=CONFIDENCE,
            method="percentile",
            vectorized=True,
            rng=np.random.default_rng(0),
        )
    result = {}
    for i, name in enumerate(CONFUSION_METRICS):
        interval, p = None, None
        if found is not None:
            interval = (float(found.confidence_interval.low[i]), float(found.confidence_interval.high[i]))
            p = _p_value(found.bootstrap_distribution[i])
        result[name] = Difference(
            tuple(values_a[:, i].tolist()), tuple(values_b[:, i].tolist()), float(observed[i]), interval, p
        )
    return result


def _scores(cells: np.ndarray, n_classes: int) -> list[float]:
    confusion = np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)
    return [metric(confusion) for metric in CONFUSION_METRICS.values()]


# Two means that are equal on paper may differ in their last digits.
ROUNDING = 1e-12


def _p_value(distribution: np.ndarray) -> float:
    """Twice the share of resamples on the rarer side of zero; one is added so that it is never 0."""
    tail = min((distribution <= ROUNDING).sum(), (distribution >= -ROUNDING).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(distribution) + 1)))


def mcnemar(a_right: np.ndarray, b_right: np.ndarray) -> McNemar:
    """McNemar's exact test on which texts A and B have right, both (N,), bool.

    Under the null hypothesis a text that only one of the two has right is either's with probability 1/2.

    Source: McNemar: Note on the sampling error of the difference between correlated proportions or percentages,
    Psychometrika 12, 1947; for classifiers Dietterich: Approximate Statistical Tests for Comparing Supervised
    Classification Learning Algorithms, Neural Computation 10, 1998.
    """
    a_only, b_only = int((a_right & ~b_right).sum()), int((b_right & ~a_right).sum())
    p = float(binomtest(a_only, a_only + b_only).pvalue) if a_only + b_only else 1.0
    return McNemar(a_only, b_only, p)


def effect(test: McNemar) -> Effect:
    """The size of what McNemar's test looks at; intervals are Clopper and Pearson's for the share of A.

    Source: Cohen: Statistical Power Analysis for the Behavioral Sciences, 2nd edition, 1988, chapter 5 (g);
    Agresti: Categorical Data Analysis, 3rd edition, 2013, section 11.1 (odds ratio of matched pairs).
    """
    discordant = test.a_only + test.b_only
    if not discordant:
        return Effect(None, None, None, None)
    found = binomtest(test.a_only, discordant).proportion_ci(CONFIDENCE, method="exact")
    low, high = float(found.low), float(found.high)
    return Effect(
        _odds(test.a_only / discordant),
        (low / (1 - low), _odds(high)),
        test.a_only / discordant - 0.5,
        (low - 0.5, high - 0.5),
    )


def _odds(share: float) -> float | None:
    return None if math.isclose(share, 1) else share / (1 - share)


def ensembles(a: StoredPredictions, b: StoredPredictions) -> Ensembles:
    """Both sides as ensembles of their seeds.

    Not the majority vote: it ties, always with two seeds, and a rule for ties would decide the test.
    """
    right = []
    for side in (a, b):
        # A single seed answers as it has answered: its own decision need not be the most probable label.
        answers = list(side.predicted.values())
        mean = np.mean([p.astype(np.float64) for p in side.probabilities.values()], axis=0)
        right.append((answers[0] if len(answers) == 1 else mean.argmax(1)) == side.labels)
    test = mcnemar(right[0], right[1])
    return Ensembles(float(right[0].mean()), float(right[1].mean()), test, effect(test))


def verdict(accuracy: Difference, test: McNemar) -> Verdict:
    """Which side is better, where interval and test both say so and agree on the side."""
    by_interval = 0 if accuracy.ci95 is None else int(accuracy.ci95[0] > 0) - int(accuracy.ci95[1] < 0)
    by_test = int(np.sign(test.a_only - test.b_only)) if test.p < ALPHA else 0
    if by_interval == by_test == 0:
        return "undecided"
    if by_interval != by_test:
        return "mixed"
    return "a_better" if by_interval > 0 else "b_better"


def in_words(found: Comparison, a: str, b: str) -> str:
    """The verdict as one sentence, with the names of the two sides."""
    accuracy = found.metrics["accuracy"]
    sign = -1 if accuracy.difference < 0 else 1
    if sign < 0:
        a, b = b, a
    points = f"{abs(100 * accuracy.difference):.1f} points of accuracy"
    interval = "no interval from one text"
    if accuracy.ci95 is not None:
        low, high = sorted(sign * 100 * end for end in accuracy.ci95)
        interval = f"95 % interval {_points(low)} to {_points(high)}"
    evidence = f"{interval}; McNemar {p_text(found.ensembles.test.p)}"
    if found.verdict == "undecided":
        texts = "this one text" if found.texts == 1 else f"these {found.texts:,} texts"
        return f"{a} and {b} can't be told apart on {texts}: a difference of {points} ({evidence})."
    if found.verdict == "mixed":
        return (
            f"{a} is ahead of {b} by {points} ({evidence}), but the interval of the mean over seeds and McNemar's "
            "test of the ensembles do not agree: more texts or seeds are needed to tell."
        )
    return f"{a} is better than {b} by {points} ({evidence}): a difference that the choice of texts does not explain."


def _points(value: float) -> str:
    return f"{value + 0.0:.1f}".replace("-", "−")


def p_text(p: float) -> str:
    """A p-value as the field writes it."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
