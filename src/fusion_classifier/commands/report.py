"""The report of a run folder as one HTML page."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError

from fusion_classifier.classifier.models import CONFIG_FILE as MODEL_CONFIG
from fusion_classifier.classifier.models import is_model
from fusion_classifier.errors import FecError, UsageError, reason
from fusion_classifier.evaluation.predictions import (
    PREDICTIONS_FILE,
    SplitPredictions,
    read_predictions,
    reported_split,
)
from fusion_classifier.evaluation.report.page import page
from fusion_classifier.evaluation.report.record import RunRecord
from fusion_classifier.features.hashing import hash_texts, hexadecimal
from fusion_classifier.runs.config_file import read_config, read_run_config
from fusion_classifier.runs.folder import METRICS_FILE, REPORT_FILE
from fusion_classifier.support.files import atomic_write, user_path
from fusion_classifier.tasks.loaded import LoadedTask
from fusion_classifier.tasks.registry import load_task

AGAIN = "run the same `fec run` again to write it"
# Raised where a value is missing (in the template, too), of another type, or out of range.
BAD_VALUES = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, UndefinedError)


def write_report(
    folder: Path,
    *,
    out: Path | None = None,
    split: str | None = None,
    texts: bool = True,
    task: LoadedTask | None = None,
) -> Path:
    """Write the report of a run folder, default report.html there; nothing is trained, predicted or extracted."""
    folder = user_path(str(folder))
    path = folder / REPORT_FILE if out is None else user_path(str(out), "out")
    if path.is_dir():
        raise UsageError(f"`out`: {path} is a folder; name a file, such as {path / REPORT_FILE}")
    if is_model(folder):
        raise FecError(f"{folder} is a model folder; give the run folder that it is in")
    metrics, config = _metrics(folder), read_config(folder)
    parts = read_predictions(folder / PREDICTIONS_FILE, multilabel=True)
    part, valid = parts[reported_split({folder: parts}, split)], parts.get("valid")
    if sorted(part.by_seed) != sorted(metrics["seeds"]) or not metrics.get(part.split):
        raise FecError(f"{folder}: {PREDICTIONS_FILE} and {METRICS_FILE} belong to different runs; {AGAIN}")
    found, label_tree, no_texts = _texts(folder, part, task)
    # The page shows many values of these files, all of which exist in files written by fec run.
    try:
        record = RunRecord(
            folder=folder.resolve().name,
            date=f"{datetime.fromtimestamp((folder / METRICS_FILE).stat().st_mtime):%Y-%m-%d}",
            config=config,
            metrics=metrics,
            seeds={seed: _seed(folder / "seeds" / str(seed)) for seed in metrics["seeds"]},
            part=part,
            valid=valid if valid is not None and valid.by_seed.keys() == part.by_seed.keys() else None,
            texts=found if texts and not no_texts else None,
            no_texts=no_texts if texts else "This report shows no texts, as requested.",
            label_tree=label_tree,
            model_seed=_json(folder / "model" / MODEL_CONFIG).get("seed"),
        )
        written = page(record)
    except BAD_VALUES as error:
        raise FecError(
            f"{folder}: {METRICS_FILE}, config.yaml or a training.json is not as `fec run` writes it "
            f"({reason(error)}); {AGAIN}"
        ) from error
    atomic_write(path, written)
    return path


def _metrics(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise FecError(f"{folder}: no such run folder; choose a folder written by `fec run`")
    path = folder / METRICS_FILE
    if not path.is_file():
        raise FecError(
            f"{folder} has no {METRICS_FILE}; `fec run` writes it at the end and resumes an unfinished run"
        )
    metrics = _json(path)
    if not isinstance(metrics.get("valid"), dict) or not isinstance(metrics.get("seeds"), list):
        raise FecError(f"{path} can't be read; {AGAIN}")
    return metrics


def _seed(folder: Path) -> dict[str, Any]:
    """Return the contents of training.json and config.json of a seed."""
    return _json(folder / MODEL_CONFIG) | _json(folder / "training.json")


def _json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file; empty if it can't be read, so that the report omits that part."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


def _texts(
    folder: Path, part: SplitPredictions, task: LoadedTask | None
) -> tuple[dict[str, str], Sequence[tuple[str, str]], str]:
    """Return the texts of the split by hash, the label tree, and the reason if there are no texts."""
    if task is None:
        try:
            task = load_task(read_run_config(folder).task)
        except FecError as error:
            return {}, (), f"The data could not be loaded again ({error}), so this report shows no texts."
    texts = task.splits[part.split].texts if part.split in task.splits else ()
    known = set(part.hashes)
    found = {key: text for key, text in zip(hexadecimal(hash_texts(texts)), texts, strict=True) if key in known}
    why = f"The {part.split} texts of {task.source} are not those of this run, so this report shows no texts."
    return found, task.label_tree, "" if found else why
