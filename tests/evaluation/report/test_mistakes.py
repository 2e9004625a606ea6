"""Mistakes and the map of a report are those of the answers that were given, which need not be the most probable."""

import numpy as np
import pytest

from fusion_classifier.evaluation.predictions import SplitPredictions
from fusion_classifier.evaluation.report.mistakes import confident_mistakes
from fusion_classifier.evaluation.report.record import RunRecord
from fusion_classifier.evaluation.report.text_map import text_map


def record(labels: np.ndarray, by_seed: list[np.ndarray], answers: list[np.ndarray]) -> RunRecord:
    part = SplitPredictions(
        "test",
        [f"{i:032x}" for i in range(len(labels))],
        labels,
        dict(enumerate(by_seed)),
        dict(enumerate(answers)),
        ("often", "rare"),
    )
    return RunRecord("run", "", {}, {}, {}, part, model_seed=1)


def test_an_answer_that_offsets_made_right_is_no_mistake() -> None:
    """Text 0 is rare and answered so at 40%; text 1 is often and answered rare at 45%."""
    labels, answers = np.array([1, 0, 0]), np.array([1, 1, 0])
    p = np.array([[0.6, 0.4], [0.55, 0.45], [0.9, 0.1]], dtype=np.float32)
    for count in (1, 2):
        (found,) = confident_mistakes(record(labels, [p] * count, [answers] * count))
        assert (found["true"], found["predicted"]) == ("often", "rare")
        assert (found["p"], found["p_true"]) == pytest.approx((0.45, 0.55))


def test_several_labels_are_wrong_by_their_thresholds() -> None:
    """At thresholds 0.2 and 0.8: the label at 30% of text 0 is predicted, that at 70% of text 1 is not."""
    p = np.array([[0.3, 0.1], [0.1, 0.7]], dtype=np.float32)
    answers = np.array([[1, 0], [0, 0]])
    assert confident_mistakes(record(answers, [p], [answers])) == []
    first, second = confident_mistakes(record(np.array([[0, 0], [0, 1]]), [p], [answers]))
    assert (first["predicted"], first["true"]) == ("often", "no label")
    assert (second["predicted"], second["true"]) == ("not rare", "rare")


def test_rings_of_the_map_are_the_wrong_answers_of_its_seed() -> None:
    rng = np.random.default_rng(0)
    labels, first, second = (rng.integers(0, 2, 30) for _ in range(3))
    p = rng.dirichlet(np.ones(2), 30).astype(np.float32)
    found = text_map(record(labels, [p, p], [first, second]))
    assert found is not None
    assert found["seed"] == 1
    assert [point["right"] for point in found["points"]] == (second == labels).tolist()
