"""The report of a run as one HTML file: the values shown by `report.html.j2`.

Metrics come from metrics.json; further data for the figures are computed from the predictions.
"""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from fusion_classifier.config import HEAD_CONFIGS, SOLVED_FIELDS
from fusion_classifier.evaluation.figures.charts import reliability_chart, risk_chart, training_charts
from fusion_classifier.evaluation.figures.confusion import confusion_matrix
from fusion_classifier.evaluation.figures.svg import Plot
from fusion_classifier.evaluation.figures.values import COLOURS, LABELLED_SHARE, Axis, Chart, Line
from fusion_classifier.evaluation.formats import BASELINE_METRICS, BASELINE_TITLES, METRIC_TITLES, format_metric
from fusion_classifier.evaluation.metrics import per_class
from fusion_classifier.evaluation.report.mistakes import confident_mistakes, confused_pairs
from fusion_classifier.evaluation.report.record import RunRecord
from fusion_classifier.evaluation.report.text_map import text_map
from fusion_classifier.evaluation.selective import at_coverages
from fusion_classifier.evaluation.unknown import UNKNOWN_TITLES
from fusion_classifier.support.text import counted, duration, size

FOLDER = Path(__file__).parent
COLUMNS = {"valid": "validation", "test": "test", "test_without_overlap": "test without overlap"}
SHORT_TITLES = {"nll": "NLL", "ece": "ECE", "top3_accuracy": "top-3", "map": "mAP", "subset_accuracy": "all right"}
HEADLINE = ("accuracy", "weighted_f1", "macro_f1", "ece")
MULTILABEL_HEADLINE = ("macro_f1", "micro_f1", "map", "ece")


def page(run: RunRecord) -> str:
    """Return the report as one self-contained HTML file, with style, script and figures."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "pct": lambda share, digits=1: f"{100 * share:.{digits}f}",
        "num": _number,
        "duration": duration,
        "metric": lambda summary, name: format_metric(name, summary),
        "size": size,
    }
    script = (FOLDER / "report.js").read_text("utf-8")
    # Only this script may run and nothing may be loaded, whatever the texts contain.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = (FOLDER / "report.css").read_text("utf-8")
    template = environment.get_template("report.html.j2")
    return template.render(page_values(run), script=script, style=style, script_hash=f"sha256-{digest}")


def page_values(run: RunRecord) -> dict[str, Any]:
    """Return the values of the template."""
    part, metrics, split = run.part, run.metrics, run.part.split
    values: dict[str, Any] = {
        "run": run,
        "metrics": metrics,
        "split": split,
        "texts": len(part.labels),
        "by_tree": bool(run.label_tree) and any(run.order.names),
        "columns": [(name, title) for name, title in COLUMNS.items() if metrics.get(name) is not None],
        "unknown_titles": UNKNOWN_TITLES,
        "titles": {name: title for name, title in METRIC_TITLES.items() if name in metrics[split]},
        "short_titles": SHORT_TITLES,
        "headline": MULTILABEL_HEADLINE if run.multilabel else HEADLINE,
        "commonest": most_frequent(run),
        "warnings": metrics.get("warnings", ()),
        "baselines": baseline_rows(run),
        "labels": label_rows(run),
        "colours": COLOURS,
        "plot": Plot,
        "reliability": reliability_chart(part),
        "mistakes": confident_mistakes(run),
        "map": text_map(run),
        "training": training_charts(run.seeds),
        "stages": stage_rows(run),
        "what": configuration(run),
        "missing": 0 if run.texts is None else len({*part.hashes} - {*run.texts}),
    }
    if run.multilabel:
        return values | {"curves": precision_recall(run, values["labels"])}
    return values | {
        "matrix": confusion_matrix(part, run.names, run.order),
        "labelled_share": LABELLED_SHARE,
        "pairs": confused_pairs(run),
        "risk": risk_chart(part),
        "coverages": at_coverages(part, run.valid) if run.valid is not None else [],
    }


def most_frequent(run: RunRecord) -> tuple[str, float]:
    """Return the label with the most texts and its share, the accuracy of guessing."""
    labels = run.part.labels
    counts = labels.sum(0) if run.multilabel else np.bincount(labels, minlength=len(run.names))
    return run.names[counts.argmax()], float(counts.max() / max(len(labels), 1))


def baseline_rows(run: RunRecord) -> dict[str, Any]:
    """Return the scores of the model and the baselines on this split."""
    found, split = run.metrics["baselines"], run.part.split
    names = [name for name in BASELINE_METRICS if name in run.metrics[split]]
    rows = {f"this model, head {run.metrics['head']}": {name: run.metrics[split][name]["mean"] for name in names}}
    rows |= {BASELINE_TITLES[name]: scores[split] for name, scores in found.items()}
    c = run.metrics["baseline_fits"]["logistic_regression"]["C"]
    return {"names": names, "rows": rows, "C": f"{c:g}"}


def label_rows(run: RunRecord) -> list[dict[str, Any]]:
    """Return precision, recall, F1 and support by label, best F1 first; multi-label: threshold, mean AP."""
    table = run.metrics.get("per_class", {}).get(run.part.split) or per_class(run.part, run.names)
    rows = [{"name": name, "threshold": None, "ap": None, **table[name]} for name in run.names]
    if run.multilabel:
        from sklearn.metrics import average_precision_score  # noqa: PLC0415 - slow to import

        decisions = [record.get("decision") or {} for record in run.seeds.values()]
        thresholds = [decision["thresholds"] for decision in decisions if decision.get("thresholds")]
        for i, (row, truth) in enumerate(zip(rows, run.part.labels.T, strict=True)):
            if thresholds:
                row["threshold"] = float(np.mean([one[i] for one in thresholds]))
            if truth.any():
                scores = [average_precision_score(truth, p[:, i]) for p in run.part.by_seed.values()]
                row["ap"] = float(np.mean(scores))
    return sorted(rows, key=lambda row: (-row["f1"], row["name"]))


def precision_recall(run: RunRecord, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of labels with texts, with the precision–recall curve of the mean probabilities."""
    from sklearn.metrics import precision_recall_curve  # noqa: PLC0415 - slow to import

    by_name, found = {row["name"]: row for row in rows}, []
    for name, truth, probabilities in zip(run.names, run.part.labels.T, run.mean.T, strict=True):
        if truth.any():
            row = by_name[name]
            # The last point, precision 1 at recall 0, has no threshold.
            precision, recall = (one[-2::-1] for one in precision_recall_curve(truth, probabilities)[:2])
            line = Line(name, recall, precision, 0, dot=(row["recall"], row["precision"]))
            chart = Chart(name, Axis("recall", 0, 1), Axis("precision", 0, 1), (line,))
            found.append({**row, "plot": Plot(chart, 4, 116, 4, 80), "line": line, "share": float(truth.mean())})
    return found


def stage_rows(run: RunRecord) -> dict[str, dict[str, Any]]:
    """Return time, peak memory and texts of each stage."""
    stages = {name: dict(one) for name, one in run.metrics["stages"].items()}
    if "train" in stages:
        # For seeds trained by fec train, only the epochs have times.
        epochs = sum(epoch["seconds"] for record in run.seeds.values() for epoch in record.get("history", ()))
        stages["train"]["seconds"] = max(stages["train"]["seconds"], epochs)
    longest = max((one["seconds"] for one in stages.values()), default=0) or 1
    return {name: {**one, "share": one["seconds"] / longest} for name, one in stages.items()}


def configuration(run: RunRecord) -> dict[str, dict[str, str]]:
    """Return data, encoders, head, training and versions as names and values, by heading."""
    config, described = run.config["run"], run.config
    data, task, head = described.get("data", {}), config["task"], config["head"]
    splits = {
        f"{name}, SHA-256": f"{counted(one['rows'], 'row')} · {one['sha256'][:16]}…"
        for name, one in data.get("splits", {}).items()
    }
    sections = {
        "Data": {
            "task": run.metrics.get("task", task["name"]),
            "source": data.get("source", "unknown"),
            "licence": data.get("licence", "unknown"),
            "labels": f"{len(run.names)}, {'any number' if run.multilabel else 'one'} per text",
            "limit": f"the first {task['limit']:,} rows of each split" if task.get("limit") else None,
            **splits,
        }
    }
    for encoder in config["encoders"]:
        name = encoder["name"]
        weights = described.get("weights", {}).get(name)
        sections[f"Encoder {name}"] = {
            **{key: value for key, value in encoder.items() if key != "name"},
            "layers": encoder["layers"] or "default",
            "template": encoder.get("template") if encoder.get("template") != "{text}" else None,
            "weights": f"{weights['fingerprint'][:16]}…" if weights else None,
            "key in the feature store": described.get("encoder_keys", {}).get(name),
        }
    parameters = run.metrics.get("parameters")
    sections[f"Head {head['name']}"] = {key: value for key, value in head.items() if key != "name"} | {
        "trained parameters": None if parameters is None else f"{parameters:,}"
    }
    kind = HEAD_CONFIGS.get(head["name"])
    solved = kind is not None and kind.solved
    settings = {name: value for name, value in config["training"].items() if not solved or name in SOLVED_FIELDS}
    sections["Training"] = {"seeds": config["seeds"], **settings}
    sections["Versions"] = {
        key.replace("fusion_classifier", "llm-fusion-classifier"): value
        for key, value in described.get("environment", {}).items()
    }
    return {heading: _texts(entries) for heading, entries in sections.items()}


def _texts(entries: Mapping[str, Any]) -> dict[str, str]:
    """Return the non-empty entries as text."""
    return {key.replace("_", " "): _text(value) for key, value in entries.items() if value is not None}


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    """Format a count; a mean that is not an integer has one decimal."""
    return f"{value:,.0f}" if abs(value - round(value)) < 0.05 else f"{value:,.1f}"
