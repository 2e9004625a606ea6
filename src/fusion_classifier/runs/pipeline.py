"""The main pipeline: extract, train several seeds, evaluate. Every stage can be resumed.

A run folder contains

    config.yaml            resolved configuration, data hashes, encoder keys, versions
    seeds/<seed>/          one model folder per seed with its training history (seeds.py), written when finished
    model/                 the seed with the best validation score, with the scores in its card
    metrics.json           every metric: mean, standard deviation and values over seeds
    predictions.parquet    probabilities, one row per text and seed
    stages.json            seconds and memory of each stage, over all calls
    report.html            the results as a page (written by `fec run` and `fec report`)
    training_curves.png, confusion_matrix.png, risk_coverage.png; f1_by_label.png in a multi-label task
    tracking.json, tensorboard/   what was logged to the tracker; TensorBoard's files

Each is written atomically. The same command continues where an earlier one stopped; another configuration is
rejected, so that a folder never mixes two.
"""

import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusion_classifier.classifier.card import TrainingData, model_card
from fusion_classifier.classifier.folder import ModelConfig, labels_of, load_config
from fusion_classifier.classifier.models import CARD_FILE, is_model
from fusion_classifier.classifier.pipeline import Rows, complete, open_rows, train_classifier
from fusion_classifier.classifier.saved_encoders import saved_encoders
from fusion_classifier.classifier.tuned import tuned_on_splits
from fusion_classifier.config import RunConfig
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.evaluation.baselines import Baseline
from fusion_classifier.evaluation.figures.charts import training_charts
from fusion_classifier.evaluation.pictures import TRAINING_CURVES, prediction_pictures, write_pictures
from fusion_classifier.evaluation.predictions import PREDICTIONS_FILE, SplitPredictions, write_predictions
from fusion_classifier.evaluation.warnings import at_chance, cut_off, not_better, wide_interval
from fusion_classifier.fusion.folds import MAX_CROSS_VALIDATED
from fusion_classifier.fusion.head import count_parameters
from fusion_classifier.runs.baselines import baseline_figures, fit_baselines
from fusion_classifier.runs.context import RunContext
from fusion_classifier.runs.evaluate import Predicting, by_seed, evaluate_groups, measure, out_of_fold_split
from fusion_classifier.runs.features import extract_task, rows_of, training_rows, weighted
from fusion_classifier.runs.folder import METRICS_FILE, STAGES_FILE, claim, locked
from fusion_classifier.runs.seeds import (
    OUT_OF_FOLD_FILE,
    TRAINING_FILE,
    finished_seed,
    record_of,
    save_seed,
    seed_folder,
)
from fusion_classifier.runs.stages import Stages
from fusion_classifier.runs.unknown import measure_unknown, read_unknown
from fusion_classifier.runs.writing_systems import unknown_script
from fusion_classifier.support.files import atomic_file, atomic_folder, atomic_write, user_path
from fusion_classifier.support.heap import kept_memory
from fusion_classifier.tasks.doubts import data_doubts
from fusion_classifier.tasks.loaded import SPLITS, LoadedTask
from fusion_classifier.tasks.registry import find_task
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.result import TrainingResult
from fusion_classifier.training.tracking import NOT_TRACKED, Tracking


@dataclass(frozen=True)
class Result:
    """Result of a run: its folder, and the content of `metrics.json`."""

    out: Path
    metrics: dict[str, Any]


def train_task(
    config: RunConfig,
    task: LoadedTask,
    out: Path,
    work: RunContext,
    *,
    overwrite: bool = False,
    tracking: Tracking = NOT_TRACKED,
) -> dict[int, TrainingResult]:
    """Train every seed on features from the store; write `config.yaml`, `seeds/` and `model/`.

    An existing run in `out` is continued, or replaced with `overwrite`.
    """
    task.split("valid")
    _check_labels(task)
    _check_cross_validation(config, task)
    identities = [identify(encoder, work.device) for encoder in config.encoders]
    with locked(out):
        claim(out, config, task, identities, work.device, overwrite=overwrite)
        train_data, *rest = open_rows(_rows(config, task), identities, work.store, work.memory)
        valid_data = rest[0] if rest else None
        if train_data.stored:
            work.say(
                f"the features do not fit into {work.memory / 1e6:,.0f} MB: training reads them from the store in "
                "blocks (`memory` sets the limit)"
            )
        trained, complete = {}, is_model(out / "model")
        for seed in config.seeds:
            model = _model(config, task, identities, train_data, seed)
            finished = finished_seed(out, model)
            complete = complete and finished is not None
            trained[seed] = finished or _train_seed(
                out, model, config, identities, train_data, valid_data, work, tracking
            )
            tracking.trained(trained[seed])
        if not complete:  # otherwise its card may already have the scores
            best = max(trained.values(), key=lambda one: (one.best.score(config.training.metric), -one.seed))
            with atomic_folder(out / "model") as folder:
                shutil.copytree(seed_folder(out, best.seed), folder, dirs_exist_ok=True)
                for name in (TRAINING_FILE, OUT_OF_FOLD_FILE):
                    (folder / name).unlink(missing_ok=True)
            records = {seed: record_of(one) for seed, one in trained.items()}
            charts = training_charts(records)
            write_pictures(out, {TRAINING_CURVES: charts} if charts else {}, work.say_once)
    return trained


def _rows(config: RunConfig, task: LoadedTask) -> list[Rows]:
    """The training rows and, unless every row is predicted out of fold, the validation rows."""
    rows = [training_rows(task, config.head, config.class_weight)]
    if not task.cross_validated:
        rows.append(weighted(rows_of(task.split("valid"), task), task.labels, config.class_weight))
    return rows


def _model(
    config: RunConfig, task: LoadedTask, identities: Sequence[EncoderIdentity], data: LabelledFeatures, seed: int
) -> ModelConfig:
    return ModelConfig(
        task=task.name,
        **labels_of(np.array(task.labels)),
        head=complete(config.head, data, identities),
        encoders=saved_encoders(identities, data.shapes),
        text_column=config.task.text_column,
        seed=seed,
    )


def _can_cross_validate(config: RunConfig, task: LoadedTask) -> bool:
    """Whether the run could be cross-validated: a single file, and a head that supports it."""
    own = find_task(config.task.name) is None and user_path(config.task.name).is_file()
    return (
        own
        and config.head.cross_validated_rows > 0
        and config.task.cross_validate is False
        and not config.task.augment_column
        and sum(map(len, task.splits.values())) <= MAX_CROSS_VALIDATED
    )


def _check_cross_validation(config: RunConfig, task: LoadedTask) -> None:
    """Check that the head of a cross-validated task supports cross-validation."""
    if not task.cross_validated:
        return
    if not config.head.cross_validated_rows:
        raise UsageError(f"`cross_validate`: head {config.head.name} needs validation rows; use ensemble or linear")
    if len(task.training) > MAX_CROSS_VALIDATED:
        raise UsageError(
            f"`cross_validate`: {len(task.training):,} rows are more than {MAX_CROSS_VALIDATED:,}; without it a "
            "tenth is held out for validation"
        )


def _check_labels(task: LoadedTask) -> None:
    """Check that there are at least two labels: with one, every prediction would be right."""
    seen = rows_of(task.training, task).targets
    there = np.flatnonzero(seen.any(0)) if task.multilabel else np.unique(seen)
    if len(there) < 2:
        only = task.labels[there[0]] if len(there) else "none"
        raise DataError(
            f"{task.source}: the rows to train on have only the label {only!r}; add rows with other labels, "
            "or raise `limit`"
        )


def _train_seed(
    out: Path,
    model: ModelConfig,
    config: RunConfig,
    identities: Sequence[EncoderIdentity],
    train_data: LabelledFeatures,
    valid_data: LabelledFeatures | None,
    work: RunContext,
    tracking: Tracking,
) -> TrainingResult:
    told = tracking.seed(model.seed)
    with kept_memory():
        calibrated, trained = train_classifier(
            model,
            config.training,
            train_data,
            valid_data,
            work.device,
            work.progress,
            identities=identities,
            on_epoch=told,
            every_text=valid_data is None,  # their predictions are the validation of a cross-validated run
        )
    if valid_data is not None:
        trained = replace(trained, out_of_fold=None)  # no longer needed
    save_seed(out, calibrated, trained, config.training, streamed=train_data.stored)
    return trained


def run(
    config: RunConfig,
    task: LoadedTask,
    out: Path,
    work: RunContext,
    *,
    overwrite: bool = False,
    tracking: Tracking = NOT_TRACKED,
    unknown: Path | None = None,
) -> Result:
    """Extract, train and evaluate; see the module's docstring for the files and `train_task` for the arguments.

    Without a test split, validation is reported. `unknown` is a file of texts with none of the labels.
    """
    task.split("train"), task.split("valid")  # fail now, not after hours of work
    splits = [name for name in SPLITS if name in task.splits]
    identities = [identify(encoder, work.device) for encoder in config.encoders]
    _check_labels(task)
    _check_cross_validation(config, task)
    _rows(config, task)
    strange = [] if unknown is None else read_unknown(unknown, config, task)
    with locked(out):
        claim(out, config, task, identities, work.device, overwrite=overwrite)
    doubts = [*data_doubts(task), *tuned_on_splits(identities, task, splits)]
    doubts += unknown_script(task.split("train").texts, config.encoders)
    for doubt in doubts:
        work.say(f"Warning: {doubt}")
    stages = Stages(out / STAGES_FILE)
    with stages.stage("extract") as extraction:
        reports = extract_task(task, splits, config.encoders, work)
        extraction.encoded += sum(report.encoded for report in reports)
    with stages.stage("train"):
        trained = train_task(config, task, out, work, tracking=tracking)
    with work.progress.bar("fitting the baselines", total=None), stages.stage("baselines"):
        baselines = fit_baselines(config.class_weight, task, identities, work)
    with work.progress.bar("evaluating", total=None), stages.stage("evaluate"):
        parts, of_baselines = _evaluate(
            config, trained, baselines, [s for s in splits if s != "train"], task, identities, work
        )
        figures = {name: measure(part, task, parts["valid"]) for name, part in parts.items()}
    metrics = _metrics(config, task, trained, figures) | baseline_figures(baselines, of_baselines)
    if strange:
        with stages.stage("unknown"):
            metrics["unknown"] = measure_unknown(trained, strange, list(parts)[-1], task, identities, work)
    metrics |= {
        "warnings": doubts + _warnings(config, task, metrics, trained, list(parts.values()), of_baselines),
        "encoded_texts": {report.encoder: report.encoded for report in reports},
        "stages": stages.figures(),
    }
    with locked(out):
        _write(config, task, out, metrics, list(parts.values()), work)
        tracking.evaluated(by_seed({name: figure["metrics"] for name, figure in figures.items()}, config.seeds))
    return Result(out, metrics)


def _write(
    config: RunConfig,
    task: LoadedTask,
    out: Path,
    metrics: Mapping[str, Any],
    parts: Sequence[SplitPredictions],
    work: RunContext,
) -> None:
    """Write predictions, pictures, metrics and the model's card."""
    with atomic_file(out / PREDICTIONS_FILE) as path:
        write_predictions(list(parts), task.labels, path)
    write_pictures(out, prediction_pictures(parts[-1], task.labels, task.label_tree), work.say_once)
    atomic_write(out / METRICS_FILE, json.dumps(metrics, indent=2, default=np.generic.item) + "\n")
    atomic_write(out / "model" / CARD_FILE, _card(config, task, out, metrics, work))


def _evaluate(
    config: RunConfig,
    trained: Mapping[int, TrainingResult],
    baselines: Mapping[str, Baseline],
    splits: Sequence[str],
    task: LoadedTask,
    identities: Sequence[EncoderIdentity],
    work: RunContext,
) -> tuple[dict[str, SplitPredictions], dict[str, dict[str, SplitPredictions]]]:
    """Predictions of the trained seeds by split, and of the baselines by split and name."""
    parts, of_baselines = {}, {}
    groups: list[Mapping[int, Predicting]] = [trained, *({0: one} for one in baselines.values())]
    for name in splits:
        if name == "valid" and task.cross_validated:
            weights = weighted(rows_of(task.training, task), task.labels, config.class_weight).weights
            fits = [config.training, *(one.training for one in baselines.values())]
            parts[name], *others = (
                out_of_fold_split(group, task, weights, fit) for group, fit in zip(groups, fits, strict=True)
            )
        else:
            parts[name], *others = evaluate_groups(groups, name, task, identities, work)
        of_baselines[name] = dict(zip(baselines, others, strict=True))
    return parts, of_baselines


def _warnings(
    config: RunConfig,
    task: LoadedTask,
    metrics: Mapping[str, Any],
    trained: Mapping[int, TrainingResult],
    parts: Sequence[SplitPredictions],
    of_baselines: Mapping[str, Mapping[str, SplitPredictions]],
) -> list[str]:
    """Warnings about the figures of the reported split, which is the last one."""
    part = parts[-1]
    metric = "macro_f1" if config.class_weight == "balanced" else config.training.metric
    histories = [[asdict(epoch) for epoch in one.history] for one in trained.values()]
    return [
        *at_chance(parts),
        *not_better(metrics, of_baselines[part.split], part, metric),
        *cut_off(histories, config.training.metric),
        *wide_interval(metrics, part.split, len(part.labels), can_cross_validate=_can_cross_validate(config, task)),
    ]


def _metrics(
    config: RunConfig,
    task: LoadedTask,
    trained: Mapping[int, TrainingResult],
    figures: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """The contents of `metrics.json` for the trained seeds; `figures` are the results of `measure` by split."""
    without_overlap = {
        name: figure["without_overlap"] for name, figure in figures.items() if figure["without_overlap"]
    }
    rows = {name: len(split) for name, split in task.splits.items()}
    reported = list(figures)[-1]
    if reported in without_overlap:
        rows[f"{reported}_without_overlap"] = without_overlap[reported]["rows"]
    return {
        "task": task.name,
        "encoders": [encoder.name for encoder in config.encoders],
        "head": config.head.name,
        "seeds": list(config.seeds),
        "valid": figures["valid"]["metrics"],
        "test": figures["test"]["metrics"] if "test" in figures else None,
        "test_without_overlap": without_overlap.get("test", {}).get("metrics"),
        "rows": rows,
        "per_class": {name: figure["per_class"] for name, figure in figures.items()},
        "risk_coverage": {name: figure["risk_coverage"] for name, figure in figures.items()},
        "parameters": count_parameters(next(iter(trained.values())).head),
        "temperatures": {str(seed): one.decision.temperature for seed, one in trained.items()},
        "betas": {str(seed): one.decision.beta for seed, one in trained.items()},
        "best_epochs": {str(seed): one.best_epoch for seed, one in trained.items()},
        "members": _members(trained),
        "cross_validated": task.cross_validated,
    }


def _members(trained: Mapping[int, TrainingResult]) -> list[dict[str, Any]]:
    """Members of the head `ensemble`, with weights and scores averaged over seeds; empty for other heads."""
    by_name = zip(*(one.members for one in trained.values()), strict=True)
    return [
        {"name": seeds[0].name}
        | {key: float(np.mean([getattr(one, key) for one in seeds])) for key in ("weight", "accuracy", "weighted_f1")}
        for seeds in by_name
    ]


def _card(config: RunConfig, task: LoadedTask, out: Path, metrics: Mapping[str, Any], work: RunContext) -> str:
    """The card of a run's model, with the run's scores."""
    processor = f"{platform.machine()}, {torch.get_num_threads()} threads"
    if work.device.type == "cuda":
        processor = torch.cuda.get_device_name(work.device)
    hashes = {name: part.fingerprint() for name, part in task.splits.items()}
    return model_card(
        load_config(out / "model"),
        metrics=metrics,
        training=config.training,
        data=training_data(task.name, task.licence, hashes),
        processor=processor,
    )


def training_data(task: str, licence: str, hashes: Mapping[str, str]) -> TrainingData:
    """A card's entries on a task's texts."""
    named = find_task(task)
    if named is None:
        return TrainingData(licence=licence, hashes=hashes)
    dataset = named.hub.repo if named.hub else None
    return TrainingData(named.title, licence, dataset, named.language, hashes)
