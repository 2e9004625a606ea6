"""A trained classifier as a folder: `config.json`, the head, and a card. Data, without code.

`config.json` names the labels, the head and the encoders with the fingerprint of their files, so that a model can't
be used with features that it was not trained on.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from fusion_classifier.classifier.labels import LabelledConfig
from fusion_classifier.classifier.models import CARD_FILE, CONFIG_FILE, HEAD_FILES, PROJECTION_FILE, is_model
from fusion_classifier.config import AnyHeadConfig, EncoderConfig, FrozenModel, ModuleConfig
from fusion_classifier.errors import FecError
from fusion_classifier.features.arrays import FeatureShape
from fusion_classifier.fusion.head import Head
from fusion_classifier.fusion.saved import load_head, save_head
from fusion_classifier.fusion.scikit_learn import SklearnHead
from fusion_classifier.support.files import atomic_folder, user_path
from fusion_classifier.support.validation import first_problem
from fusion_classifier.training.decision import Decision, Member
from fusion_classifier.training.known import KnownTexts

FORMAT: Literal[1] = 1  # raised when an older version would misread the folder; this version reads all up to it
MODEL_TYPE: Literal["fusion-classifier"] = "fusion-classifier"
ENCODER_ABOVE = ".."  # `path` of an encoder whose folder has the model folder in it, as `fec tune` writes it


class SavedEncoder(FrozenModel):
    """An encoder of a saved model."""

    config: EncoderConfig
    """Model and settings; for an encoder that is a Python object, only its name."""
    fingerprint: str
    """SHA-256 of the model's files, or of the object's version."""
    shape: tuple[int, ...]
    """Shape of one text's feature, or of one token's states."""
    ragged: bool
    """Whether features are token states."""
    package: str | None = None
    """Requirement for the PyPI package that the model's files were read from, if any."""
    is_object: bool = False
    """Whether it is a Python object, which is not in the folder."""


class Distillation(FrozenModel):
    """How a model was distilled from another, its teacher. Shares refer to the validation texts."""

    head: str
    """Head of the teacher."""
    encoders: tuple[str, ...]
    """Encoders of the teacher."""
    labelled_texts: int
    """Number of labelled training texts."""
    further_texts: int
    """Number of unlabelled training texts."""
    valid_texts: int
    """Number of validation texts."""
    accuracy: float
    """Share of correct answers."""
    teacher_accuracy: float
    """Share of texts that the teacher classifies correctly."""
    agreement: float
    """Share of texts for which teacher and student give the same answer."""
    teacher_knew: bool
    """Whether the teacher may have been trained on some of the validation texts, or chosen and calibrated by them."""


class ModelConfig(LabelledConfig):
    """`config.json` of a model folder."""

    model_type: Literal["fusion-classifier"] = MODEL_TYPE
    """Always fusion-classifier."""
    format: Literal[1] = FORMAT
    """Version of the folder's layout; docs/reference/model-folder.md describes it."""
    head: AnyHeadConfig
    """Configuration of the head."""
    encoders: tuple[SavedEncoder, ...] = ()
    """The encoders, in the head's order. None if the model reads features instead of texts."""
    blocks: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    """Shape of each block of columns, if the model reads features instead of texts."""
    columns: tuple[str, ...] | None = None
    """Names of the feature columns, if any."""
    seed: int
    """Random seed of the training run."""
    members: tuple[Member, ...] = ()
    """Parts of the head `ensemble`, with their weights."""
    distilled: Distillation | None = None
    """Details of the distillation, if the model was distilled."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.encoders) == bool(self.blocks):
            raise ValueError("needs either encoders or blocks")
        return self

    @property
    def shapes(self) -> dict[str, FeatureShape]:
        """Feature shape by name of the encoder or block."""
        of_blocks = {name: FeatureShape(shape, ragged=False) for name, shape in self.blocks.items()}
        return of_blocks | {saved.config.name: FeatureShape(saved.shape, saved.ragged) for saved in self.encoders}


@dataclass(frozen=True)
class SavedModel:
    """Content of a model folder.

    Attributes:
        config: Content of `config.json`.
        head: Trained head.
        made_of: Specification for a new head of this kind: the given object, or the configuration.
        known: Statistics for detecting unknown texts; None if the folder has none.
    """

    config: ModelConfig
    head: Head
    made_of: Any
    known: KnownTexts | None = None

    @property
    def decision(self) -> Decision:
        """Calibration of the head."""
        return self.config.decision


def labels_of(classes: np.ndarray) -> dict[str, Any]:
    """The fields `id2label` and `label_type` of labels (C,)."""
    kind = {"i": "int", "u": "int", "f": "float", "b": "bool"}.get(classes.dtype.kind, "str")
    return {"id2label": dict(enumerate(map(str, classes.tolist()))), "label_type": kind}


def objects_note(config: ModelConfig) -> str | None:
    """How to load a model with parts that are Python objects; None without such parts."""
    names = [saved.config.name for saved in config.encoders if saved.is_object]
    parts = [f"the encoder{'s' * (len(names) > 1)} {', '.join(names)}"] if names else []
    given = ["encoders={" + ", ".join(f"{name!r}: …" for name in names) + "}"] if names else []
    if isinstance(config.head, ModuleConfig):
        parts.append(f"the code of the head {config.head.class_path}")
        given.append(f"head={config.head.class_path.rpartition('.')[2]}")
    if not parts:
        return None
    of_class = "FusionClassifier" if config.encoders else "FusionHeadClassifier"
    return f"does not contain {' and '.join(parts)}; load it by {of_class}.from_pretrained(…, {', '.join(given)})"


def save_model(
    folder: Path,
    config: ModelConfig,
    head: Head,
    card: str,
    files: Mapping[str, str] | None = None,
    known: KnownTexts | None = None,
) -> None:
    """Write a model folder atomically.

    Args:
        folder: Folder to write; an existing one is replaced.
        config: Content of `config.json`.
        head: Trained head.
        card: Content of `README.md`.
        files: Further text files by name.
        known: Statistics for detecting unknown texts.
    """
    with atomic_folder(folder) as temporary:
        described: dict[str, Any] = config.model_dump(mode="json")
        for number, saved in enumerate(config.encoders):
            if saved.config.projection is not None:  # needed in addition to the encoder's model
                name = PROJECTION_FILE.format(number)
                shutil.copyfile(user_path(saved.config.projection), temporary / name)
                described["encoders"][number]["config"]["projection"] = name
        described["label2id"] = {label: index for index, label in enumerate(config.labels)}
        written = {CONFIG_FILE: json.dumps(described, indent=2, ensure_ascii=False) + "\n", CARD_FILE: card}
        for name, text in (written | dict(files or {})).items():
            (temporary / name).write_text(text, "utf-8")
        save_head(head, temporary)
        if known is not None:
            known.save(temporary)


def load_model(folder: Path, head: object = None) -> SavedModel:
    """Read a model folder.

    Args:
        folder: Model folder.
        head: The torch module, or a function or class that returns it, if the head was given as an object.
    """
    config = load_config(folder)
    loaded = load_head(config.head, config.shapes, len(config.labels), folder, head)
    if head is None:
        head = loaded.classifier if isinstance(loaded, SklearnHead) else config.head
    return SavedModel(config, loaded, head, KnownTexts.load(folder, loaded.pooled_width))


def load_config(folder: Path) -> ModelConfig:
    """Read `config.json` of a model folder."""
    path = folder / CONFIG_FILE
    if folder.is_file():
        raise FecError(f"{folder} is a file; give the model folder it is in, or a run folder")
    if not is_model(folder):
        raise FecError(f"{folder}: not a model folder (it has no {CONFIG_FILE} with {' or '.join(HEAD_FILES)})")
    try:
        described = json.loads(path.read_text("utf-8"))
        if isinstance(described, dict):
            described.pop("label2id", None)
            _check_format(described.get("format"), path)
            if (kind := described.get("model_type", MODEL_TYPE)) != MODEL_TYPE:
                raise FecError(
                    f"{folder} contains a model of type {kind}, not a classifier; fec run trains a classifier on it"
                )
        config = ModelConfig.model_validate(described)
        config.classes  # noqa: B018 - labels of another type than label_type
    except ValidationError as error:
        field, message = first_problem(error)
        raise FecError(f"{path}: {f'{field}: ' if field else ''}{message}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise FecError(f"{path} can't be read ({error})") from error
    return config.model_copy(update={"encoders": tuple(_with_places(saved, folder) for saved in config.encoders)})


def _check_format(number: object, path: Path) -> None:
    """Raise `FecError` for a layout that only a newer version reads."""
    if isinstance(number, int) and number > FORMAT:
        raise FecError(
            f"{path}: format {number} is newer than this version reads (up to {FORMAT}); "
            "pip install --upgrade llm-fusion-classifier"
        )


def _with_places(saved: SavedEncoder, folder: Path) -> SavedEncoder:
    """The encoder with the projection in the model folder; and its own folder if that contains the model folder."""
    if saved.config.path == ENCODER_ABOVE:
        above = saved.config.model_copy(update={"path": str(folder.resolve().parent)})
        saved = saved.model_copy(update={"config": above})
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
