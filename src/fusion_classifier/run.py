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
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import torch
import yaml
from filelock import FileLock
from pydantic import ValidationError
from safetensors.torch import save_file

from fusion_classifier.cluster import RayEngine
from fusion_classifier.config import EncoderConfig, RunConfig, TaskConfig
from fusion_classifier.encoders import EncoderIdentity, identify
from fusion_classifier.errors import DataError, FecError, StoreError, UsageError, reason
from fusion_classifier.evaluation import (
    SplitPredictions,
    at_coverages,
    overlap,
    per_class,
    summarize,
    write_predictions,
)
from fusion_classifier.evaluation.plots import plot_confusion, plot_f1_by_label, plot_risk_coverage, plot_training
from fusion_classifier.features import (
    ExtractionReport,
    FeatureStore,
    extract_features,
    hash_texts,
    memory_for_features,
    open_features,
    open_splits,
    read_features,
)
from fusion_classifier.features.export import export_split
from fusion_classifier.features.extract_ray import extract_features_ray
from fusion_classifier.features.hashing import hexadecimal
from fusion_classifier.files import whole_file, whole_folder, write_whole
from fusion_classifier.fusion import Head, build_head, count_parameters
from fusion_classifier.modelcard import TrainingData, model_card
from fusion_classifier.modelfile import (
    CARD_FILE,
    ModelConfig,
    checked_identities,
    is_model,
    labels_of,
    load_head,
    load_model,
    placed,
    save_model,
    saved_encoders,
)
from fusion_classifier.progress import Progress
from fusion_classifier.stages import Stages
from fusion_classifier.tasks import NAMED, SPLITS, Split, Task, load_splits, targets
from fusion_classifier.tracking import NOT_TRACKED, STATE_FILE, TENSORBOARD_FOLDER, Tracking
from fusion_classifier.training import Decision, Epoch, LabelledFeatures, Trained, predict_logits, train
from fusion_classifier.version import __version__, source_commit

logger = logging.getLogger(__name__)

CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.json"
STAGES_FILE = "stages.json"
REPORT_FILE = "report.html"
GAPS = {"train": "they can't be learnt", "valid": "no choice heeds them", "test": "they are not measured"}
MOST_NAMED = 5  # labels in a sentence
REPORTED_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "scikit-learn", "pylance", "pyarrow")


@dataclass(frozen=True)
class Workspace:
    """Where a command works: the store, the device, where it shows its progress, bytes features may take, the engine.

    With `ray` texts are encoded by its workers, else by this process.
    """

    store: FeatureStore
    device: torch.device
    progress: Progress
    memory: int = field(default_factory=memory_for_features)
    ray: RayEngine | None = None

    def say(self, message: str) -> None:
        """A line for the user, beside the progress."""
        self.progress.console.print(message, highlight=False, markup=False, soft_wrap=True)


@dataclass(frozen=True)
class Result:
    """What a run came to."""

    out: Path
    metrics: dict[str, Any]


def say_notes(task: Task, work: Workspace) -> None:
    """What the user should know of how the task was read."""
    logger.info(
        "task %s",
        task.name,
        extra={"source": task.source, "labels": len(task.labels)}
        | {f"{name}_rows": len(split) for name, split in task.splits.items()},
    )
    for note in task.notes:
        work.say(note)


def say_gaps(task: Task, work: Workspace) -> None:
    """Name the labels without a row in a split: nothing is learnt of them, or nothing is measured."""
    for split, meaning in GAPS.items():
        if split not in task.splits:
            continue
        rows = task.targets(split)
        counts = rows.sum(0) if task.multilabel else np.bincount(rows, minlength=len(task.labels))
        missing = [repr(label) for label, count in zip(task.labels, counts, strict=True) if not count]
        if missing:
            shown = ", ".join(missing[:MOST_NAMED]) + (", …" if len(missing) > MOST_NAMED else "")
            work.say(f"labels without a row in {split} ({meaning}): {shown}")


# --- extract -----------------------------------------------------------------------------------------------


def extract_task(
    task: Task, splits: Sequence[str], encoders: Sequence[EncoderConfig], work: Workspace
) -> list[ExtractionReport]:
    """Make sure that the store has the features of these splits, encoder by encoder."""
    texts = [text for split in splits for text in _texts(task, split)]
    reports = []
    for config in encoders:
        identity = identify(config, work.device)
        if work.ray is None:
            report = extract_features(texts, identity, work.store, work.device, work.progress)
        else:
            report = extract_features_ray(texts, identity, work.store, work.ray, work.progress)
        if report.truncated:
            work.say(
                f"{report.encoder}: {report.truncated:,} texts were longer than {config.max_length} tokens and "
                "lost their end; raise --max-length to keep it"
            )
        reports.append(report)
    return reports


def features_missing(task: Task, splits: Sequence[str], encoders: Sequence[EncoderConfig], work: Workspace) -> None:
    """See that the store has all features of these splits, before hours of training find that it has not.

    Raises:
        StoreError: it has not; the message names the encoder and says how to extract.
    """
    for split in dict.fromkeys(splits):
        hashes = hash_texts(_texts(task, split))
        for config in encoders:
            missing = int((~work.store.of(identify(config, work.device)).contains(hashes)).sum())
            if missing:
                raise StoreError(
                    f"{work.store.root}: lacks the features of {missing:,} {split} texts by {config.name}; "
                    f"first run fec extract on the same task with the same options and --encoder '{config.name}'"
                )


def _texts(task: Task, split: str) -> tuple[str, ...]:
    """The texts of a split that need features: for train those of the augmentation too."""
    return task.training.texts if split == "train" else task.split(split).texts


def features_of(
    split: Split, task: Task, identities: Sequence[EncoderIdentity], store: FeatureStore, memory: int | None = None
) -> LabelledFeatures:
    """The features of a task's rows with their labels; left in the store where they need more bytes than `memory`."""
    return LabelledFeatures(
        open_features(split.texts, identities, store, memory), targets(split.labels, len(task.labels))
    )


# --- train -------------------------------------------------------------------------------------------------


def train_task(
    config: RunConfig,
    task: Task,
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
        _claim(out, config, task, identities, work.device, overwrite=overwrite)
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
            finished = _finished_seed(out, config, train_data, len(task.labels), seed)
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
        with whole_file(out / "training_curves.png") as path:
            plot_training({seed: one.history for seed, one in trained.items()}, path)
    return trained


def _check_labels(train_split: Split, task: Task) -> None:
    """See that there are two labels to tell apart: with one, training would seem to go very well."""
    seen = targets(train_split.labels, len(task.labels))
    there = np.flatnonzero(seen.any(0)) if task.multilabel else np.unique(seen)
    if len(there) < 2:
        only = task.labels[there[0]] if len(there) else "none"
        raise DataError(
            f"{task.source}: the rows to train on have only the label {only!r}; add rows with other labels, "
            "or raise --limit"
        )


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """The run folder, held against a second command that would write into it."""
    lock = FileLock(out / ".lock", blocking=False)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise FecError(
            f"{out}: another fec command is writing there; wait for it, or choose another --out"
        ) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise FecError(f"{out}: is a file; choose another --out") from error
    except OSError as error:
        raise FecError(f"{out}: can't be written ({error.strerror}); choose another --out") from error
    try:
        yield
    finally:
        lock.release()


def _claim(
    out: Path,
    config: RunConfig,
    task: Task,
    identities: Sequence[EncoderIdentity],
    device: torch.device,
    *,
    overwrite: bool,
) -> None:
    """Write `config.yaml`, or see that the one there says the same."""
    decides = {
        "run": config.model_dump(mode="json"),
        "data": {
            "source": task.source,
            "licence": task.licence,
            "labels": len(task.labels),
            "splits": {
                name: {"rows": len(s), "sha256": s.fingerprint()}
                for name, s in (
                    task.splits | ({"augmentation": task.augmentation} if task.augmentation else {})
                ).items()
            },
        },
        "encoder_keys": {identity.config.name: identity.key for identity in identities},
    }
    path = out / CONFIG_FILE
    if path.exists() and not overwrite:
        # Read as a configuration, so that a field that came with a newer version has its default.
        there = read_config(out) | {"run": read_run_config(out).model_dump(mode="json")}
        for part, value in decides.items():
            difference = _difference(value, there.get(part), part)
            if difference:
                raise UsageError(
                    f"{out}: holds a run with another configuration ({difference}); "
                    "choose another --out, or --overwrite to replace it"
                )
        return
    others = [entry.name for entry in out.iterdir() if entry.name not in OUR_FILES and not entry.name.startswith(".")]
    if others and not path.exists():
        raise UsageError(f"{out}: is not a run folder (it holds {others[0]}); choose another --out")
    if overwrite:
        _discard(out)
    described = decides | {
        "weights": {i.config.name: {"source": i.weights.source, "fingerprint": i.fingerprint} for i in identities},
        "environment": environment(device),
    }
    write_whole(path, yaml.safe_dump(described, sort_keys=False, allow_unicode=True))


OUR_FILES = (
    CONFIG_FILE,
    METRICS_FILE,
    STAGES_FILE,
    REPORT_FILE,
    "seeds",
    "model",
    "predictions.parquet",
    "confusion_matrix.png",
    "risk_coverage.png",
    "f1_by_label.png",
    "training_curves.png",
    STATE_FILE,
    TENSORBOARD_FOLDER,
)


def _discard(out: Path) -> None:
    """Remove the seeds of a run that is replaced, their model, and what speaks of them; all else is written anew."""
    with whole_folder(out / "seeds"):
        pass
    for name in (METRICS_FILE, STAGES_FILE, REPORT_FILE, STATE_FILE):
        (out / name).unlink(missing_ok=True)
    for name in ("model", TENSORBOARD_FOLDER):  # a model that stayed would pass for that of the new seeds
        shutil.rmtree(out / name, ignore_errors=True)


def _difference(new: Any, old: Any, where: str) -> str | None:
    """The first place where two configurations differ, in words."""
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        for key in [*new, *(key for key in old if key not in new)]:
            found = _difference(new.get(key), old.get(key), f"{where}.{key}")
            if found:
                return found
        return None
    if isinstance(new, Sequence) and not isinstance(new, str) and isinstance(old, Sequence) and len(new) == len(old):
        pairs = enumerate(zip(new, old, strict=True))
        return next((d for i, (a, b) in pairs if (d := _difference(a, b, f"{where}.{i}"))), None)
    return None if new == old else f"{where}: there {old!r}, now {new!r}"


def environment(device: torch.device) -> dict[str, Any]:
    """What a result may depend on beside the configuration."""
    versions = {name: version(name) for name in REPORTED_PACKAGES}
    return {
        "fusion_classifier": __version__,
        "commit": source_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device.type,
        "threads": torch.get_num_threads(),
        **versions,
    }


def read_config(out: Path) -> dict[str, Any]:
    """`config.yaml` of a run folder.

    Raises:
        FecError: it is not there or can't be read.
    """
    path = out / CONFIG_FILE
    try:
        described = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise FecError(f"{path}: can't be read ({reason(error)}); is {out} a run folder?") from error
    if not isinstance(described, dict) or "run" not in described:
        raise FecError(f"{path}: is not the configuration of a run")
    return described


def read_run_config(out: Path) -> RunConfig:
    """The configuration of a run folder.

    Raises:
        FecError: it is not there or can't be read.
    """
    try:
        return RunConfig.model_validate(read_config(out)["run"])
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        raise FecError(f"{out / CONFIG_FILE}: run.{field}: {problem['msg']}") from error


def _seed_folder(out: Path, seed: int) -> Path:
    return out / "seeds" / str(seed)


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
    trained = train(head, training, train_data, valid_data, n_classes, seed, work.device, work.progress, told)
    with whole_folder(_seed_folder(out, seed)) as folder:
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


def _finished_seed(
    out: Path, config: RunConfig, train_data: LabelledFeatures, n_classes: int, seed: int
) -> Trained | None:
    """A seed that an earlier call has trained."""
    folder = _seed_folder(out, seed)
    if not folder.exists():
        return None
    return read_seed(folder, build_head(config.head, train_data.shapes, n_classes), seed)


def read_seed(folder: Path, head: Head, seed: int) -> Trained:
    """A trained seed from its folder, into a head of its configuration.

    Raises:
        FecError: it can't be read.
    """
    try:
        load_head(head, folder / "head.safetensors")
    except FecError as error:
        raise FecError(f"{error}; delete {folder} to train seed {seed} anew") from error
    try:
        record = json.loads((folder / "training.json").read_text("utf-8"))
        history = tuple(Epoch(**epoch) for epoch in record["history"])
        decision = Decision.model_validate(record["decision"])
        return Trained(head, decision, seed, int(record["best_epoch"]), history)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FecError(f"{folder}: can't be read ({error}); delete it to train seed {seed} anew") from error


# --- evaluate ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Member:
    """One trained head of a run, and how its logits become labels."""

    head: Head
    decision: Decision


def evaluate_split(
    members: Mapping[int, Member],
    name: str,
    task: Task,
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


def measure(part: SplitPredictions, task: Task) -> dict[str, Any]:
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
        if name not in NAMED:
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
            if not _seed_folder(folder, seed).exists():
                raise FecError(f"{folder}: seed {seed} is not trained yet; run the same fec run or fec train again")
            head = build_head(config.head, saved.config.shapes, len(saved.config.labels))
            one = read_seed(_seed_folder(folder, seed), head, seed)
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


def _check_same_data(folder: Path, config: TaskConfig, task: Task) -> None:
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


def export_task(
    task: Task, splits: Sequence[str], encoders: Sequence[EncoderConfig], out: Path, work: Workspace
) -> list[Path]:
    """Write the features of splits as safetensors, extracting what is missing; the paths written."""
    extract_task(task, splits, encoders, work)
    identities = [identify(encoder, work.device) for encoder in encoders]
    paths = []
    for name in splits:
        split = task.split(name)
        features = read_features(split.texts, identities, work.store)
        labels, hashes = targets(split.labels, len(task.labels)), hexadecimal(hash_texts(split.texts))
        path = out / f"{name}.safetensors"
        export_split(features, labels, path, names=task.labels, task=task.name, split=name, hashes=hashes)
        paths.append(path)
    return paths


# --- all of it ---------------------------------------------------------------------------------------------


def run(
    config: RunConfig,
    task: Task,
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
        _claim(out, config, task, identities, work.device, overwrite=overwrite)
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
        with whole_file(out / "predictions.parquet") as path:
            write_predictions(list(parts.values()), task.labels, path)
        _draw(parts[reported], task, out)
        write_whole(out / METRICS_FILE, json.dumps(metrics, indent=2, default=_json) + "\n")
        write_whole(out / "model" / CARD_FILE, _card(config, task, out, metrics, work))
        tracking.evaluated(by_seed({name: figure["metrics"] for name, figure in figures.items()}, config.seeds))
    return Result(out, metrics)


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


def _card(config: RunConfig, task: Task, out: Path, metrics: Mapping[str, Any], work: Workspace) -> str:
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
    module = NAMED.get(task)
    hub_repo = getattr(module, "HUB_REPO", None)
    return TrainingData(
        source=None if module is None else module.TITLE,
        licence=licence,
        dataset=hub_repo,
        language=None if module is None else "en",
        hashes=hashes,
    )


def _draw(part: SplitPredictions, task: Task, out: Path) -> None:
    """Pictures of what a run predicts: a confusion matrix and what abstaining brings, or F1 by label."""
    if task.multilabel:
        with whole_file(out / "f1_by_label.png") as path:
            plot_f1_by_label(per_class(part, task.labels), path)
        return
    with whole_file(out / "confusion_matrix.png") as path:
        plot_confusion(part.labels, list(part.answers.values()), task.labels, path)
    with whole_file(out / "risk_coverage.png") as path:
        plot_risk_coverage(part.labels, part.by_seed, path)


def _json(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not JSON")
