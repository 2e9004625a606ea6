"""Evaluates trained heads on a split."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusion_classifier.classifier.folder import ModelConfig, SavedModel, load_config, load_model
from fusion_classifier.classifier.models import is_model, is_optimized
from fusion_classifier.classifier.saved_encoders import checked_identities, placed
from fusion_classifier.classifier.tuned import tuned_on_splits
from fusion_classifier.config import TaskConfig, TrainingConfig
from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.errors import DataError, FecError, UsageError
from fusion_classifier.evaluation.baselines import Baseline
from fusion_classifier.evaluation.metrics import per_class, summarize
from fusion_classifier.evaluation.overlap import overlap
from fusion_classifier.evaluation.predictions import PREDICTIONS_FILE, SplitPredictions, read_predictions
from fusion_classifier.evaluation.selective import at_coverages
from fusion_classifier.features.hashing import hash_texts, hexadecimal
from fusion_classifier.runs.config_file import read_config, read_run_config
from fusion_classifier.runs.context import RunContext, say_notes
from fusion_classifier.runs.features import extract_task, features_of, rows_of
from fusion_classifier.runs.seeds import OUT_OF_FOLD_FILE, read_seed, seed_folder
from fusion_classifier.support.validation import checked
from fusion_classifier.tasks.loaded import LoadedTask
from fusion_classifier.tasks.normalize import text_groups
from fusion_classifier.tasks.registry import find_task, is_available, load_task
from fusion_classifier.training.calibration import cross_fitted
from fusion_classifier.training.inference import predict_logits
from fusion_classifier.training.result import TrainingResult

logger = logging.getLogger(__name__)


Predicting = TrainingResult | SavedModel | Baseline  # all have a head and a decision


def evaluate_split(
    models: Mapping[int, Predicting],
    name: str,
    task: LoadedTask,
    identities: Sequence[EncoderIdentity],
    work: RunContext,
) -> SplitPredictions:
    """Predictions of every seed for a split with features in the store."""
    for warning in tuned_on_splits(identities, task, [name]):
        work.say_once(f"Warning: {warning}")
    return evaluate_groups([models], name, task, identities, work)[0]


def evaluate_groups(
    groups: Sequence[Mapping[int, Predicting]],
    name: str,
    task: LoadedTask,
    identities: Sequence[EncoderIdentity],
    work: RunContext,
) -> list[SplitPredictions]:
    """`evaluate_split` for several groups of models; features are read once."""
    split = task.split(name)
    if not len(split):
        raise DataError(f"the {name} split of {task.source} is empty")
    data = features_of(split, task, identities, work.store, work.memory)
    hashes = hexadecimal(hash_texts(split.texts))
    found = []
    for models in groups:
        logger.info("evaluating", extra={"split": name, "rows": len(data), "seeds": len(models)})
        part = SplitPredictions(name, hashes, data.labels, {}, {}, places=split.places)
        for seed, one in models.items():
            logits = predict_logits(one.head.to(work.device), data.features, len(data), work.device)
            part.by_seed[seed] = one.decision.probabilities(logits)
            part.answers[seed] = one.decision.labels(part.by_seed[seed])
        found.append(part)
    return found


def out_of_fold_split(
    models: Mapping[int, Predicting], task: LoadedTask, weights: np.ndarray | None, training: TrainingConfig | None
) -> SplitPredictions:
    """Out-of-fold predictions of every seed for the training rows of a cross-validated task.

    Args:
        models: Models by seed.
        task: The task.
        weights: Weights of the rows (N,). None: uniform.
        training: Settings for fitting a decision, here on the rows of other folds. None: the models' decisions are
            not fitted.
    """
    split = task.split("valid")
    labels, groups = rows_of(split, task).targets, text_groups(split.texts)
    by_seed, answers = {}, {}
    for seed, one in models.items():
        assert not isinstance(one, SavedModel)
        if one.out_of_fold is None:
            raise FecError(f"seed {seed} lacks its {OUT_OF_FOLD_FILE}; delete its folder in seeds to train it again")
        logits = one.out_of_fold.logits
        if training is None:
            by_seed[seed] = one.decision.probabilities(logits)
            answers[seed] = one.decision.labels(by_seed[seed])
        else:
            by_seed[seed], answers[seed] = cross_fitted(
                logits,
                labels,
                calibrate=training.calibrate,
                weights=weights,
                metric=training.metric,
                groups=groups,
            )
    return SplitPredictions(
        "valid", hexadecimal(hash_texts(split.texts)), labels, by_seed, answers, places=split.places
    )


def measure(part: SplitPredictions, task: LoadedTask, held_out: SplitPredictions | None) -> dict[str, Any]:
    """All metrics of a split: overall, per class, by coverage, and without texts that also occur in train.

    `without_overlap` is None if there are no such texts, or no train split. `held_out` are the validation
    predictions on which the thresholds of `risk_coverage` are chosen; without them it is None.
    """
    figures: dict[str, Any] = {
        "rows": len(part.labels),
        "metrics": summarize(part),
        "per_class": per_class(part, task.labels),
        "risk_coverage": None if held_out is None or task.multilabel else at_coverages(part, held_out),
        "without_overlap": None,
    }
    if "train" in task.splits and part.split != "train":
        apart = ~overlap(task.split(part.split).texts, task.training.texts)
        if 0 < apart.sum() < len(apart):
            figures["without_overlap"] = {"rows": int(apart.sum()), "metrics": summarize(part.take(apart))}
    return figures


READING = ("encoding", "text_column", "label_column", "multilabel", "label_separator", "label_columns")


def evaluated_task(folder: Path, name: str | None, given: Mapping[str, Any]) -> TaskConfig:
    """The texts to evaluate a run or model on.

    Args:
        folder: Run or model folder.
        name: Task, file or folder. Default: the training task.
        given: Fields of `TaskConfig`; the others are those of the run.
    """
    if is_optimized(folder):
        raise UsageError(f"{folder} is optimized; give the model that it was made from")
    model = is_model(folder)
    trained_on = load_config(folder).task if model else read_run_config(folder).task.name
    if name is None or (not model and _same_file(name, trained_on)):
        if model and find_task(trained_on) is None:
            raise UsageError(
                f"{folder} was trained on {trained_on!r}, which is not a named task; set `task` to the texts to "
                "evaluate on"
            )
        if not is_available(trained_on):
            raise UsageError(
                f"{trained_on}, the data of {folder}, is not here; run the command in the folder in which the run "
                "was started, or set `task` to the texts to evaluate on"
            )
        base: dict[str, Any] = {"name": trained_on} if model else read_run_config(folder).task.model_dump()
    elif find_task(name) is not None:
        base = {"name": name}
    elif model:
        saved = load_config(folder)
        base = {"name": name, "multilabel": saved.decision.multilabel, "text_column": saved.text_column}
    else:
        read = read_run_config(folder).task
        base = {"name": name} | {field: getattr(read, field) for field in READING}
    if not {"label_column", "multilabel"}.isdisjoint(given):
        base["label_columns"] = ()
    if given.get("label_columns"):
        base["multilabel"] = False
    return checked(TaskConfig, base | dict(given))


def _same_file(name: str, other: str) -> bool:
    """Whether two task names refer to the same file or folder."""
    paths = Path(name), Path(other)
    return all(path.exists() for path in paths) and paths[0].samefile(paths[1])


def evaluate_saved(
    folder: Path, split: str, task_config: TaskConfig, encoder_paths: Mapping[str, str], work: RunContext
) -> dict[str, Any]:
    """Evaluate a run folder (all its seeds) or a model folder on a split; missing features are extracted.

    User data that the run was not trained on may have only some of the model's labels, and are not split: a single
    file is the test split.
    """
    model, models = _models(folder)
    task = load_task(task_config, None if _is_own(folder, task_config) else tuple(model.labels))
    if task.cross_validated and (split != "test" or split not in task.splits):
        raise UsageError(
            f"{folder} was cross-validated, so it was trained on all rows; its out-of-fold scores are in "
            "metrics.json; set `task` to other texts to evaluate on"
        )
    task.split(split)
    say_notes(task, work)
    _check_labels(folder, model, task)
    encoders = placed(model.encoders, encoder_paths)
    identities = checked_identities(encoders, work.device)
    _check_same_data(folder, task_config, task)
    extract_task(task, [split], [saved.config for saved in encoders], work)
    part = evaluate_split(models, split, task, identities, work)
    held_out = part if split == "valid" else _validation(folder, models)
    return {
        "task": task.name,
        "split": split,
        "encoders": [saved.config.name for saved in encoders],
        "head": model.head.name,
        "seeds": list(models),
        split: measure(part, task, held_out),
    }


def labelled_task(folder: Path, config: TaskConfig) -> LoadedTask:
    """A task with the labels of a run or model. Data that the run was not trained on are not split."""
    model = load_config(folder if is_model(folder) else folder / "model")
    task = load_task(config, None if _is_own(folder, config) else tuple(model.labels))
    _check_labels(folder, model, task)
    return task


def judging_split(folder: Path, config: TaskConfig) -> tuple[tuple[str, ...], np.ndarray, bool]:
    """Texts on which a run or model is evaluated, their targets in its labels, and whether it was trained on them.

    They are the validation texts of a task, or the texts of a file. A cross-validated run was trained on all its
    texts.
    """
    task = labelled_task(folder, config)
    name = "valid" if "valid" in task.splits else "test"
    return task.split(name).texts, task.targets(name), task.cross_validated


def _is_own(folder: Path, config: TaskConfig) -> bool:
    """Whether these are the training data of a run."""
    return not is_model(folder) and config.name == read_run_config(folder).task.name


def _models(folder: Path) -> tuple[ModelConfig, dict[int, Predicting]]:
    """The model in a run or model folder, and its heads by seed."""
    if is_model(folder):
        saved = load_model(folder)
        if not saved.config.encoders:
            raise UsageError(f"{folder} reads features, not texts; it can be evaluated in Python only")
        return saved.config, {saved.config.seed: saved}
    if not is_model(folder / "model"):
        raise FecError(f"{folder}: neither a run folder nor a model folder")
    models: dict[int, Predicting] = {}
    for seed in read_run_config(folder).seeds:
        if not seed_folder(folder, seed).exists():
            raise FecError(f"{folder}: seed {seed} is not trained yet; run the same fec run or fec train again")
        models[seed] = read_seed(seed_folder(folder, seed), seed)[1]
    return load_config(folder / "model"), models


def _validation(folder: Path, models: Mapping[int, Predicting]) -> SplitPredictions | None:
    """The validation predictions written by a finished run, in the order of its labels."""
    if is_model(folder) or not (folder / PREDICTIONS_FILE).exists():
        return None
    valid = read_predictions(folder / PREDICTIONS_FILE, multilabel=True).get("valid")
    return valid if valid is not None and valid.by_seed.keys() == models.keys() else None


def _check_labels(folder: Path, model: ModelConfig, task: LoadedTask) -> None:
    if list(task.labels) != model.labels:
        raise DataError(
            f"{task.source}: the labels are not those of the model in {folder} "
            f"({len(task.labels)} against {len(model.labels)}, or in a different order)"
        )
    if task.multilabel != model.decision.multilabel:
        kind = "any number of labels" if task.multilabel else "one label"
        raise DataError(f"{task.source}: a text has {kind}, unlike in the model in {folder}")


def _check_same_data(folder: Path, config: TaskConfig, task: LoadedTask) -> None:
    """Reject a run's data if they have changed: in a new split, training texts would be in the test split.

    A split that did not exist at the time of the run (a test split that was held back) is accepted.
    """
    if is_model(folder):
        return
    trained_on = read_run_config(folder).task
    lenient = {name: getattr(trained_on, name) for name in ("skip_empty", "unknown_labels")}
    if config.model_copy(update=lenient) != trained_on:
        return
    recorded = read_config(folder).get("data", {}).get("splits", {})
    for name, part in task.splits.items():
        if name in recorded and recorded[name]["sha256"] != part.fingerprint():
            raise DataError(
                f"{task.source}: the {name} split is not the one that {folder} was trained with; "
                "restore it, or set `task` to the texts to evaluate on (none of them in the training data)"
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
