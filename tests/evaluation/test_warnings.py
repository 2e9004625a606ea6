"""Warnings come when, and only when, a figure of a run can mislead."""

from typing import Any

import numpy as np
import pytest

from fusion_classifier.evaluation.predictions import SplitPredictions
from fusion_classifier.evaluation.warnings import at_chance, cut_off, not_better, wide_interval


def part_of(answers: list[int], labels: list[int]) -> SplitPredictions:
    probabilities = np.eye(2, dtype=np.float32)[answers]
    hashes = [f"{i:032x}" for i in range(len(labels))]
    return SplitPredictions("test", hashes, np.array(labels), {0: probabilities}, {0: np.array(answers)})


def metrics_of(own: dict[str, float], theirs: dict[str, float], head: str = "fusion") -> dict[str, Any]:
    test = {name: {"mean": value} for name, value in own.items()}
    return {"head": head, "test": test, "baselines": {"logistic_regression": {"test": theirs}}}


LABELS = [0, 1] * 50
RIGHT, WORSE = part_of(LABELS, LABELS), part_of([0] * 100, LABELS)


def test_a_model_below_a_baseline_is_named_with_both_figures() -> None:
    metrics = metrics_of({"accuracy": 0.5, "weighted_f1": 0.9}, {"accuracy": 1.0, "weighted_f1": 0.8})
    (said,) = not_better(metrics, {"logistic_regression": RIGHT}, WORSE, "weighted_f1")
    assert "logistic regression on the same features on test: accuracy 50.0% against 100.0% (McNemar" in said
    assert "p < 0.001" in said
    assert "can't be distinguished" not in said
    assert "weighted F1" not in said, "there it is ahead"


def test_a_model_that_is_ahead_is_not_warned_of() -> None:
    metrics = metrics_of({"accuracy": 0.9, "macro_f1": 0.9}, {"accuracy": 0.8, "macro_f1": 0.8})
    assert not_better(metrics, {"logistic_regression": WORSE}, RIGHT, "accuracy") == []


def test_for_macro_f1_accuracy_may_be_lower() -> None:
    metrics = metrics_of({"accuracy": 0.7, "macro_f1": 0.9}, {"accuracy": 0.8, "macro_f1": 0.8})
    assert not_better(metrics, {"logistic_regression": WORSE}, RIGHT, "macro_f1") == []


@pytest.mark.parametrize(("head", "count"), [("linear", 0), ("fusion", 1)])
def test_a_linear_head_is_logistic_regression_itself(head: str, count: int) -> None:
    metrics = metrics_of({"accuracy": 0.8}, {"accuracy": 0.801}, head)
    assert len(not_better(metrics, {"logistic_regression": RIGHT}, RIGHT, "accuracy")) == count


def test_two_that_texts_can_not_tell_apart_are_called_so() -> None:
    other = part_of([1, *LABELS[1:]], LABELS)
    metrics = metrics_of({"accuracy": 0.99}, {"accuracy": 0.99})
    (said,) = not_better(metrics, {"logistic_regression": other}, RIGHT, "accuracy")
    assert "no significant difference on these texts" in said


@pytest.mark.parametrize(("seeds", "said"), [(1, "but it gives"), (2, "but the seeds as an ensemble give")])
def test_a_test_in_favour_of_the_model_is_not_against_it(seeds: int, said: str) -> None:
    """The figure is behind, but of the texts that only one of the two gets right, all are the model's."""
    metrics = metrics_of({"accuracy": 0.7, "weighted_f1": 0.7}, {"accuracy": 0.8, "weighted_f1": 0.8})
    part = SplitPredictions(
        "test",
        RIGHT.hashes,
        RIGHT.labels,
        RIGHT.by_seed | {seeds - 1: RIGHT.by_seed[0]},
        {0: RIGHT.labels} | {seeds - 1: RIGHT.labels},
    )
    (sentence,) = not_better(metrics, {"logistic_regression": WORSE}, part, "weighted_f1")
    assert f"weighted F1 70.0% against 80.0%; {said} significantly more right answers (McNemar's test" in sentence
    metrics["test"]["accuracy"]["ci95"] = (0.5, 0.9)
    assert said in not_better(metrics, {"logistic_regression": WORSE}, part, "weighted_f1")[0]


def answers_at(accuracy: float, texts: int, seed: int) -> tuple[list[int], list[int]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, texts)
    return np.where(rng.random(texts) < accuracy, labels, 1 - labels).tolist(), labels.tolist()


@pytest.mark.parametrize(
    ("part", "warned"),
    [
        (WORSE, True),  # always the same answer
        (part_of([0] * 100, [0] * 95 + [1] * 5), True),  # whatever its accuracy
        (part_of(*answers_at(0.5, 400, 1)), True),
        (part_of(*answers_at(0.65, 400, 1)), False),
        (
            part_of([0] * 90 + [1] * 10, [0] * 85 + [1] * 15),
            False,
        ),  # below the majority class, but it knows something
        (RIGHT, False),
        (part_of([0, 1], [0, 1]), False),
    ],
)
def test_a_run_at_chance_is_named(part: SplitPredictions, *, warned: bool) -> None:
    found = at_chance([part])
    assert [("ended at chance (seed 0; 1 trained)" in said, "`max_epochs`" in said) for said in found] == [
        (True, True)
    ] * warned


def test_the_seed_at_chance_is_named() -> None:
    part = SplitPredictions(
        "test",
        RIGHT.hashes,
        RIGHT.labels,
        RIGHT.by_seed | {3: WORSE.by_seed[0]},
        RIGHT.answers | {3: WORSE.answers[0]},
    )
    (said,) = at_chance([part, part])
    assert "(seed 3; 2 trained)" in said


@pytest.mark.parametrize(("shuffled", "warned"), [(False, False), (True, True)])
def test_several_labels_at_chance(*, shuffled: bool, warned: bool) -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((200, 4)) < 0.3).astype(np.int64)
    answers = rng.permutation(labels) if shuffled else labels & (rng.random((200, 4)) < 0.5)
    part = SplitPredictions("test", ["0"] * 200, labels, {0: answers.astype(np.float32)}, {0: answers})
    assert bool(at_chance([part])) == warned


@pytest.mark.parametrize(
    ("histories", "warned"),
    [
        ([[0.5, 0.6, 0.7]], True),
        ([[0.5, 0.7, 0.701]], False),  # hardly more
        ([[0.5, 0.7, 0.6]], False),  # stopped early
        ([[0.7]], False),  # fitted once
        ([[0.5, 0.6, 0.7], [0.5, 0.7, 0.6]], False),  # one of two seeds
        ([[0.5, 0.6, 0.7], [0.5, 0.6, 0.7], [0.5, 0.7, 0.6]], True),
    ],
)
def test_training_that_was_cut_off(histories: list[list[float]], warned: bool) -> None:
    found = cut_off([[{"valid_macro_f1": value} for value in one] for one in histories], "macro_f1")
    assert [("validation macro F1 rose by 10.0 points" in said, "`max_epochs`" in said) for said in found] == (
        [(True, True)] * warned
    )


@pytest.mark.parametrize(
    ("texts", "interval", "said"),
    [
        (1000, [0.80, 0.85], None),
        (60, [0.70, 0.90], "between 70.0 and 90.0%"),
        (20, [1.0, 1.0], "between 83.2 and 100.0%"),  # Clopper and Pearson
        (20, [0.0, 0.0], "between 0.0 and 16.8%"),
        (500, [1.0, 1.0], None),
        (1, None, "one text"),
    ],
)
def test_a_split_that_is_too_small(texts: int, interval: list[float] | None, said: str | None) -> None:
    summary = {"mean": 0.8} | ({"ci95": interval} if interval else {})
    found = wide_interval(
        {"test": {"accuracy": summary}, "rows": {"train": 9000}}, "test", texts, can_cross_validate=True
    )
    assert (len(found) == 1 and said in found[0]) if said else found == []


@pytest.mark.parametrize("crossed", [True, False])
def test_a_cross_validation_is_called_by_its_name(*, crossed: bool) -> None:
    metrics = {"valid": {"accuracy": {"mean": 0.8, "ci95": [0.7, 0.9]}}, "cross_validated": crossed}
    (said,) = wide_interval(metrics, "valid", 60, can_cross_validate=False)
    assert said.startswith("Cross-validation has" if crossed else "Validation has")


@pytest.mark.parametrize("possible", [True, False])
def test_few_rows_are_pointed_to_cross_validation(*, possible: bool) -> None:
    metrics = {"test": {"accuracy": {"mean": 0.8, "ci95": [0.7, 0.9]}}}
    (said,) = wide_interval(metrics, "test", 60, can_cross_validate=possible)
    assert ("`cross_validate`" in said) == possible


@pytest.mark.parametrize(
    ("own", "theirs", "interval", "said"),
    [
        (
            LABELS,
            [1, *LABELS[1:]],
            (0.8, 1.0),
            "On 100 texts of test, the model can't be distinguished from logistic regression",
        ),
        (LABELS, [1, *LABELS[1:]], (0.98, 1.0), "no significant difference on these texts"),
        ([1 - label for label in LABELS], LABELS, (0.8, 1.0), "The model is not better than logistic regression"),
    ],
    ids=["few texts", "many texts", "told apart"],
)
def test_few_texts_are_no_verdict(
    own: list[int], theirs: list[int], interval: tuple[float, float], said: str
) -> None:
    metrics = metrics_of({"accuracy": 0.9}, {"accuracy": 0.9})
    metrics["test"]["accuracy"]["ci95"] = interval
    base = {"logistic_regression": part_of(theirs, LABELS)}
    (sentence,) = not_better(metrics, base, part_of(own, LABELS), "accuracy")
    assert said in sentence
    assert "accuracy 90.0% against 90.0% (McNemar's test p" in sentence
