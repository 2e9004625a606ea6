"""Distils a trained classifier: a student on one small encoder learns the teacher's probabilities.

    labelled texts             a part of the target is the label, the rest the teacher's probabilities
    further texts, unlabelled  the target is the teacher's probabilities
    validation texts           the epoch and the calibration are chosen by their labels, without the teacher

The student is an ordinary model folder: a frozen encoder and the head `fusion`.

Source: Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015, https://arxiv.org/abs/1503.02531
(targets of both kinds).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusion_classifier.classifier.card import model_card
from fusion_classifier.classifier.folder import Distillation, ModelConfig, SavedModel, load_model, save_model
from fusion_classifier.classifier.models import (
    check_replaceable,
    find_model,
    find_run_or_model,
    is_model,
    is_optimized,
)
from fusion_classifier.classifier.pipeline import Rows, open_rows, train_classifier
from fusion_classifier.classifier.saved_encoders import checked_identities, placed, saved_encoders
from fusion_classifier.classifier.tuned import tuned_on
from fusion_classifier.config import FusionConfig, TaskConfig
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.errors import DataError, FecError, UsageError
from fusion_classifier.evaluation.overlap import overlap
from fusion_classifier.features.extract import extract_features, open_features
from fusion_classifier.runs.config_file import read_run_config
from fusion_classifier.runs.context import RunContext, say_notes
from fusion_classifier.runs.evaluate import evaluated_task, labelled_task
from fusion_classifier.runs.features import rows_of
from fusion_classifier.runs.pipeline import training_data
from fusion_classifier.support.files import user_path
from fusion_classifier.support.heap import kept_memory
from fusion_classifier.tasks.loaded import LoadedTask
from fusion_classifier.tasks.readers import texts_of
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.tasks.split import hold_out
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.inference import predict_logits

LABEL_SHARE = 0.5  # of a training text's target; the rest is the teacher's (docs/distill.md)
HEAD = FusionConfig()
TRAINING = recipe("default", HEAD.name, label_smoothing=0.0)  # targets are soft already


@dataclass(frozen=True)
class Distilled:
    """Folder of a student, and its measurements."""

    folder: Path
    figures: Distillation


@dataclass(frozen=True)
class Texts:
    """Texts to distil with.

    Attributes:
        train: Texts with labels to train on.
        further: Texts without labels to train on.
        valid: Texts with labels on which the epoch is chosen and the student calibrated.
    """

    train: Rows
    further: Sequence[str]
    valid: Rows

    @property
    def learned(self) -> list[str]:
        """Texts to train on."""
        return [*self.train.texts, *self.further]

    @property
    def all(self) -> list[str]:
        """All texts, the training texts first."""
        return [*self.learned, *self.valid.texts]


def distill_model(
    model: str,
    into: str,
    out: Path,
    work: RunContext,
    *,
    texts: Path | None = None,
    task: str | None = None,
    data: Mapping[str, Any] | None = None,
    encoder_paths: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Distilled:
    """Train a student of a classifier and write it as a model folder, as `fec distill` with these options."""
    folder = find_run_or_model(model)
    _check_folders(find_model(folder), out)
    config = evaluated_task(folder, task, data or {})
    loaded = labelled_task(folder, config)
    say_notes(loaded, work)
    given = _texts(loaded, config, texts, work)
    teacher = load_model(find_model(folder))
    if not teacher.config.encoders:
        raise UsageError(f"{folder} reads features, not texts; only a classifier of texts can be distilled")
    of_teacher = checked_identities(placed(teacher.config.encoders, encoder_paths or {}), work.device)
    of_student = _identified(into, work.device)
    for warning in tuned_on([*of_teacher, of_student], given.valid.texts, "validation texts that are measured here"):
        work.say(f"Warning: {warning}")
    for identity in (*of_teacher, of_student):
        extract_features(given.all, identity, work.store, work.device, work.progress, say=work.say)
    probabilities = _probabilities(teacher, given.all, of_teacher, work)
    of_learned, of_valid = np.split(probabilities, [len(given.learned)])
    train_data, valid_data = _data(given, teacher, of_learned, of_student, work)
    untrained = ModelConfig(
        **teacher.config.model_dump(include={"task", "id2label", "label_type", "text_column"}),
        head=HEAD,
        encoders=saved_encoders([of_student], train_data.shapes),
        seed=seed,
    )
    with kept_memory():
        student, trained = train_classifier(untrained, TRAINING, train_data, valid_data, work.device, work.progress)
    logits = predict_logits(trained.head, valid_data.features, len(valid_data), work.device)
    answers = student.decision.labels(student.decision.probabilities(logits))
    of_teacher_answers = teacher.decision.labels(of_valid)
    figures = Distillation(
        head=teacher.config.head.name,
        encoders=tuple(saved.config.name for saved in teacher.config.encoders),
        labelled_texts=len(given.train.texts),
        further_texts=len(given.further),
        valid_texts=len(given.valid.texts),
        accuracy=_share(answers == given.valid.targets),
        teacher_accuracy=_share(of_teacher_answers == given.valid.targets),
        agreement=_share(answers == of_teacher_answers),
        teacher_knew=_teacher_knew(folder, config, given.valid.texts),
    )
    described = student.model_copy(update={"distilled": figures})
    card = model_card(described, training=TRAINING, data=training_data(loaded.name, loaded.licence, {}))
    save_model(out, described, trained.head, card, known=trained.known)
    return Distilled(out, figures)


def _check_folders(teacher: Path, out: Path) -> None:
    """Check the teacher, and that no folder with other contents would be replaced."""
    if is_optimized(teacher):
        raise UsageError(f"{teacher} is optimized; give the model that it was made from")
    if out.exists() and out.resolve() in (teacher.resolve(), teacher.resolve().parent):
        raise UsageError(f"`out`: {out} is the teacher; choose another folder")
    check_replaceable(out, "out")


def _texts(task: LoadedTask, config: TaskConfig, further: Path | None, work: RunContext) -> Texts:
    """The texts of a task, and those of a file that are not among them.

    If the task has no validation texts, a tenth of its texts is held out.
    """
    splits = {"train": task.training if "train" in task.splits else task.split("test")}
    if "valid" in task.splits and not task.cross_validated:
        splits["valid"] = task.split("valid")
    if "valid" not in splits:
        splits, note = hold_out(splits, config.split_seed, task.source)
        work.say(note)
    train, valid = (rows_of(splits[name], task) for name in ("train", "valid"))
    found: dict[str, None] = {}
    if further is not None:
        found = dict.fromkeys(texts_of(user_path(str(further), "texts"), config.text_column, config.encoding))
        if not found:
            raise DataError(f"{further} has no text")
    known = {*train.texts, *valid.texts}
    return Texts(train, [text for text in found if text not in known], valid)


def _teacher_knew(folder: Path, config: TaskConfig, texts: Sequence[str]) -> bool:
    """Whether the teacher may have been trained on some of the texts, or chosen and calibrated on them.

    Only a run folder names the data for which this can be ruled out.
    """
    if is_model(folder):
        return True
    trained_on = read_run_config(folder).task
    if config.name == trained_on.name:
        return True
    try:
        teachers = load_task(trained_on)
    except FecError:  # such as a file that is no longer there
        return True
    seen = [text for name in ("train", "valid") if name in teachers.splits for text in teachers.split(name).texts]
    return bool(overlap(texts, seen).any())


def _identified(into: str, device: torch.device) -> EncoderIdentity:
    """The student's encoder, with token states if it has them."""
    identity = identify(parse_encoder(into, features=HEAD.reads, where="into"), device)
    if identity.weights.is_static:
        identity = identify(parse_encoder(into, where="into"), device)
    return identity


def _probabilities(
    teacher: SavedModel, texts: Sequence[str], identities: Sequence[EncoderIdentity], work: RunContext
) -> np.ndarray:
    """The teacher's probabilities of texts whose features are in the store: (N, C), float32."""
    features = open_features(texts, identities, work.store, work.memory)
    logits = predict_logits(teacher.head.to(work.device), features, len(texts), work.device)
    return teacher.decision.probabilities(logits)


def _data(
    given: Texts, teacher: SavedModel, probabilities: np.ndarray, identity: EncoderIdentity, work: RunContext
) -> tuple[LabelledFeatures, LabelledFeatures]:
    """Data on which the student is trained and evaluated; texts without a label get the teacher's answers."""
    count, classes = len(given.train.texts), len(teacher.config.labels)
    labels = np.concatenate([given.train.targets, teacher.decision.labels(probabilities[count:])])
    train_data, valid_data = open_rows(
        [Rows(given.learned, labels), given.valid], [identity], work.store, work.memory
    )
    true = given.train.targets if labels.ndim > 1 else np.eye(classes)[given.train.targets]
    soft = probabilities.astype(np.float32)
    soft[:count] = LABEL_SHARE * true + (1 - LABEL_SHARE) * soft[:count]
    return replace(train_data, soft=soft), valid_data


def _share(equal: np.ndarray) -> float:
    """Share of texts with equal answers; multi-label: with all labels equal."""
    return float((equal if equal.ndim == 1 else equal.all(1)).mean())
