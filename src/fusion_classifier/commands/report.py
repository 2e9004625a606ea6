"""The report of a run folder: reads what the folder holds and what lies beside it, and writes one HTML page."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from fusion_classifier.classifier.models import CONFIG_FILE as MODEL_CONFIG
from fusion_classifier.classifier.models import is_model
from fusion_classifier.errors import DataError, FecError, UsageError, library_errors
from fusion_classifier.evaluation.predictions import (
    PREDICTIONS_FILE,
    SplitPredictions,
    read_predictions,
)
from fusion_classifier.evaluation.report.page import page
from fusion_classifier.evaluation.report.record import RunRecord
from fusion_classifier.features.hashing import hash_texts, hexadecimal
from fusion_classifier.runs.config_file import read_config, read_run_config
from fusion_classifier.runs.folder import METRICS_FILE, REPORT_FILE
from fusion_classifier.support.files import user_path, write_atomic
from fusion_classifier.tasks.loaded import LoadedTask
from fusion_classifier.tasks.registry import load_task

REPORTED_SPLITS = ("test", "valid")  # the first that a run has


def write_report(
    folder: Path,
    *,
    out: Path | None = None,
    split: str | None = None,
    texts: bool = True,
    task: LoadedTask | None = None,
) -> Path:
    """Write the report of a run folder in one step; nothing is trained, predicted or extracted for it.

    Args:
        folder: what `fec run` has written.
        out: the file; `report.html` in the folder unless given.
        split: test or valid; test where the run has it unless given.
        texts: whether texts of the data may stand in the page.
        task: the run's task, where it is at hand; else it is read again.

    Returns:
        The file.

    Raises:
        UsageError: no split of this name, or `out` is a folder.
        FecError: the folder is no finished run, or the file can't be written.
    """
    if split is not None and split not in REPORTED_SPLITS:
        raise UsageError(f"--split {split!r}: choose from {', '.join(REPORTED_SPLITS)}; a run predicts these")
    folder = user_path(str(folder))
    path = folder / REPORT_FILE if out is None else user_path(str(out), "out")
    if path.is_dir():
        raise UsageError(f"--out {path}: is a folder; name a file, such as {path / REPORT_FILE}")
    if is_model(folder):
        raise FecError(f"{folder}: is a model folder; a report needs the run folder that it stands in")
    metrics, config = _metrics(folder), read_config(folder)
    stored = read_predictions(folder / PREDICTIONS_FILE, multilabel=True)
    chosen = split or next((name for name in REPORTED_SPLITS if name in stored), "test")
    if chosen not in stored or not metrics.get(chosen):
        raise DataError(f"{folder}: has no predictions for the {chosen} split (there: {', '.join(stored)})")
    part = stored[chosen]
    if sorted(part.by_seed) != sorted(metrics["seeds"]):
        raise FecError(
            f"{folder}: {PREDICTIONS_FILE} and {METRICS_FILE} are not of the same run; "
            "the same fec run in this folder writes both anew"
        )
    found, no_texts = _texts(folder, chosen, part, task)
    # What a page shows of these files is many figures deep, and none is missing or odd in those that fec run writes.
    with library_errors(
        lambda why: FecError(
            f"{folder}: {METRICS_FILE}, config.yaml or a seed's training.json is not as fec run writes it ({why}); "
            "the same fec run in this folder writes them anew"
        )
    ):
        record = RunRecord(
            folder=folder.resolve().name,
            date=f"{datetime.fromtimestamp((folder / METRICS_FILE).stat().st_mtime):%Y-%m-%d}",
            config=config,
            metrics=metrics,
            seeds={seed: _seed(folder, seed) for seed in metrics["seeds"]},
            part=part,
            texts=found[0] if texts and not no_texts else None,
            no_texts=no_texts if texts else "Texts were left out of this report, as asked.",
            label_tree=found[1],
            model_seed=_model_seed(folder),
        )
        written = page(record)
    write_atomic(path, written)
    return path


def _metrics(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise FecError(f"{folder}: no such run folder; give a folder that `fec run` has written")
    path = folder / METRICS_FILE
    if not path.is_file():
        raise FecError(f"{folder}: has no {METRICS_FILE}; `fec run` writes it at its end, and takes up what is there")
    try:
        metrics: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if not isinstance(metrics["valid"], dict) or not isinstance(metrics["seeds"], list):
            raise TypeError("not the metrics of a run")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FecError(f"{path}: can't be read ({error}); the same fec run in this folder writes it anew") from error
    return metrics


def _seed(folder: Path, seed: int) -> dict[str, Any]:
    """A seed's record; empty where it can't be read: the report then has no curves of it."""
    of_seed = folder / "seeds" / str(seed)
    try:
        record: dict[str, Any] = json.loads((of_seed / "training.json").read_text("utf-8"))
        if "decision" not in record:  # runs of earlier versions have it here
            record["decision"] = json.loads((of_seed / MODEL_CONFIG).read_text("utf-8"))["decision"]
        return record if isinstance(record, dict) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _model_seed(folder: Path) -> int | None:
    """The seed of the saved model, if it is there."""
    try:
        return int(json.loads((folder / "model" / MODEL_CONFIG).read_text("utf-8"))["seed"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _texts(
    folder: Path, split: str, part: SplitPredictions, task: LoadedTask | None
) -> tuple[tuple[dict[str, str], Sequence[tuple[str, str]]], str]:
    """The split's texts by hash and the label tree; or why there are none."""
    if task is None:
        try:
            task = load_task(read_run_config(folder).task)
        except FecError as error:
            return ({}, ()), f"The data could not be read again ({error}), so this report shows no texts."
    texts = task.splits[split].texts if split in task.splits else ()
    known = set(part.hashes)
    found = {h: text for h, text in zip(hexadecimal(hash_texts(texts)), texts, strict=True) if h in known}
    if not found:
        return ({}, task.label_tree), (
            f"The {split} texts of {task.source} are not those of this run, so this report shows no texts."
        )
    return (found, task.label_tree), ""
