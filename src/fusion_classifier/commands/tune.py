"""Fine-tunes an encoder on a task's train split and writes it as an ordinary encoder folder.

The training is in `training.finetune` and `training.contrastive`, the folder in `commands.tuned_folder`.
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusion_classifier.classifier.tuned import TUNING_FILE
from fusion_classifier.commands.tuned_folder import (
    TunedClassifier,
    describe_base,
    kept_settings,
    model_folder,
    write_encoder,
    write_record,
)
from fusion_classifier.config import EncoderConfig, TextColumns
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.loading import TransformerEncoder, load_encoder
from fusion_classifier.encoders.tokenization import tokenize
from fusion_classifier.errors import DataError, FecError, UsageError, WeightsError, library_errors
from fusion_classifier.evaluation.metrics import score
from fusion_classifier.runs.context import RunContext
from fusion_classifier.runs.folder import environment
from fusion_classifier.support.extras import require
from fusion_classifier.support.files import atomic_folder, user_path
from fusion_classifier.support.text import counted
from fusion_classifier.tasks.loaded import LoadedTask, Split, targets
from fusion_classifier.tasks.normalize import text_groups
from fusion_classifier.tasks.split import CROSS_VALIDATED_ROWS
from fusion_classifier.training.calibration import fit_decision
from fusion_classifier.training.contrastive import out_of_fold, tune_contrastively, with_label_names
from fusion_classifier.training.decision import Decision
from fusion_classifier.training.finetuned import Finetuned, Pass
from fusion_classifier.training.result import Epoch
from fusion_classifier.training.tune_config import TuneConfig


@dataclass(frozen=True)
class Tuned:
    """Result of tuning.

    Attributes:
        folder: Encoder folder.
        history: Metrics per epoch.
        best_epoch: Number of the epoch that was kept, from 1.
        record: Contents of tuning.json.
    """

    folder: Path
    history: tuple[Epoch, ...] | tuple[Pass, ...]
    best_epoch: int
    record: dict[str, Any]


def tune_encoder(
    config: TuneConfig,
    encoder: EncoderConfig,
    task: LoadedTask,
    out: Path,
    work: RunContext,
    *,
    text_column: TextColumns = "text",
    overwrite: bool = False,
) -> Tuned:
    """Fine-tune an encoder on the train split and write it as a folder that is an encoder and a classifier.

    With objective `classification`, the epoch is chosen on validation, by weighted F1. `contrastive` needs no
    validation split: if there is one, it is used only to measure the result; up to 1,000 rows without one are
    measured by 5-fold cross-validation, which tunes five more encoders. The test split is not read. With the same
    seed on the same machine, the weights are bit-identical. Nothing is written before training has succeeded.

    Args:
        config: Training settings.
        encoder: Initial weights; its pooling, template and max length are used in training. `layers` is
            ignored: the classifier reads the last layer.
        task: Texts and labels.
        out: Folder to write.
        work: Device and progress.
        text_column: Columns of the texts, which the classifier reads in other files, too. Default: text.
        overwrite: Whether to replace a tuned folder.
    """
    started = time.perf_counter()
    packages = _packages(config)
    if packages:
        require("fine-tuning", "tune", *packages)
    _check_settings(encoder)
    splits = _splits(config, task)
    weights = _initial(encoder)
    base = identify(weights, work.device)
    _check_folder(out, base, overwrite=overwrite)
    with work.progress.bar(f"loading {encoder.name}", total=None):
        source = model_folder(base)
        loaded = load_encoder(weights, work.device, plain=True)
    precision = identify(encoder, work.device).dtype
    what = f"{encoder.name} can't be trained in {precision}"
    advice = "" if precision == "float32" else "; give `dtype` float32"
    with library_errors(lambda why: WeightsError(f"{what} ({why}){advice}")):
        tuned, held_out = _train(config, loaded, precision, task, splits, work)

    with atomic_folder(out) as folder, work.progress.bar("writing and measuring", total=None):
        write_encoder(source, loaded, tuned.model, splits["train"].texts, folder)
        classifier = TunedClassifier(
            folder,
            encoder,
            task,
            tuned.head,
            unit=config.objective == "contrastive",
            text_column=text_column,
            seed=config.seed,
            device=work.device,
        )
        decision, figures = _measure(classifier, task, splits, held_out)
        known = None
        if config.known_texts and "valid" in splits and not task.multilabel:
            known = classifier.known(splits["train"], splits["valid"], decision)
        classifier.save(decision, known)
        record = {
            "base": describe_base(encoder, base),
            "encoder": kept_settings(encoder),
            "task": {
                "name": task.name,
                "licence": task.licence,
                "labels": list(task.labels),
                "multilabel": task.multilabel,
                "data": _described(splits),
            },
            "tuning": config.model_dump() | {"learning_rate": tuned.learning_rate},
            "parameters": tuned.parameters,
            "best_epoch": tuned.best_epoch,
            "history": [asdict(epoch) for epoch in tuned.history],
            "decision": decision.model_dump(),
            **figures,
            "environment": environment(work.device) | {name: version(name) for name in packages},
            "seconds": time.perf_counter() - started,
        }
        write_record(record, precision, folder)
    return Tuned(out, tuned.history, tuned.best_epoch, record)


def tune_once(
    encoder: EncoderConfig,
    task: LoadedTask,
    out: Path,
    work: RunContext,
    *,
    text_column: TextColumns = "text",
    overwrite: bool = False,
) -> Path:
    """Folder of the encoder tuned on a task with default settings; it is tuned only if `out` does not contain it.

    Raises:
        UsageError: `out` contains another encoder, or one tuned on other texts. Other errors as in `tune_encoder`.
    """
    config, file = TuneConfig(), out / TUNING_FILE
    if overwrite or not file.is_file():
        tune_encoder(config, encoder, task, out, work, text_column=text_column, overwrite=overwrite)
        return out
    with library_errors(lambda why: FecError(f"{file} can't be read ({why}); `overwrite` it")):
        record = json.loads(file.read_text("utf-8"))
        found = record["base"], record["task"]["data"], record["tuning"]["objective"], record["tuning"]["seed"]
    base = describe_base(encoder, identify(_initial(encoder), work.device))
    if found != (base, _described(_splits(config, task)), config.objective, config.seed):
        raise UsageError(
            f"`tune`: {out} contains an encoder tuned on other texts or with other settings; `overwrite` it, "
            "or choose another `out`"
        )
    return out


def _initial(encoder: EncoderConfig) -> EncoderConfig:
    """The encoder to start from. Weights are float32 in every precision of the computation: steps of 1e-5 are lost
    in bfloat16."""
    return encoder.model_copy(update={"layers": (-1,), "dtype": "float32", "dense": False})


def _described(splits: Mapping[str, Split]) -> dict[str, Any]:
    """Size and hash of each split, for tuning.json."""
    return {name: {"rows": len(split), "sha256": split.fingerprint()} for name, split in splits.items()}


def _packages(config: TuneConfig) -> list[str]:
    """Packages of the extra that training needs."""
    if config.objective == "contrastive":
        return []
    return ["accelerate"] if config.lora_rank is None else ["accelerate", "peft"]


def _splits(config: TuneConfig, task: LoadedTask) -> dict[str, Split]:
    """The training rows and, if any, those for validation or, with objective `contrastive`, for measuring."""
    splits = {"train": task.training}
    if config.objective == "classification" or ("valid" in task.splits and not task.cross_validated):
        splits["valid"] = task.split("valid")
    for name, split in splits.items():
        if not len(split):
            raise DataError(f"the {name} split of {task.source} is empty")
    if config.objective == "contrastive" and task.multilabel:
        raise UsageError("`objective` contrastive requires one label per text; use classification")
    return splits


def _train(
    config: TuneConfig,
    loaded: TransformerEncoder,
    precision: str,
    task: LoadedTask,
    splits: Mapping[str, Split],
    work: RunContext,
) -> tuple[Finetuned, tuple[np.ndarray, np.ndarray] | None]:
    """Tokenize and train; for few rows without a validation split, also compute the logits of `out_of_fold`."""
    contrastive, dtype, n_labels = config.objective == "contrastive", getattr(torch, precision), len(task.labels)
    trained_on = {name: split.texts for name, split in splits.items() if name == "train" or not contrastive}
    labels = targets(splits["train"].labels, n_labels)
    if contrastive and config.label_names:
        trained_on["train"], labels = with_label_names(trained_on["train"], labels, task.labels)
    texts = {name: tokenize(loaded, of_split) for name, of_split in trained_on.items()}
    truncated = sum(text.truncated for of_split in texts.values() for text in of_split)
    if truncated:
        work.say(
            f"{loaded.config.name}: truncated {counted(truncated, 'text')} longer than {loaded.config.max_length} "
            "tokens; raise `max_length` to keep the end"
        )
    if contrastive:
        arguments = (loaded, config, dtype, texts["train"], labels, n_labels)
        held_out, rows = None, len(splits["train"])
        if "valid" not in splits and rows <= CROSS_VALIDATED_ROWS:
            groups = text_groups(trained_on["train"])
            held_out = out_of_fold(*arguments, groups, len(labels) - rows, work.progress)
        return tune_contrastively(*arguments, work.progress), held_out
    from fusion_classifier.training.finetune import finetune, rows_of  # noqa: PLC0415 - an extra

    tokenized = {name: rows_of(of_split, splits[name], n_labels) for name, of_split in texts.items()}
    return finetune(loaded, config, dtype, tokenized, n_labels, work.progress), None


def _measure(
    classifier: TunedClassifier,
    task: LoadedTask,
    splits: Mapping[str, Split],
    held_out: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[Decision, dict[str, Any]]:
    """The decision of the saved classifier, and the metrics in tuning.json.

    The decision is fitted on validation or out-of-fold logits; with neither, it is the default one.
    """
    classifier.save(Decision())
    evaluated = splits.get("valid", splits["train"])
    truth = targets(evaluated.labels, len(task.labels))

    def measured(logits: np.ndarray) -> tuple[Decision, dict[str, float]]:
        decision = fit_decision(torch.from_numpy(logits), truth)
        probabilities = decision.probabilities(torch.from_numpy(logits))
        return decision, score(truth, probabilities, decision.labels(probabilities))

    if "valid" in splits:
        decision, figures = measured(classifier.logits(evaluated.texts))
        return decision, {"valid": figures, "out_of_fold": None}
    if held_out is None:
        return Decision(), {"valid": None, "out_of_fold": None}
    (decision, tuned), (_, frozen) = map(measured, held_out)
    return decision, {"valid": None, "out_of_fold": {"tuned": tuned, "frozen": frozen}}


def _check_settings(encoder: EncoderConfig) -> None:
    """Reject settings with which an encoder can't be trained."""
    problems = {
        f"pooling {encoder.pooling} does not support tuning; give ENCODER?pooling=mean (or max, first, last). The "
        "tuned encoder can then be read with pooling tokens, too": bool(set(encoder.poolings) & {"tokens", "pooler"}),
        "tuning does not support several templates; give one": len(encoder.templates) > 1,
        "a projection is fitted on fixed weights; tune first, then fec project": encoder.projection is not None,
        "8-bit weights can't be tuned; tune without quantization, then read the tuned encoder with "
        "TUNED?quantization=int8": encoder.quantization != "none",
        "float16 overflows during training; give `dtype` bfloat16 or float32": encoder.dtype == "float16",
    }
    for problem, applies in problems.items():
        if applies:
            raise UsageError(f"{encoder.name}: {problem}")


def _check_folder(out: Path, base: EncoderIdentity, *, overwrite: bool) -> None:
    """Check that `out` can be written before hours of training."""
    user_path(str(out), "out")
    own_files = base.weights.folder.resolve()
    if out.exists() and not out.is_dir():
        raise UsageError(f"`out`: {out} is a file; name a folder")
    if out.exists() and out.resolve() in (own_files, *own_files.parents):
        raise UsageError(f"`out`: the encoder's own files are in {out}; choose another folder")
    if out.is_dir() and any(out.iterdir()):
        if not (out / TUNING_FILE).is_file():
            raise UsageError(f"`out`: {out} contains other files; choose another folder")
        if not overwrite:
            raise UsageError(f"`out`: {out} contains a tuned encoder; choose another folder, or `overwrite` it")
    existing = next(folder for folder in out.absolute().parents if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise FecError(f"`out`: {out} can't be written (in {existing}); choose another folder")
