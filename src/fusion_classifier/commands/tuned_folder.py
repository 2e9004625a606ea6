"""The folder that `fec tune` writes: written, and read as a classifier."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig

from fusion_classifier.config import EncoderConfig, TuneConfig
from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.gguf import unpacked
from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.encoders.loading import TransformerEncoder, load_encoder
from fusion_classifier.encoders.presets import PRESETS
from fusion_classifier.encoders.weights import CONTENT_FILES
from fusion_classifier.errors import WeightsError
from fusion_classifier.training.decision import Decision

TUNING_FILE = "tuning.json"
HEAD_FILE = "classifier/head.safetensors"
# What decides the classifier beside the weights; layers are the last, the weights lie in the folder itself.
KEPT_SETTINGS = ("pooling", "template", "max_length", "dtype", "pool_special_tokens")


@dataclass(frozen=True)
class TunedClassifier:
    """A tuned encoder with the linear layer it was tuned with: `weight` (C, F) and `bias` (C,), float32."""

    encoder: TransformerEncoder
    weight: np.ndarray
    bias: np.ndarray
    labels: tuple[str, ...]
    decision: Decision

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """(N, C), float32."""
        if not texts:
            return np.empty((0, len(self.labels)), dtype=np.float32)
        features = np.stack([feature.reshape(-1) for feature in encode(self.encoder, texts)])  # (N, F)
        logits: np.ndarray = features @ self.weight.T + self.bias
        return logits

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities, calibrated on the validation split: (N, C), float32, columns as in `labels`."""
        return self.decision.probabilities(torch.from_numpy(self.logits(texts)))

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Label indices (N,), int64; in a multi-label task (N, C) of 0 and 1."""
        return self.decision.labels(self.predict_proba(texts))


def load_tuned_classifier(folder: Path, device: torch.device) -> TunedClassifier:
    """The classifier that a folder was tuned with.

    Raises:
        WeightsError: not a folder of `fec tune`, or damaged.
    """
    path = folder / TUNING_FILE
    try:
        record = json.loads(path.read_text("utf-8"))
        settings = {name: record["encoder"][name] for name in KEPT_SETTINGS}
        labels = tuple(record["task"]["labels"])
        decision = Decision.model_validate(record["decision"])
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise WeightsError(
            f"{path}: can't be read ({error.__class__.__name__}); was {folder} tuned by fec?"
        ) from error
    return read_classifier(folder, folder.resolve().name, settings, labels, decision, device)


def read_classifier(
    folder: Path,
    name: str,
    settings: Mapping[str, Any],
    labels: Sequence[str],
    decision: Decision,
    device: torch.device,
) -> TunedClassifier:
    fields = {"name": name, "model": str(folder), "path": str(folder), "layers": (-1,), **settings}
    try:
        config = EncoderConfig.model_validate(fields)
        head = load_file(folder / HEAD_FILE)
        weight, bias = head["weight"].numpy(), head["bias"].numpy()
    except (OSError, KeyError, SafetensorError, ValidationError) as error:
        raise WeightsError(f"{folder}: its classifier can't be read; tune again") from error
    encoder = load_encoder(config, device, plain=True)
    if weight.shape != (len(labels), math.prod(encoder.shape)) or bias.shape != (len(labels),):
        raise WeightsError(f"{folder}: its classifier does not fit its encoder and labels; tune again")
    return TunedClassifier(encoder, weight, bias, tuple(labels), decision)


def model_folder(base: EncoderIdentity) -> Path:
    """The model's files as an ordinary model folder.

    Raises:
        WeightsError: a GGUF file too large to be unpacked.
    """
    if base.weights.gguf_file is None:
        return base.weights.folder
    folder = unpacked(base.weights, base.fingerprint, base.dtype)
    if folder is None:
        raise WeightsError(
            f"{base.config.name}: too large a GGUF file to be tuned; give the original safetensors folder"
        )
    return folder


def write_encoder(source: Path, encoder: TransformerEncoder, model: nn.Module, head: nn.Module, folder: Path) -> None:
    """Model, tokenizer files (as they were, to the letter) and head."""
    config = AutoConfig.from_pretrained(source, trust_remote_code=False, local_files_only=True)
    config.architectures = [type(encoder.model).__name__]
    config.dtype = "float32"
    config.save_pretrained(folder)
    for name in CONTENT_FILES:
        if name != "config.json" and (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    # Not model.save_pretrained: transformers refuses it for a model that came from GGUF.
    _save(model, folder / "model.safetensors")
    (folder / HEAD_FILE).parent.mkdir()
    _save(head, folder / HEAD_FILE)


def _save(module: nn.Module, path: Path) -> None:
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    save_file(state, path, metadata={"format": "pt"})


def describe_base(encoder: EncoderConfig, base: EncoderIdentity) -> dict[str, Any]:
    """Where the weights came from; not a path: that is nobody else's business."""
    hub_id = PRESETS[encoder.model].hub_id if encoder.model in PRESETS else None
    if base.weights.source.startswith("Hub"):
        hub_id = hub_id or encoder.model
    return {
        "encoder": encoder.name,
        "hub_id": hub_id,
        "revision": encoder.revision,
        "source": base.weights.source,
        "fingerprint": base.fingerprint,
    }


def package_versions(config: TuneConfig) -> dict[str, str]:
    packages = ["accelerate", *(["peft"] if config.lora_rank is not None else [])]
    return {name: version(name) for name in packages}


def tuned_card(record: Mapping[str, Any], precision: torch.dtype) -> str:
    """The folder's model card."""
    base, task, tuning, valid = (record[name] for name in ("base", "task", "tuning", "valid"))
    rank = tuning["lora_rank"]
    how = "all weights" if rank is None else f"LoRA adapters of rank {rank}, merged into the weights"
    header = ["library_name: transformers", "tags: [text-classification, fusion-classifier]"]
    if base["hub_id"] is not None:
        header.insert(0, f"base_model: {base['hub_id']}")
    share = "subset accuracy" if task["multilabel"] else "accuracy"
    reached = valid["subset_accuracy" if task["multilabel"] else "accuracy"]
    text = (
        f"`{base['encoder']}` fine-tuned by `fec tune` on the train split of `{task['name']}` "
        f"({task['data']['train']['rows']:,} texts, {len(task['labels'])} labels; licence of the data: "
        f"{task['licence']}): {how}, epoch {record['best_epoch']} of {tuning['epochs']} was kept, "
        f"learning rate {tuning['learning_rate']:g}, batches of {tuning['batch_size']}, computed in "
        f"{str(precision).removeprefix('torch.')}, seed {tuning['seed']}. "
        f"With its own linear classifier it reaches {share} {100 * reached:.2f} and weighted F1 "
        f"{100 * valid['weighted_f1']:.2f} on validation, which also chose the epoch. `tuning.json` says the rest. "
        "Features of the training texts have seen their labels: a classifier on top must be judged on other texts.\n"
    )
    return "---\n" + "\n".join(header) + f"\n---\n\n# {base['encoder']} tuned on {task['name']}\n\n" + text
