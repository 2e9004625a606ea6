"""The trained seeds of a run: each is a model folder with its training history.

seeds/<seed>/config.json, model.safetensors, …              written by `save_model`
seeds/<seed>/training.json                                 best epoch, history
seeds/<seed>/out_of_fold.json                              cross-validated runs: out-of-fold logits
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusion_classifier.classifier.card import model_card
from fusion_classifier.classifier.folder import ModelConfig, load_model, save_model
from fusion_classifier.config import TrainingConfig
from fusion_classifier.errors import FecError
from fusion_classifier.fusion.head import OutOfFold
from fusion_classifier.training.result import Epoch, TrainingResult

TRAINING_FILE = "training.json"
OUT_OF_FOLD_FILE = "out_of_fold.json"
DECIMALS = 5  # of logits in the file


def seed_folder(out: Path, seed: int) -> Path:
    """Folder of a seed."""
    return out / "seeds" / str(seed)


def save_seed(
    out: Path, model: ModelConfig, trained: TrainingResult, training: TrainingConfig, *, streamed: bool
) -> None:
    """Write a trained seed atomically; `streamed` is whether features were read from the store in blocks."""
    card = model_card(model, training=training)
    files = {TRAINING_FILE: json.dumps(record_of(trained) | {"streamed": streamed}, indent=1)}
    if trained.out_of_fold is not None:
        files[OUT_OF_FOLD_FILE] = json.dumps(trained.out_of_fold.logits.double().numpy().round(DECIMALS).tolist())
    save_model(seed_folder(out, model.seed), model, trained.head, card, files, trained.known)


def record_of(trained: TrainingResult) -> dict[str, Any]:
    """Best epoch and history as JSON values."""
    return {"best_epoch": trained.best_epoch, "history": [asdict(epoch) for epoch in trained.history]}


def finished_seed(out: Path, model: ModelConfig) -> TrainingResult | None:
    """A seed trained by an earlier call, if any; `model` is the same except for its calibration."""
    folder = seed_folder(out, model.seed)
    if not folder.exists():
        return None
    config, trained = read_seed(folder, model.seed)
    if (config.id2label, config.head, config.shapes) != (model.id2label, model.head, model.shapes):
        raise FecError(f"{folder} belongs to another run; delete it to train seed {model.seed} again")
    return trained


def read_seed(folder: Path, seed: int) -> tuple[ModelConfig, TrainingResult]:
    """A trained seed from its folder."""
    try:
        saved, record = load_model(folder), json.loads((folder / TRAINING_FILE).read_text("utf-8"))
        history = tuple(Epoch(**epoch) for epoch in record["history"])
        best_epoch = int(record["best_epoch"])
        if saved.config.seed != seed or not 1 <= best_epoch <= len(history):
            raise ValueError(f"not a record of seed {seed}")
        path, out_of_fold = folder / OUT_OF_FOLD_FILE, None
        if path.is_file():
            logits = torch.tensor(json.loads(path.read_text("utf-8")), dtype=torch.float32)
            out_of_fold = OutOfFold(np.arange(len(logits)), logits)
    except FecError as error:
        raise FecError(f"{error}; delete {folder} to train seed {seed} again") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FecError(f"{folder} can't be read ({error}); delete it to train seed {seed} again") from error
    return saved.config, TrainingResult(
        saved.head,
        saved.config.decision,
        seed,
        best_epoch,
        history,
        saved.known,
        members=saved.config.members,
        out_of_fold=out_of_fold,
    )
