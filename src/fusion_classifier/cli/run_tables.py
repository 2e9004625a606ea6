"""The result of `fec run` on standard output: scores, members, baselines, warnings, and what to do next."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusion_classifier.cli.messages import in_options
from fusion_classifier.cli.tables import percent, say, show, show_metrics
from fusion_classifier.evaluation.formats import BASELINE_METRICS, BASELINE_TITLES, METRIC_TITLES, format_metric
from fusion_classifier.evaluation.unknown import UNKNOWN_TITLES
from fusion_classifier.support.text import counted

# Rows per label and out-of-fold accuracy of the best member up to which tuning an encoder is worth a trial.
FEW_ROWS_PER_LABEL, POOR_ACCURACY = 64, 0.8


def print_run(metrics: Mapping[str, Any], folder: Path) -> None:
    """The result of `fec run`, and what to do next."""
    seeds, apart = len(metrics["seeds"]), metrics["test_without_overlap"]
    title = [metrics["task"], " + ".join(metrics["encoders"]), metrics["head"], counted(seeds, "seed")]
    valid = _valid_title(metrics)
    columns = {valid: metrics["valid"], "test": metrics["test"], "test without overlap": apart}
    show_metrics(" · ".join(title), columns)
    std = " ± sample standard deviation over seeds" if seeds > 1 else ""
    say(f"Accuracies, F1 and ECE in %; mean{std}; in brackets the 95% bootstrap interval over texts.", "dim")
    if metrics.get("cross_validated"):
        say("Cross-validation: every row was predicted from the other rows; the model is trained on all rows.")
    elif metrics["test"] is None:
        say("The task has no test split: validation is reported, on which the best epoch was chosen.")
    if apart is not None:
        texts = metrics["rows"]["test"] - metrics["rows"]["test_without_overlap"]
        say(
            f"{counted(texts, 'test text')} also in train, ignoring case and punctuation; left out of the last "
            "column."
        )
    _show_members(metrics["members"])
    _show_baselines(metrics)
    if "unknown" in metrics:
        _show_unknown(metrics["unknown"])
    _advise_tuning(metrics)
    for warning in metrics["warnings"]:
        say(f"Warning: {in_options(warning)}", "yellow")
    say(f"\nWritten to {folder}: metrics.json, predictions.parquet, model/ and pictures. Next:")
    say(f'  fec predict {folder} "your text" --top-k 3')
    if metrics["task"] == "demo":
        say("  fec run yours.csv --text-column … --label-column …")
        say("The demo corpus is small and easy: do not quote its scores.", "dim")


def _advise_tuning(metrics: Mapping[str, Any]) -> None:
    """Advice for few rows on which the frozen encoders perform poorly."""
    members, labels = metrics["members"], len(metrics["per_class"]["valid"])
    few = metrics["rows"]["train"] <= FEW_ROWS_PER_LABEL * labels
    tuned = any(one["name"].startswith("upper layers") for one in members)
    if members and few and not tuned and max(one["accuracy"] for one in members) < POOR_ACCURACY:
        reached = {one["name"]: one["accuracy"] for one in members}
        encoder = max(metrics["encoders"], key=lambda name: reached.get(f"attention {name}", 0.0))
        say(
            "Few rows, on which the frozen encoders are uncertain: an encoder tuned on them may be better. Try "
            f"fec tune {encoder} TASK --objective contrastive, and compare its accuracy with "
            f"{percent(metrics['valid']['accuracy']['mean'])}."
        )


def _show_members(members: Sequence[Mapping[str, Any]]) -> None:
    """The parts of the head `ensemble`."""
    if not members:
        return
    rows = [
        [one["name"], f"{one['weight']:.2f}", percent(one["accuracy"]), percent(one["weighted_f1"])]
        for one in members
    ]
    show("Members of the ensemble", ["member", "weight", "accuracy", "weighted F1"], rows, right=1)
    say("Mean over seeds; scores on texts that the member was not trained on, which determine the weights.", "dim")


def _show_baselines(metrics: Mapping[str, Any]) -> None:
    """The scores of the model and the baselines, by split."""
    rows: list[list[str]] = []
    for split, title in (("test", "test"), ("valid", _valid_title(metrics))):
        if metrics[split] is None:
            continue
        own = {name: metrics[split][name]["mean"] for name in BASELINE_METRICS if name in metrics[split]}
        others = {BASELINE_TITLES[name]: scores[split] for name, scores in metrics["baselines"].items()}
        found = {f"this model ({metrics['head']})": own} | others
        cells = [[name, *(percent(scores[metric]) for metric in own)] for name, scores in found.items()]
        rows += [[title, *cells[0]], *(["", *row] for row in cells[1:])]
    show("Baselines", ["split", "classifier", *(METRIC_TITLES[name] for name in own)], rows, right=2)
    fit = metrics["baseline_fits"]["logistic_regression"]
    say(
        f"Logistic regression: on the same features, pooled (C = {fit['C']:g}, cross-validated). "
        "Majority class: always the most frequent label.",
        "dim",
    )


def _show_unknown(found: Mapping[str, Any]) -> None:
    """How well unknown texts are detected."""
    cells = [str(format_metric(name, found["metrics"][name])) for name in UNKNOWN_TITLES]
    title = f"Unknown texts: {found['texts']:,}, against {found['known_texts']:,} of {found['split']}"
    show(title, UNKNOWN_TITLES.values(), [cells], right=0)
    wanted = max(found["false_alarm_rate"], found["least_rate"])
    say(f"In %; the last three at the threshold for {percent(wanted)}% of known texts rejected.", "dim")


def _valid_title(metrics: Mapping[str, Any]) -> str:
    return "cross-validation" if metrics.get("cross_validated") else "validation"
