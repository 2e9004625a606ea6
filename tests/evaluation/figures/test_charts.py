"""What the charts of a run show."""

from typing import Any

import numpy as np
import pytest

from fusion_classifier.evaluation.figures.charts import (
    ablation_ranking,
    f1_ranking,
    reliability_chart,
    risk_chart,
    training_charts,
)
from fusion_classifier.evaluation.figures.svg import Plot
from fusion_classifier.evaluation.metrics import score
from fusion_classifier.evaluation.predictions import SplitPredictions


def part(n: int = 200, n_seeds: int = 2) -> SplitPredictions:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, n)
    by_seed = {seed: rng.dirichlet(np.ones(3), n).astype(np.float32) for seed in range(n_seeds)}
    answers = {seed: (p + np.array([0, 0, 0.3])).argmax(1) for seed, p in by_seed.items()}  # with offsets
    return SplitPredictions("test", [""] * n, labels, by_seed, answers)


def epochs(*f1: float) -> list[dict[str, float]]:
    return [
        {"epoch": i + 1, "train_loss": 2 - f, "valid_loss": 2.5 - f, "valid_weighted_f1": f} for i, f in enumerate(f1)
    ]


def test_training_has_a_dot_at_the_epoch_kept() -> None:
    records: dict[int, dict[str, Any]] = {
        0: {"history": epochs(0.1, 0.5, 0.5), "best_epoch": 3},
        4: {},
        5: {"history": epochs(0.2, 0.3)},
    }
    loss, f1 = training_charts(records)
    assert [(line.name, line.dotted) for line in loss.lines] == [
        ("seed 0", True),
        ("seed 0", False),
        ("seed 5", True),
        ("seed 5", False),
    ]
    assert [line.dot for line in f1.lines] == [(3, 50), None]
    assert f1.lines[0].y == pytest.approx([10, 50, 50])
    assert (f1.x.high, f1.y.high, loss.y.high) == (3, 51, 2.4)


def test_what_has_no_course_has_no_training_charts() -> None:
    assert training_charts({0: {}, 1: {"history": []}, 2: {"history": epochs(0.9), "best_epoch": 1}}) == []


def test_risk_ends_at_the_accuracy_of_each_seed() -> None:
    one = part()
    chart = risk_chart(one)
    for line, answers in zip(chart.lines, one.answers.values(), strict=True):
        assert (line.x[-1], line.y[-1]) == pytest.approx((100, 100 * (answers == one.labels).mean()))
        assert line.x[0] >= 10  # 20 of 200 texts
    assert "AURC" in chart.title


def test_reliability_bars_have_all_predictions() -> None:
    chart = reliability_chart(part(n_seeds=1))
    assert sum(int(bar.tip.split(": ")[1].split()[0]) for bar in chart.bars) == 200
    assert max(bar.share for bar in chart.bars) == 1
    assert all(0 <= bar.height <= 100 for bar in chart.bars)


def test_reliability_is_of_the_answers_given() -> None:
    one = part(n_seeds=1)
    chart, right = reliability_chart(one), one.answers[0] == one.labels
    counts = [int(bar.tip.split(": ")[1].split()[0]) for bar in chart.bars]
    assert sum(n * bar.height / 100 for n, bar in zip(counts, chart.bars, strict=True)) == pytest.approx(right.sum())
    assert f"ECE {100 * score(one.labels, one.by_seed[0], one.answers[0])['ece']:.1f}%" in chart.title


def test_labels_are_ranked_by_f1() -> None:
    ranking = f1_ranking({"a": {"f1": 0.2, "support": 1000}, "b": {"f1": 0.7, "support": 3}})
    assert ranking.names == ("b (3)", "a (1,000)")
    assert ranking.values["F1"] == pytest.approx([70, 20])


def test_ablation_has_a_series_per_head() -> None:
    combinations = [
        {"head": "linear", "encoders": ["a"], "metrics": {"accuracy": {"mean": 0.5, "ci95": [0.4, 0.6]}}},
        {"head": "linear", "encoders": ["a", "b"], "metrics": {"accuracy": {"mean": 0.7}}},
        {"head": "fusion", "encoders": ["a"], "metrics": {"accuracy": {"mean": 0.6, "ci95": [0.5, 0.7]}}},
    ]
    ranking = ablation_ranking({"combinations": combinations, "split": "valid"})
    assert ranking.names == ("a", "a + b")
    assert ranking.values["linear"] == pytest.approx([50, 70])
    assert ranking.values["fusion"] == pytest.approx([60, np.nan], nan_ok=True)
    assert ranking.intervals["linear"] == pytest.approx(np.array([[40, 60], [70, 70]]))


def test_svg_lines_are_thinned_and_keep_their_ends() -> None:
    chart = risk_chart(part(1000))
    plot, line = Plot(chart), chart.lines[0]
    points = plot.path(line).removeprefix("M").split("L")
    assert len(points) == 160
    assert points[0] == f"{plot.x(line.x[0])},{plot.y(line.y[0])}"
    assert points[-1] == f"388.0,{plot.y(line.y[-1])}"
