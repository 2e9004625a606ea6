"""Warnings about the figures of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fusion_classifier.evaluation.formats import METRIC_TITLES
from fusion_classifier.evaluation.metrics import CONFIDENCE
from fusion_classifier.evaluation.predictions import SplitPredictions
from fusion_classifier.evaluation.significance import ALPHA, ensembles, p_text
from fusion_classifier.support.text import counted

WIDEST = 0.1  # 95% interval of a score that is worth quoting: ± 5 points
MIN_GAIN = 0.005  # minimum gain of the last epoch over earlier ones that indicates that training was cut off
SHUFFLES = 199
WHAT = {"majority_class": "the majority class", "logistic_regression": "logistic regression on the same features"}
SAME = 0.005  # difference between a head that is a logistic regression and the baseline, due to the solver


def not_better(
    metrics: Mapping[str, Any], baselines: Mapping[str, SplitPredictions], part: SplitPredictions, metric: str
) -> list[str]:
    """One sentence for each baseline that the model does not clearly beat on the reported split.

    Args:
        metrics: `metrics.json`, with `baselines`.
        baselines: Predictions of the baselines.
        part: Predictions of the model.
        metric: Score that the model was chosen by. Accuracy is compared, too, except for macro F1, which may reduce
            it.
    """
    own, found = metrics[part.split], []
    compared = [metric] if metric == "macro_f1" else list(dict.fromkeys(["accuracy", metric]))
    if part.labels.ndim > 1:
        compared = ["weighted_f1" if metric == "accuracy" else metric]
    for name, base in baselines.items():
        theirs = metrics["baselines"][name][part.split]
        margin = SAME if (name, metrics["head"]) == ("logistic_regression", "linear") else 0.0
        lost = [one for one in compared if not _ahead(own[one]["mean"], theirs[one], margin)]
        if lost:
            figures = " and ".join(
                f"{METRIC_TITLES[one]} {100 * own[one]['mean']:.1f}% against {100 * theirs[one]:.1f}%" for one in lost
            )
            found.append(_not_better(metrics, part, base, WHAT[name], figures))
    return found


def _not_better(
    metrics: Mapping[str, Any], part: SplitPredictions, base: SplitPredictions, what: str, figures: str
) -> str:
    """The sentence for one baseline: either the model is worse, or there are too few texts to decide.

    `figures` are means over seeds, and not only accuracies; McNemar's test compares the right answers of the
    seeds together. So the two may disagree.
    """
    place, test, following = _place(metrics, part.split), "", ""
    told = False
    if part.labels.ndim == 1:
        found = ensembles(part, base).test
        told = found.p < ALPHA
        several = len(part.by_seed) > 1
        test = f" (McNemar's test {'of the seeds as an ensemble, ' if several else ''}{p_text(found.p)})"
        if told and found.a_only > found.b_only:
            whom = "the seeds as an ensemble give" if several else "it gives"
            test, following = "", f"; but {whom} significantly more right answers{test}"
        elif not told:
            following = "; no significant difference on these texts"
    interval = _interval(metrics, part.split, len(part.labels))
    if not told and interval is not None and interval[1] - interval[0] > WIDEST:
        return (
            f"On {counted(len(part.labels), 'text')} of {place}, the model can't be distinguished from {what}: "
            f"{figures}{test}."
        )
    return f"The model is not better than {what} on {place}: {figures}{test}{following}."


def _place(metrics: Mapping[str, Any], split: str) -> str:
    if split != "valid":
        return split
    return "cross-validation" if metrics.get("cross_validated") else "validation"


def _ahead(own: float, theirs: float, margin: float) -> bool:
    """Whether the model is better, or both are perfect, or (for the same kind of classifier) equally good."""
    return own > theirs or (theirs == 1 and own == 1) or (margin > 0 and own > theirs - margin)


def _score_name(metrics: Mapping[str, Any], split: str) -> str:
    return "accuracy" if "accuracy" in metrics[split] else "weighted_f1"


def _interval(metrics: Mapping[str, Any], split: str, texts: int) -> tuple[float, float] | None:
    """The 95% interval of the split's accuracy, or multi-label weighted F1; None for a single text."""
    interval = metrics[split][_score_name(metrics, split)].get("ci95")
    if interval is None:
        return None
    low, high = interval
    if low == high:  # all resamples are equal; use the exact interval of a share of 0 or 1 (Clopper and Pearson)
        other = ((1 - CONFIDENCE) / 2) ** (1 / texts)
        low, high = (other, 1.0) if low > other else (0.0, 1 - other)
    return low, high


def cut_off(histories: Sequence[Sequence[Mapping[str, Any]]], metric: str) -> list[str]:
    """One sentence if most seeds were still improving in their last epoch.

    Args:
        histories: Metrics per epoch of each seed, as in training.json.
        metric: Validation score that the epoch is chosen by.
    """
    scores = [[epoch[f"valid_{metric}"] for epoch in history] for history in histories if len(history) > 1]
    gains = [values[-1] - max(values[:-1]) for values in scores]
    late = [gain for gain in gains if gain > MIN_GAIN]
    if not scores or 2 * len(late) <= len(scores):
        return []
    return [
        f"Training ended while the score was still improving: validation {METRIC_TITLES[metric]} rose by "
        f"{100 * np.mean(late):.1f} points in the last epoch; raise `max_epochs`."
    ]


def at_chance(parts: Sequence[SplitPredictions]) -> list[str]:
    """One sentence if a seed's predictions fit the texts no better than the same predictions shuffled.

    A permutation test over all texts of these splits. Predictions that are all equal, or independent of the labels,
    are at chance, even if their accuracy is high because the labels are imbalanced. Source: Ojala and
    Garriga: Permutation Tests for Studying Classifier Performance, JMLR 2010,
    https://jmlr.org/papers/v11/ojala10a.html, test 1.
    """
    labels = np.concatenate([part.labels for part in parts])
    seeds = parts[-1].answers
    lost = [seed for seed in seeds if _is_chance(labels, np.concatenate([part.answers[seed] for part in parts]))]
    if not lost:
        return []
    which = f"{'seed' if len(lost) == 1 else 'seeds'} {', '.join(map(str, lost))}; {len(seeds)} trained"
    return [
        f"Training ended at chance ({which}): the predictions fit the texts no better than if they were shuffled. "
        "Train longer (`max_epochs`, `patience`), with another `learning_rate`, or on more rows."
    ]


def _is_chance(labels: np.ndarray, answers: np.ndarray) -> bool:
    """Whether shuffled predictions are as accurate in more than one of twenty shuffles."""

    def hits(given: np.ndarray) -> int:
        return int(((labels == given) if labels.ndim == 1 else (labels & given)).sum())

    own, rng = hits(answers), np.random.default_rng(0)
    if labels.ndim == 1 and own == len(labels):  # all correct, on so few texts that shuffles often are, too
        return False
    reached = sum(hits(rng.permutation(answers)) >= own for _ in range(SHUFFLES))
    return (1 + reached) / (1 + SHUFFLES) > 1 - CONFIDENCE


def wide_interval(metrics: Mapping[str, Any], split: str, texts: int, *, can_cross_validate: bool) -> list[str]:
    """One sentence if the split is too small for reliable scores.

    Args:
        metrics: `metrics.json`.
        split: Name of the reported split.
        texts: Number of its texts.
        can_cross_validate: Whether the same data and head could be cross-validated.
    """
    name, interval = _score_name(metrics, split), _interval(metrics, split, texts)
    place = _place(metrics, split)
    if interval is None:
        return [f"{place.capitalize()} has one text: its scores are meaningless."] if texts == 1 else []
    low, high = interval
    if high - low <= WIDEST:
        return []
    way_out = "; `cross_validate` evaluates all rows" if can_cross_validate else ""
    return [
        f"{place.capitalize()} has few texts, {texts:,}: {METRIC_TITLES[name]} is between {100 * low:.1f} and "
        f"{100 * high:.1f}% (95% interval), so differences of a few points mean nothing here{way_out}."
    ]
