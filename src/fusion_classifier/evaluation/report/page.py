"""The report of a run: everything that its page shows, as plain values, and the page itself.

`page` fills `report.html.j2` with what these functions give: one HTML file that needs nothing beside it. Metrics come
from `metrics.json`; only what a picture needs beyond them is computed here, from the stored predictions.
"""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve

from fusion_classifier.evaluation.formats import METRIC_TITLES, format_metric, size
from fusion_classifier.evaluation.metrics import per_class
from fusion_classifier.evaluation.report.charts import (
    Axis,
    path_of,
)
from fusion_classifier.evaluation.report.figures import reliability_chart, risk_chart, text_map, training_charts
from fusion_classifier.evaluation.report.label_order import LabelOrder
from fusion_classifier.evaluation.report.mistakes import confident_mistakes, confused_pairs, confusion, order_of
from fusion_classifier.evaluation.report.record import MOST_COLOURS, SHORT_TITLES, RunRecord
from fusion_classifier.evaluation.selective import at_coverages

FOLDER = Path(__file__).parent

# --- parts of the page --------------------------------------------------------------------------------------


def results(run: RunRecord) -> dict[str, Any]:
    """The table of metrics by split, and the values of each seed."""
    metrics, split = run.metrics, run.part.split
    columns = {"validation": metrics["valid"]}
    if metrics.get("test") is not None:
        columns["test"] = metrics["test"]
    if metrics.get("test_without_overlap") is not None:
        columns["test without overlap"] = metrics["test_without_overlap"]
    there = [name for name in METRIC_TITLES if name in metrics[split]]
    rows = [
        {"title": METRIC_TITLES[name], "cells": [format_metric(name, column[name]) for column in columns.values()]}
        for name in there
    ]
    sizes = metrics.get("rows", {})
    counts = [sizes.get("valid"), sizes.get("test"), sizes.get("test_without_overlap")][: len(columns)]
    by_seed = [
        {
            "seed": seed,
            "cells": [format_metric(name, {"mean": metrics[split][name]["values"][i]}).mean for name in there],
            "epoch": metrics.get("best_epochs", {}).get(str(seed)),
            "temperature": metrics.get("temperatures", {}).get(str(seed)),
            "beta": metrics.get("betas", {}).get(str(seed)),
        }
        for i, seed in enumerate(metrics["seeds"])
    ]
    return {
        "columns": list(zip(columns, counts, strict=True)),
        "rows": rows,
        "by_seed": by_seed,
        "titles": [SHORT_TITLES.get(name, METRIC_TITLES[name]) for name in there],
    }


def headline(run: RunRecord) -> list[dict[str, Any]]:
    """The figures that come first."""
    metrics = run.metrics[run.part.split]
    chosen = (
        ("macro_f1", "micro_f1", "map", "ece") if run.multilabel else ("accuracy", "weighted_f1", "macro_f1", "ece")
    )
    return [
        {"title": METRIC_TITLES[name], **format_metric(name, metrics[name])._asdict()}
        for name in chosen
        if name in metrics
    ]


def commonest(run: RunRecord) -> dict[str, Any]:
    """The label with the most texts, and how many of them have it: what guessing would reach."""
    labels = run.part.labels
    counts = labels.sum(0) if run.multilabel else np.bincount(labels, minlength=len(run.names))
    best = int(counts.argmax())
    return {"label": run.names[best], "share": float(counts[best] / max(len(labels), 1))}


def label_rows(run: RunRecord, order: LabelOrder) -> list[dict[str, Any]]:
    """Each label's precision, recall, F1 and support, best F1 first; multi-label: threshold, average precision."""
    split = run.part.split
    table = run.metrics.get("per_class", {}).get(split) or per_class(run.part, run.names)
    cuts = thresholds(run)
    rows = []
    for i, name in enumerate(run.names):
        row = {"name": name, "group": order.groups[i] % MOST_COLOURS, **table[name], "threshold": None, "ap": None}
        if run.multilabel:
            truth = run.part.labels[:, i]
            row["threshold"] = float(np.mean(cuts[:, i])) if len(cuts) else None
            row["ap"] = (
                float(np.mean([average_precision_score(truth, p[:, i]) for p in run.part.by_seed.values()]))
                if truth.any()
                else None
            )
        rows.append(row)
    return sorted(rows, key=lambda row: (-row["f1"], row["name"]))


def thresholds(run: RunRecord) -> np.ndarray:
    """Thresholds of each seed, (S, C); of a run with one label a text none."""
    found = [(record.get("decision") or {}).get("thresholds") for record in run.seeds.values()]
    return np.array([one for one in found if one is not None], dtype=np.float64)


def precision_recall(run: RunRecord) -> list[dict[str, Any]]:
    """The precision–recall curve (mean of the seeds' probabilities) of each label that texts have, in 120 by 84."""
    x, y = Axis(0, 1, 4, 116, "recall"), Axis(0, 1, 80, 4, "precision")
    mean, found = run.mean, []
    table = {row["name"]: row for row in label_rows(run, order_of(run))}
    for i, name in enumerate(run.names):
        truth = run.part.labels[:, i]
        if not truth.any():
            continue
        # The last point, precision 1 at recall 0, belongs to no threshold.
        precision, recall = (one[:-1] for one in precision_recall_curve(truth, mean[:, i])[:2])
        row = table[name]
        found.append(
            {
                "name": name,
                "path": path_of(x, y, recall[::-1], precision[::-1]),
                "dot": (x.at(row["recall"]), y.at(row["precision"])),
                "base": y.at(float(truth.mean())),
                **row,
            }
        )
    return found


def stage_rows(run: RunRecord) -> list[dict[str, Any]]:
    """Time, peak memory and texts of each stage; of an old run only the times of its last call."""
    stages: dict[str, Any] = {name: dict(one) for name, one in (run.metrics.get("stages") or {}).items()} or {
        name: {"seconds": seconds} for name, seconds in (run.metrics.get("seconds") or {}).items()
    }
    epochs = sum(epoch["seconds"] for record in run.seeds.values() for epoch in record.get("history", ()))
    if "train" in stages:
        # Of seeds that fec train or an older version trained, their epochs alone know the time.
        stages["train"]["seconds"] = max(stages["train"]["seconds"], epochs)
    longest = max((one["seconds"] for one in stages.values()), default=0) or 1
    return [
        {
            "name": name,
            "seconds": one["seconds"],
            "share": one["seconds"] / longest,
            "memory": size(one["peak_memory"]) if one.get("peak_memory") else None,
            "encoded": one.get("encoded") if name == "extract" else None,
            "calls": one.get("calls"),
        }
        for name, one in stages.items()
    ]


@dataclass(frozen=True)
class Entry:
    """A line of what was run: a name and values, of which those in `code` are shown as such."""

    name: str
    value: str
    code: bool = False


def what_was_run(run: RunRecord) -> dict[str, list[Entry]]:
    """Data, encoders, head, training and versions, by heading."""
    config, described = run.config["run"], run.config
    data, task = described.get("data", {}), config["task"]
    sections: dict[str, list[Entry]] = {}
    sections["Data"] = [
        Entry("task", str(run.metrics.get("task", task["name"]))),
        Entry("source", str(data.get("source", "unknown")), code=True),
        Entry("licence", str(data.get("licence", "unknown"))),
        Entry("labels", f"{len(run.names)}, " + ("any number of them a text" if run.multilabel else "one a text")),
    ]
    if task.get("limit"):
        sections["Data"].append(Entry("limit", f"the first {task['limit']:,} rows of each split"))
    for name, one in data.get("splits", {}).items():
        sections["Data"].append(Entry(f"{name}, SHA-256", f"{one['rows']:,} rows · {one['sha256'][:16]}…", code=True))
    weights = described.get("weights", {})
    for encoder in config["encoders"]:
        layers = "the default ones" if encoder["layers"] is None else ", ".join(map(str, encoder["layers"]))
        rows = [
            Entry("model", encoder["model"] + (f" @ {encoder['revision']}" if encoder.get("revision") else "")),
            Entry("layers", layers),
            Entry("pooling", encoder["pooling"]),
            Entry("longest input", f"{encoder['max_length']} tokens"),
            Entry("precision", encoder["dtype"]),
        ]
        if encoder.get("template", "{text}") != "{text}":
            rows.append(Entry("template", encoder["template"], code=True))
        if encoder.get("projection"):
            rows.append(Entry("projection", str(encoder["projection"]), code=True))
        if encoder["name"] in weights:
            rows.append(Entry("weights", f"{weights[encoder['name']]['fingerprint'][:16]}…", code=True))
        key = described.get("encoder_keys", {}).get(encoder["name"])
        if key:
            rows.append(Entry("key in the store", key, code=True))
        sections[f"Encoder {encoder['name']}"] = rows
    head = config["head"]
    sections[f"Head {head['name']}"] = [
        *(
            Entry(key.replace("_", " "), f"{value:g}" if isinstance(value, float) else str(value))
            for key, value in head.items()
            if key != "name"
        ),
        *([Entry("trained parameters", f"{run.metrics['parameters']:,}")] if "parameters" in run.metrics else []),
    ]
    sections["Training"] = [
        Entry("seeds", ", ".join(map(str, config["seeds"]))),
        *(
            Entry(key.replace("_", " "), f"{value:g}" if isinstance(value, float) else str(value))
            for key, value in config["training"].items()
            if value is not None
        ),
    ]
    sections["Versions"] = [
        Entry(key.replace("fusion_classifier", "llm-fusion-classifier"), str(value))
        for key, value in described.get("environment", {}).items()
    ]
    return sections


# --- the page -----------------------------------------------------------------------------------------------


def values_of(run: RunRecord) -> dict[str, Any]:
    """All values of the template."""
    order = order_of(run)
    values: dict[str, Any] = {
        "run": run,
        "order": order,
        "by_tree": bool(run.label_tree) and any(order.names),
        "split": run.part.split,
        "texts": len(run.part.labels),
        "headline": headline(run),
        "results": results(run),
        "commonest": commonest(run),
        "labels": label_rows(run, order),
        "reliability": reliability_chart(run),
        "mistakes": confident_mistakes(run),
        "map": text_map(run, order),
        "training": training_charts(run),
        "stages": stage_rows(run),
        "what": what_was_run(run),
        "missing": sum(one not in run.texts for one in set(run.part.hashes)) if run.texts is not None else 0,
    }
    if run.multilabel:
        return values | {"curves": precision_recall(run)}
    chart, area = risk_chart(run)
    return values | {
        "confusion": confusion(run, order),
        "pairs": confused_pairs(run),
        "risk": chart,
        "aurc": area,
        "coverages": (run.metrics.get("risk_coverage") or {}).get(run.part.split)
        or at_coverages(run.part.labels, list(run.part.by_seed.values())),
    }


def page(run: RunRecord) -> str:
    """The report as one HTML file, which loads nothing: style, script and pictures are in it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.undefined = jinja2.StrictUndefined
    environment.filters |= {
        "pct": _percent,
        "num": _number,
        "duration": _duration,
    }
    script = (FOLDER / "report.js").read_text("utf-8")
    # Only this script may run, and nothing may be fetched, whatever stands in the texts.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = (FOLDER / "report.css").read_text("utf-8")
    template = environment.get_template("report.html.j2")
    return template.render(values_of(run), script=script, style=style, script_hash=f"sha256-{digest}")


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}"


def _number(value: float) -> str:
    """A count; the mean of several with one digit where it has any."""
    return f"{value:,.0f}" if abs(value - round(value)) < 0.05 else f"{value:,.1f}"


def _duration(seconds: float) -> str:
    """A time as a person reads it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
