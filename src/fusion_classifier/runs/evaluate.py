"""Evaluates trained heads on a split."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion_classifier.classifier.folder import (
    checked_identities,
    is_model,
    load_model,
    placed,
)
from fusion_classifier.config import TaskConfig
from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.errors import DataError, FecError, UsageError
from fusion_classifier.evaluation.metrics import per_class, summarize
from fusion_classifier.evaluation.overlap import overlap
from fusion_classifier.evaluation.predictions import SplitPredictions
from fusion_classifier.evaluation.selective import at_coverages
from fusion_classifier.features.hashing import hash_texts, hexadecimal
from fusion_classifier.fusion.head import Head
from fusion_classifier.fusion.registry import build_head
from fusion_classifier.runs.config_file import read_config, read_run_config
from fusion_classifier.runs.context import Workspace, say_notes
from fusion_classifier.runs.features import extract_task, features_of
from fusion_classifier.runs.folder import read_seed, seed_folder
from fusion_classifier.tasks.loaded import LoadedTask
from fusion_classifier.tasks.registry import find_task, load_splits
from fusion_classifier.training.decision import Decision
from fusion_classifier.training.loop import predict_logits

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """One trained head of a run, and how its logits become labels."""

    head: Head
    decision: Decision


def evaluate_split(
    members: Mapping[int, Member],
    name: str,
    task: LoadedTask,
    identities: Sequence[EncoderIdentity],
    work: Workspace,
) -> SplitPredictions:
    """What every seed predicts for a split whose features are in the store."""
    split = task.split(name)
    if not len(split):
        raise DataError(f"the {name} split of {task.source} is empty")
    data = features_of(split, task, identities, work.store, work.memory)
    logger.info("evaluating", extra={"split": name, "rows": len(data), "seeds": len(members)})
    by_seed, answers = {}, {}
    for seed, one in members.items():
        logits = predict_logits(one.head.to(work.device), data.features, len(data), work.device)
        by_seed[seed] = one.decision.probabilities(logits)
        answers[seed] = one.decision.labels(by_seed[seed])
    return SplitPredictions(name, hexadecimal(hash_texts(split.texts)), data.labels, by_seed, answers)


def measure(part: SplitPredictions, task: LoadedTask) -> dict[str, Any]:
    """All figures of a split: `metrics`, `per_class`, and both without the texts that also stand in train.

    `without_overlap` is None where no text does, or where there is no train split to compare with.
    """
    figures: dict[str, Any] = {
        "rows": len(part.labels),
        "metrics": summarize(part),
        "per_class": per_class(part, task.labels),
        "risk_coverage": None if task.multilabel else at_coverages(part.labels, list(part.by_seed.values())),
        "without_overlap": None,
    }
    if "train" in task.splits and part.split != "train":
        apart = ~overlap(task.split(part.split).texts, task.split("train").texts)
        if 0 < apart.sum() < len(apart):
            figures["without_overlap"] = {"rows": int(apart.sum()), "metrics": summarize(part.take(apart))}
    return figures


def saved_task(folder: Path) -> TaskConfig:
    """The task that a run or model folder was trained on."""
    if is_model(folder):
        name = load_model(folder).config.task
        if find_task(name) is None:
            raise UsageError(f"{folder}: was trained on {name!r}, no named task; say by --task what to evaluate")
        return TaskConfig(name=name)
    return read_run_config(folder).task


def evaluate_saved(
    folder: Path, split: str, task_config: TaskConfig, encoder_paths: Mapping[str, str], work: Workspace
) -> dict[str, Any]:
    """Evaluate a run folder (all its seeds) or a model folder on a split; features are extracted where missing.

    Args:
        folder: run or model folder.
        split: train, valid or test.
        task_config: the texts.
        encoder_paths: other places of the encoders' weights, by encoder name.
        work: store, device, progress.

    Raises:
        FecError and its kinds: see the messages.
    """
    model_folder = folder if is_model(folder) else folder / "model"
    if not is_model(model_folder):
        raise FecError(f"{folder}: neither a run folder nor a model folder")
    saved = load_model(model_folder)
    members = {saved.config.seed: Member(saved.head, saved.config.decision)}
    if folder != model_folder:
        config = read_run_config(folder)
        members = {}
        for seed in config.seeds:
            if not seed_folder(folder, seed).exists():
                raise FecError(f"{folder}: seed {seed} is not trained yet; run the same fec run or fec train again")
            head = build_head(config.head, saved.config.shapes, len(saved.config.labels))
            one = read_seed(seed_folder(folder, seed), head, seed)
            members[seed] = Member(one.head, one.decision)
    task, _ = load_splits(task_config, [split])
    say_notes(task, work)
    if list(task.labels) != saved.config.labels:
        raise DataError(
            f"{task.source}: its labels are not those of the model in {folder} "
            f"({len(task.labels)} against {len(saved.config.labels)}, or another order)"
        )
    if task.multilabel != saved.config.decision.multilabel:
        kind = "any number of labels" if task.multilabel else "one label"
        raise DataError(f"{task.source}: a text has {kind}, but not so for the model in {folder}")
    encoders = [placed(encoder, encoder_paths) for encoder in saved.config.encoders]
    identities = checked_identities(
        [s.model_copy(update={"config": config}) for config, s in zip(encoders, saved.config.encoders, strict=True)],
        work.device,
    )
    _check_same_data(folder, task_config, task)
    extract_task(task, [split], encoders, work)
    part = evaluate_split(members, split, task, identities, work)
    return {
        "task": task.name,
        "split": split,
        "encoders": [encoder.name for encoder in encoders],
        "head": saved.config.head.name,
        "seeds": list(members),
        split: measure(part, task),
    }


def _check_same_data(folder: Path, config: TaskConfig, task: LoadedTask) -> None:
    """Refuse a run's own data that has changed: split afresh, training texts would stand in the test split.

    A split that was not there at the time of the run (a test split kept back) is welcome.
    """
    if is_model(folder) or config != read_run_config(folder).task:
        return
    recorded = read_config(folder).get("data", {}).get("splits", {})
    for name, part in task.splits.items():
        if name in recorded and recorded[name]["sha256"] != part.fingerprint():
            raise DataError(
                f"{task.source}: its {name} split is not the one that {folder} was trained with; "
                "restore it, or say by --task which texts to evaluate (none of them in the training data)"
            )


def by_seed(splits: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]) -> dict[int, dict[str, float]]:
    """The metrics of each seed as `split/metric`, from the summaries of the splits."""
    return {
        seed: {
            f"{split}/{metric}": float(summary["values"][position])
            for split, metrics in splits.items()
            for metric, summary in metrics.items()
        }
        for position, seed in enumerate(seeds)
    }
