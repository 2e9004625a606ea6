"""Metrics: scikit-learn's values, the true labels first, intervals over texts."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)

from fusion_classifier.evaluation.metrics import (
    METRICS,
    MULTILABEL_METRICS,
    RESAMPLES,
    answer_scores,
    expected_calibration_error,
    hits_and_confidence,
    over_seeds,
    per_class,
    reliability,
    score,
    summarize,
)
from fusion_classifier.evaluation.predictions import SplitPredictions

SEEDS = st.integers(0, 2**32 - 1)
# Macro F1 leaves out labels without texts and answers.
UNDEFINED = {"macro": np.nan, "micro": 0, "weighted": 0}
OF_ANSWERS = ("accuracy", "weighted_f1", "macro_f1")


def random_case(seed: int, n: int = 60, n_classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Labels, of which some classes may not occur, and probabilities that lean to them."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(n_classes, n, p=rng.dirichlet(np.full(n_classes, 0.5)))
    logits = rng.normal(size=(n, n_classes)) * 2
    logits[np.arange(n), labels] += 1.5
    probabilities = np.exp(logits)
    return labels.astype(np.int64), (probabilities / probabilities.sum(1, keepdims=True)).astype(np.float32)


def multilabel_case(seed: int, n: int = 50, n_classes: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and answers, (n, n_classes) each."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, n_classes)) < rng.random(n_classes)).astype(np.int64)
    probabilities = np.clip(0.4 * labels + 0.6 * rng.random((n, n_classes)), 0, 1).astype(np.float32)
    return labels, probabilities, (probabilities > 0.55).astype(np.int64)


def certain(predicted: list[int], n_classes: int, p: float = 0.9) -> np.ndarray:
    """Probabilities with `p` for the predicted class and the same for all others."""
    probabilities = np.full((len(predicted), n_classes), (1 - p) / (n_classes - 1))
    probabilities[np.arange(len(predicted)), predicted] = p
    return probabilities


def split_of(labels: np.ndarray, *by_seed: np.ndarray, answers: list[np.ndarray] | None = None) -> SplitPredictions:
    given = answers or [probabilities.argmax(1) for probabilities in by_seed]
    hashes = [f"{i:032x}" for i in range(len(labels))]
    return SplitPredictions("test", hashes, labels, dict(enumerate(by_seed)), dict(enumerate(given)))


def intervals(labels: np.ndarray, answers: list[np.ndarray], n_classes: int) -> dict[str, list[float]]:
    """The `ci95` of every metric that has one."""
    by_seed = [certain(one.tolist(), n_classes) if one.ndim == 1 else one * 0.8 for one in answers]
    found = summarize(split_of(labels, *by_seed, answers=answers))
    return {metric: one["ci95"] for metric, one in found.items() if "ci95" in one}  # type: ignore[misc]


# Scores.


@settings(deadline=None)
@given(seed=SEEDS, n=st.integers(1, 80), n_classes=st.integers(2, 8))
def test_scores_are_those_of_sklearn(seed: int, n: int, n_classes: int) -> None:
    labels, probabilities = random_case(seed, n, n_classes)
    predicted = probabilities.argmax(1)
    classes = np.arange(n_classes)
    found = score(labels, probabilities)
    assert tuple(found) == METRICS
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert found["weighted_f1"] == pytest.approx(f1_score(labels, predicted, average="weighted", zero_division=0))
    assert found["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0))
    exact = probabilities.astype(np.float64)
    exact /= exact.sum(1, keepdims=True)  # float32 rows sum to 1 up to rounding
    assert found["nll"] == pytest.approx(log_loss(labels, exact, labels=classes))
    if n_classes > 3:
        top3 = top_k_accuracy_score(labels, probabilities, k=3, labels=classes)
        assert found["top3_accuracy"] == pytest.approx(top3)
    else:
        assert found["top3_accuracy"] == 1


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, n=st.integers(2, 60))
def test_multilabel_scores_are_those_of_sklearn(seed: int, n: int) -> None:
    labels, probabilities, answers = multilabel_case(seed, n)
    found = score(labels, probabilities, answers)
    assert tuple(found) == MULTILABEL_METRICS
    for average in ("macro", "micro", "weighted"):
        expected = f1_score(labels, answers, average=average, zero_division=UNDEFINED[average])
        assert found[f"{average}_f1"] == pytest.approx(expected)
    assert found["subset_accuracy"] == pytest.approx(accuracy_score(labels, answers))
    present = labels.any(0)
    if present.any():
        expected = average_precision_score(labels[:, present], probabilities[:, present], average="macro")
        assert found["map"] == pytest.approx(expected)
    each = [log_loss(labels[:, i], probabilities[:, i].astype(np.float64), labels=[0, 1]) for i in range(4)]
    assert found["nll"] == pytest.approx(np.mean(each), rel=1e-5)


def test_f1_takes_the_true_labels_first() -> None:
    """True 0 0 0 1, predicted 0 0 1 1: F1 is 0.8 and 2/3, weighted by 3 and 1 true rows; swapped, by 2 and 2."""
    labels, probabilities = np.array([0, 0, 0, 1]), certain([0, 0, 1, 1], 2)
    right, swapped = (3 * 0.8 + 2 / 3) / 4, (0.8 + 2 / 3) / 2
    assert score(labels, probabilities)["weighted_f1"] == pytest.approx(right)
    assert right != pytest.approx(swapped)


def test_macro_f1_leaves_out_unused_classes() -> None:
    """Five classes, of which two occur: both right. A predicted one that is never true counts with 0."""
    assert score(np.array([0, 3]), certain([0, 3], 5))["macro_f1"] == 1
    assert score(np.array([0, 3]), certain([0, 4], 5))["macro_f1"] == pytest.approx(1 / 3)


def test_macro_f1_is_the_same_for_one_label_and_for_several() -> None:
    """Rows of a single 1 are the same predictions."""
    for labels, answers in (([0, 3], [0, 3]), ([0, 3], [0, 4]), ([0, 1, 2], [1, 1, 2])):
        probabilities = certain(answers, 6)
        rows = np.eye(6, dtype=np.int64)
        one = score(np.array(labels), probabilities)
        several = score(rows[labels], probabilities.astype(np.float32), rows[answers])
        assert several["macro_f1"] == pytest.approx(one["macro_f1"])
        assert several["weighted_f1"] == pytest.approx(one["weighted_f1"])


def test_weights_repeat_texts() -> None:
    labels, probabilities = random_case(4, 30)
    predicted, weights = probabilities.argmax(1), np.random.default_rng(0).integers(0, 4, (2, 30))
    found = answer_scores(labels, [predicted, labels], 5, weights)
    for row, times in enumerate(weights):
        repeated = answer_scores(np.repeat(labels, times), [np.repeat(predicted, times)], 5)
        for metric in OF_ANSWERS:
            assert found[metric][row, 0] == pytest.approx(repeated[metric].item())
            assert found[metric][row, 1] == 1


def test_top3_counts_the_three_most_probable() -> None:
    probabilities = np.array([[0.4, 0.3, 0.2, 0.1]] * 4)
    assert score(np.array([0, 1, 2, 3]), probabilities)["top3_accuracy"] == 0.75
    assert score(np.array([3]), np.full((1, 4), 0.25))["top3_accuracy"] == 0
    assert score(np.array([1, 0]), certain([0, 1], 2))["top3_accuracy"] == 1


def test_nll_of_a_certain_error_is_finite() -> None:
    found = score(np.array([1, 0]), np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], dtype=np.float32))
    assert found["nll"] == pytest.approx(-np.log(1e-15) / 2, rel=1e-6)
    labels = np.array([[1, 0], [0, 1]])
    several = score(labels, (1 - labels).astype(np.float32), 1 - labels)
    assert np.isfinite(list(several.values())).all()
    assert several["ece"] == pytest.approx(1, abs=1e-6)


def test_nll_is_in_nats() -> None:
    found = score(np.array([0, 2]), np.array([[0.5, 0.25, 0.25]] * 2))
    assert found["nll"] == pytest.approx((np.log(2) + np.log(4)) / 2)


def test_one_text_can_be_scored() -> None:
    found = score(np.array([2]), certain([2], 4))
    assert (found["accuracy"], found["weighted_f1"], found["macro_f1"]) == (1, 1, 1)


def test_split_without_any_label_can_be_scored() -> None:
    nothing = np.zeros((2, 3), dtype=np.int64)
    found = score(nothing, np.full((2, 3), 0.2, dtype=np.float32), nothing)
    assert found["map"] == 0
    assert found["subset_accuracy"] == 1


# Calibration.


def test_ece_of_a_worked_example() -> None:
    """15 bins. Confidences 0.62, 0.65 (bin 0.6 to 0.667; one right): |0.635 - 0.5|, weight 2/4;
    0.9 (right): 0.1, weight 1/4; 0.55 (wrong): 0.55, weight 1/4."""
    confidence = np.array([0.62, 0.65, 0.9, 0.55])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.array([0, 1, 0, 1])
    wanted = 0.5 * 0.135 + 0.25 * 0.1 + 0.25 * 0.55
    assert expected_calibration_error(labels, probabilities) == pytest.approx(wanted, abs=1e-12)
    assert score(labels, probabilities)["ece"] == pytest.approx(wanted, abs=1e-12)


def slow_ece(right: list[bool], confidence: list[float]) -> float:
    """Guo et al. 2017 in so many words."""
    error = 0.0
    for low in range(15):
        inside = [i for i, p in enumerate(confidence) if low / 15 <= p < (low + 1) / 15 or (low == 14 and p >= 1)]
        if inside:
            accuracy = math.fsum(right[i] for i in inside) / len(inside)
            mean = math.fsum(confidence[i] for i in inside) / len(inside)
            error += abs(accuracy - mean) * len(inside) / len(right)
    return error


@settings(deadline=None)
@given(seed=SEEDS, n=st.integers(1, 100), n_classes=st.integers(2, 8), step=st.sampled_from([0, 1, 4]))
def test_ece_is_that_of_a_slow_implementation(seed: int, n: int, n_classes: int, step: int) -> None:
    labels, probabilities = random_case(seed, n, n_classes)
    exact = probabilities.astype(np.float64)
    if step:  # exactly 0 or 1, or multiples of 1/4
        exact = np.round(exact * step) / step
    hits = exact.argmax(1) == labels
    wanted = slow_ece(hits.tolist(), exact.max(1).tolist())
    assert expected_calibration_error(labels, exact) == pytest.approx(wanted, abs=1e-12)
    several, _, _ = multilabel_case(seed, n, n_classes)
    wanted = slow_ece((several.ravel() == 1).tolist(), exact.ravel().tolist())
    assert expected_calibration_error(several, exact) == pytest.approx(wanted, abs=1e-12)


def test_ece_puts_full_confidence_into_the_last_bin() -> None:
    """Confidence 1 wrong, 0.98 right: one bin of mean confidence 0.99 and accuracy 0.5."""
    probabilities = np.array([[1.0, 0.0], [0.98, 0.02]], dtype=np.float32)
    assert expected_calibration_error(np.array([1, 0]), probabilities) == pytest.approx(0.49, abs=1e-6)


def test_ece_accepts_a_probability_rounded_above_1() -> None:
    """float32 rows sum to 1 up to rounding."""
    labels = np.array([0, 0])
    exact = expected_calibration_error(labels, np.array([[1.0, 0.0], [0.7, 0.3]], dtype=np.float32))
    above = np.array([[np.nextafter(np.float32(1), np.float32(2)), 0.0], [0.7, 0.3]], dtype=np.float32)
    assert expected_calibration_error(labels, above) == pytest.approx(exact, abs=1e-5)


def test_confidence_is_that_of_the_answer_given() -> None:
    """With offsets, text 0 is answered with its second label: 30%, right; text 1 with its first: 70%, wrong."""
    probabilities, labels = np.array([[0.5, 0.3, 0.2], [0.7, 0.2, 0.1]]), np.array([1, 1])
    found = score(labels, probabilities, np.array([1, 0]))
    assert found["accuracy"] == 0.5
    assert found["ece"] == pytest.approx((0.7 + 0.7) / 2)


def test_the_answer_given_is_among_the_first_three() -> None:
    probabilities = np.array([[0.4, 0.3, 0.2, 0.1]])
    found = [score(np.array([label]), probabilities, np.array([3]))["top3_accuracy"] for label in range(4)]
    assert found == [1, 1, 0, 1]


def test_perfect_certainty_has_no_calibration_error() -> None:
    assert expected_calibration_error(np.array([0, 1, 2]), np.eye(3, dtype=np.float32)) == 0


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_reliability_has_all_predictions(seed: int) -> None:
    labels, probabilities = random_case(seed)
    hits, confidence = hits_and_confidence(labels, probabilities)
    count, accuracy, mean = reliability(hits, confidence)
    assert count.sum() == len(labels)
    assert np.nansum(count * accuracy) == pytest.approx(hits.sum())
    used = count > 0
    edges = np.linspace(0, 1, 16)
    assert (edges[:-1][used] <= mean[used] + 1e-7).all()
    assert (mean[used] <= edges[1:][used] + 1e-7).all()


# Several seeds.


def test_summary_has_mean_std_and_values() -> None:
    labels, first = random_case(1)
    _, second = random_case(2)
    scores = [score(labels, first), score(labels, second)]
    summary = summarize(split_of(labels, first, second))
    assert list(summary) == list(METRICS)
    for metric in METRICS:
        values = [one[metric] for one in scores]
        assert summary[metric]["values"] == values
        assert summary[metric]["mean"] == pytest.approx(np.mean(values))
        assert summary[metric]["std"] == pytest.approx(abs(values[0] - values[1]) / np.sqrt(2))
        assert ("ci95" in summary[metric]) == (metric in OF_ANSWERS)


def test_one_seed_has_no_deviation() -> None:
    labels, probabilities = random_case(3)
    assert all(one["std"] == 0 for one in summarize(split_of(labels, probabilities)).values())


@settings(deadline=None, max_examples=8)
@given(seed=SEEDS)
def test_interval_contains_the_mean(seed: int) -> None:
    labels, probabilities = random_case(seed, 200, 3)
    found = summarize(split_of(labels, probabilities, np.roll(probabilities, 1, axis=0)))
    for metric in ("accuracy", "weighted_f1"):
        low, high = found[metric]["ci95"]  # type: ignore[misc]
        assert 0 <= low <= found[metric]["mean"] <= high <= 1  # type: ignore[has-type]


def test_interval_is_that_of_sklearns_scores() -> None:
    """Against a bootstrap of other random numbers, written out: ends agree within its noise."""
    labels, probabilities = random_case(11, 150, 4)
    predicted = probabilities.argmax(1)
    rng = np.random.default_rng(99)
    draws = [rng.integers(0, len(labels), len(labels)) for _ in range(RESAMPLES)]
    graded = {
        "accuracy": [accuracy_score(labels[rows], predicted[rows]) for rows in draws],
        "weighted_f1": [
            f1_score(labels[rows], predicted[rows], average="weighted", zero_division=0) for rows in draws
        ],
        "macro_f1": [f1_score(labels[rows], predicted[rows], average="macro", zero_division=0) for rows in draws],
    }
    found = intervals(labels, [predicted], 4)
    for metric, values in graded.items():
        assert found[metric] == pytest.approx(np.percentile(values, [2.5, 97.5]).tolist(), abs=0.02), metric


def test_all_seeds_have_the_same_resamples() -> None:
    """Where one seed errs the other is right, so the mean accuracy of each text is a half, whatever is drawn."""
    labels = np.zeros(40, dtype=np.int64)
    first = np.arange(40) % 2
    assert intervals(labels, [first, 1 - first], 2)["accuracy"] == pytest.approx([0.5, 0.5])


def test_interval_is_reproducible_and_narrows() -> None:
    labels, probabilities = random_case(5, 50, 4)
    predicted = probabilities.argmax(1)
    once, again = intervals(labels, [predicted], 4), intervals(labels, [predicted], 4)
    assert once == again
    more = intervals(np.tile(labels, 16), [np.tile(predicted, 16)], 4)
    for metric in OF_ANSWERS:
        assert more[metric][1] - more[metric][0] < 0.5 * (once[metric][1] - once[metric][0])


def test_multilabel_intervals_hold_the_score_and_narrow() -> None:
    widths = []
    for n in (60, 1500):
        labels, probabilities, answers = multilabel_case(3, n)
        found = intervals(labels, [answers], 4)
        assert set(found) == {"macro_f1", "micro_f1", "weighted_f1"}
        for average, (low, high) in found.items():
            assert low <= score(labels, probabilities, answers)[average] <= high
        widths.append(found["micro_f1"][1] - found["micro_f1"][0])
    assert widths[1] < widths[0] / 2


def test_predictions_without_an_error_have_interval_1_to_1() -> None:
    labels = np.array([0, 1, 2, 2])
    assert set(map(tuple, intervals(labels, [labels], 3).values())) == {(1.0, 1.0)}


def test_one_text_has_no_interval() -> None:
    found = summarize(split_of(np.array([1]), certain([1], 3)))
    assert "ci95" not in found["accuracy"]
    assert found["accuracy"]["mean"] == 1


# Classes.


def test_class_table_is_sklearns_mean_over_seeds() -> None:
    names = ["a", "b", "c", "d", "e"]
    labels, first = random_case(7)
    _, second = random_case(8)
    several, _, answers = multilabel_case(1, n_classes=5)
    for part in (split_of(labels, first, second), split_of(several, first, second, answers=[answers, several])):
        found = per_class(part, names)
        assert list(found) == names
        tables = [
            precision_recall_fscore_support(part.labels, given, labels=np.arange(5), zero_division=0)
            for given in part.answers.values()
        ]
        for i, name in enumerate(names):
            for place, field in enumerate(("precision", "recall", "f1", "support")):
                assert found[name][field] == pytest.approx((tables[0][place][i] + tables[1][place][i]) / 2)


def test_class_table_tells_precision_from_recall() -> None:
    """True 0 0 0 1, predicted 0 0 1 1; class 2 never occurs."""
    found = per_class(split_of(np.array([0, 0, 0, 1]), certain([0, 0, 1, 1], 3)), ["x", "y", "z"])
    assert found["x"] == pytest.approx({"precision": 1, "recall": 2 / 3, "f1": 0.8, "support": 3})
    assert found["y"] == pytest.approx({"precision": 0.5, "recall": 1, "f1": 2 / 3, "support": 1})
    assert found["z"] == {"precision": 0, "recall": 0, "f1": 0, "support": 0}


def test_figures_are_summed_up_over_seeds() -> None:
    found = over_seeds([{"auroc": 0.9}, {"auroc": 0.8}])["auroc"]
    assert found["values"] == [0.9, 0.8]
    assert (found["mean"], found["std"]) == (pytest.approx(0.85), pytest.approx(0.1 / 2**0.5))
    assert over_seeds([{"auroc": 0.9}])["auroc"]["std"] == 0
