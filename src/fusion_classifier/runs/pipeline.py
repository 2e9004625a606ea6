"""The main job: extract, train several seeds, evaluate; every stage can be resumed.

A run folder holds

    config.yaml            the resolved configuration, data hashes, encoder keys, versions
    seeds/<seed>/          head and training history of each seed, written when it is done
    model/                 the classifier of the seed with the best validation weighted F1
    metrics.json           every metric: mean, standard deviation and values over seeds
    predictions.parquet    probabilities, a row a text and seed
    stages.json            what each stage took, over all calls
    report.html            all of it as a page (report.py; written by `fec run` and `fec report`)
    training_curves.png, confusion_matrix.png, risk_coverage.png; f1_by_label.png in a multi-label task
    tracking.json, tensorboard/   with --track: what was told to the tracker; TensorBoard's files

Each is written in one step. Running the same command again takes up what is there; another configuration is
refused, so that no folder ever mixes two.
"""

import json
import logging
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from fusion_classifier.classifier.card import TrainingData, model_card
from fusion_classifier.classifier.folder import (
    CARD_FILE,
    ModelConfig,
    is_model,
    labels_of,
    load_model,
    save_model,
    saved_encoders,
)
from fusion_classifier.config import RunConfig
from fusion_classifier.encoders.identity import identify
from fusion_classifier.errors import DataError
from fusion_classifier.evaluation.pictures import optional_pictures, write_pictures, write_training_curves
from fusion_classifier.evaluation.predictions import write_predictions
from fusion_classifier.features.extract import open_splits
from fusion_classifier.fusion.head import count_parameters
from fusion_classifier.runs.context import Workspace
from fusion_classifier.runs.evaluate import Member, by_seed, evaluate_split, measure
from fusion_classifier.runs.features import extract_task
from fusion_classifier.runs.folder import METRICS_FILE, STAGES_FILE, claim, finished_seed, locked, seed_folder
from fusion_classifier.runs.stages import Stages
from fusion_classifier.support.files import atomic_file, atomic_folder, write_atomic
from fusion_classifier.support.heap import kept_memory
from fusion_classifier.tasks.loaded import SPLITS, LoadedTask, Split, targets
from fusion_classifier.tasks.registry import find_task
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.loop import Trained, train
from fusion_classifier.training.tracking import NOT_TRACKED, Tracking

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    out: Path
    metrics: dict[str, Any]


# --- extract -----------------------------------------------------------------------------------------------


# --- train -------------------------------------------------------------------------------------------------


def train_task(
    config: RunConfig,
    task: LoadedTask,
    out: Path,
    work: Workspace,
    *,
    overwrite: bool = False,
    tracking: Tracking = NOT_TRACKED,
) -> dict[int, Trained]:
    """Train every seed on features that are in the store already; write `config.yaml`, `seeds/` and `model/`.

    `tracking` is told of every epoch.

    Raises:
        MissingSplitError, StoreError, FecError: see the messages.
    """
    train_split, valid_split = task.training, task.split("valid")
    _check_labels(train_split, task)
    identities = [identify(encoder, work.device) for encoder in config.encoders]
    with locked(out):
        claim(out, config, task, identities, work.device, overwrite=overwrite)
        parts = (train_split, valid_split)
        opened = open_splits([part.texts for part in parts], identities, work.store, work.memory)
        train_data, valid_data = (
            LabelledFeatures(features, targets(part.labels, len(task.labels)))
            for part, features in zip(parts, opened, strict=True)
        )
        if train_data.stored:
            work.say(
                f"the features do not fit into the {work.memory / 1e6:,.0f} MB for them: training reads them "
                "from the store in blocks (--memory sets how much they may take)"
            )
        trained, whole = {}, is_model(out / "model")
        for seed in config.seeds:
            finished = finished_seed(out, config, train_data, len(task.labels), seed)
            whole = whole and finished is not None
            trained[seed] = finished or _train_seed(
                out, config, train_data, valid_data, len(task.labels), seed, work, tracking
            )
            tracking.trained(trained[seed])
        if whole:  # its card may have the scores already
            return trained
        best = max(trained.values(), key=lambda one: (one.best.valid_weighted_f1, -one.seed))
        model = ModelConfig(
            task=task.name,
            id2label=labels_of(task.labels),
            head=config.head,
            encoders=saved_encoders(identities, train_data.shapes),
            seed=best.seed,
            decision=best.decision,
        )
        save_model(out / "model", model, best.head, model_card(model, training=config.training))
        records = {
            seed: {"best_epoch": one.best_epoch, "history": [asdict(epoch) for epoch in one.history]}
            for seed, one in trained.items()
        }
        with optional_pictures(work.say):
            write_training_curves(out, records)
    return trained


def _check_labels(train_split: Split, task: LoadedTask) -> None:
    """See that there are two labels to tell apart: with one, training would seem to go very well."""
    seen = targets(train_split.labels, len(task.labels))
    there = np.flatnonzero(seen.any(0)) if task.multilabel else np.unique(seen)
    if len(there) < 2:
        only = task.labels[there[0]] if len(there) else "none"
        raise DataError(
            f"{task.source}: the rows to train on have only the label {only!r}; add rows with other labels, "
            "or raise --limit"
        )


def _train_seed(
    out: Path,
    config: RunConfig,
    train_data: LabelledFeatures,
    valid_data: LabelledFeatures,
    n_classes: int,
    seed: int,
    work: Workspace,
    tracking: Tracking,
) -> Trained:
    head, training, told = config.head, config.training, tracking.seed(seed)
    with kept_memory():
        trained = train(head, training, train_data, valid_data, n_classes, seed, work.device, work.progress, told)
    with atomic_folder(seed_folder(out, seed)) as folder:
        state = {name: tensor.contiguous().cpu() for name, tensor in trained.head.state_dict().items()}
        save_file(state, folder / "head.safetensors")
        record = {
            "best_epoch": trained.best_epoch,
            "streamed": train_data.stored,
            "decision": trained.decision.model_dump(mode="json"),
            "history": [asdict(epoch) for epoch in trained.history],
        }
        (folder / "training.json").write_text(json.dumps(record, indent=1), "utf-8")
    return trained


# --- evaluate ----------------------------------------------------------------------------------------------


# --- all of it ---------------------------------------------------------------------------------------------


def run(
    config: RunConfig,
    task: LoadedTask,
    out: Path,
    work: Workspace,
    *,
    overwrite: bool = False,
    tracking: Tracking = NOT_TRACKED,
) -> Result:
    """Extract, train and evaluate; see the module's docstring for what it writes.

    A task without a test split is reported on validation.
    """
    started = time.perf_counter()
    task.split("train"), task.split("valid")  # say what is missing before hours of work, not after
    splits = [name for name in SPLITS if name in task.splits]
    identities = [identify(encoder, work.device) for encoder in config.encoders]
    _check_labels(task.training, task)
    with locked(out):
        claim(out, config, task, identities, work.device, overwrite=overwrite)
    stages = Stages(out / STAGES_FILE)
    with stages.stage("extract") as extraction:
        reports = extract_task(task, splits, config.encoders, work)
        extraction.encoded += sum(report.encoded for report in reports)
    extracted = time.perf_counter()
    with stages.stage("train"):
        trained = train_task(config, task, out, work, tracking=tracking)
    fitted = time.perf_counter()

    members = {seed: Member(one.head, one.decision) for seed, one in trained.items()}
    names = [name for name in splits if name != "train"]
    with work.progress.bar("evaluating", total=None), stages.stage("evaluate"):
        parts = {name: evaluate_split(members, name, task, identities, work) for name in names}
        figures = {name: measure(part, task) for name, part in parts.items()}
    reported = names[-1]
    metrics: dict[str, Any] = {
        "task": task.name,
        "encoders": [encoder.name for encoder in config.encoders],
        "head": config.head.name,
        "seeds": list(config.seeds),
        "valid": figures["valid"]["metrics"],
        "test": figures["test"]["metrics"] if "test" in figures else None,
        "test_without_overlap": (figures.get("test", {}).get("without_overlap") or {}).get("metrics"),
        "rows": {name: len(task.split(name)) for name in splits},
        "per_class": {name: figure["per_class"] for name, figure in figures.items()},
        "risk_coverage": {name: figure["risk_coverage"] for name, figure in figures.items()},
        "parameters": count_parameters(next(iter(members.values())).head),
        "temperatures": {str(seed): one.decision.temperature for seed, one in members.items()},
        "betas": {str(seed): one.decision.beta for seed, one in members.items()},
        "best_epochs": {str(seed): one.best_epoch for seed, one in trained.items()},
        "encoded_texts": {report.encoder: report.encoded for report in reports},
        "seconds": {
            "extract": extracted - started,
            "train": fitted - extracted,
            "evaluate": time.perf_counter() - fitted,
        },
        "stages": stages.figures(),
    }
    if figures[reported]["without_overlap"]:
        metrics["rows"][f"{reported}_without_overlap"] = figures[reported]["without_overlap"]["rows"]
    with locked(out):
        with atomic_file(out / "predictions.parquet") as path:
            write_predictions(list(parts.values()), task.labels, path)
        with optional_pictures(work.say):
            write_pictures(out, parts[reported], task.labels, task.label_tree)
        write_atomic(out / METRICS_FILE, json.dumps(metrics, indent=2, default=_json) + "\n")
        write_atomic(out / "model" / CARD_FILE, _card(config, task, out, metrics, work))
        tracking.evaluated(by_seed({name: figure["metrics"] for name, figure in figures.items()}, config.seeds))
    return Result(out, metrics)


def _card(config: RunConfig, task: LoadedTask, out: Path, metrics: Mapping[str, Any], work: Workspace) -> str:
    """The card of a run's model, with the run's scores."""
    processor = f"{platform.machine()}, {torch.get_num_threads()} threads"
    if work.device.type == "cuda":
        processor = torch.cuda.get_device_name(work.device)
    model = load_model(out / "model").config
    return model_card(
        model,
        metrics=metrics,
        training=config.training,
        data=training_data(task.name, task.licence, {name: part.fingerprint() for name, part in task.splits.items()}),
        processor=processor,
    )


def training_data(task: str, licence: str, hashes: Mapping[str, str]) -> TrainingData:
    """What a card says about a task's texts."""
    named = find_task(task)
    if named is None:
        return TrainingData(licence=licence, hashes=hashes)
    dataset = named.hub.repo if named.hub else None
    return TrainingData(named.title, licence, dataset, named.language, hashes)


def _json(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")
