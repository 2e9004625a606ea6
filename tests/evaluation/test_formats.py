"""Metrics and sizes as text."""

from fusion_classifier.evaluation.formats import format_metric


def test_metric_with_seeds_and_interval() -> None:
    summary = {"mean": 0.60444, "std": 0.01, "values": [0.59737, 0.61151], "ci95": [0.5872, 0.62219]}
    found = format_metric("accuracy", summary)
    assert found == ("60.44", "1.00", ("58.7", "62.2"))
    assert str(found) == "60.44 ± 1.00 [58.7, 62.2]"


def test_single_seed_has_no_deviation() -> None:
    assert str(format_metric("ece", {"mean": 0.05, "values": [0.05]})) == "5.00"


def test_log_likelihood_is_not_in_percent() -> None:
    assert str(format_metric("nll", {"mean": 1.23456, "values": [1.2, 1.3]})) == "1.235 ± 0.071"
