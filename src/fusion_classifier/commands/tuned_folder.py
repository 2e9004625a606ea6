"""The folder written by `fec tune`: an ordinary encoder, with the classifier that it was tuned with.

    config.json, model.safetensors, tokenizer files    the tuned model
    classifier/head.safetensors                        the linear layer
    tuning.json                                        base, data, settings, epochs, and the metrics on validation
    README.md                                          a summary

The classifier is one matrix product on the features that `fec extract` reads from the last layer. Its linear layer is
in a separate folder, so that the encoder's fingerprint does not depend on it.
"""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig

from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.gguf import unpacked
from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.encoders.loading import TransformerEncoder, load_encoder
from fusion_classifier.encoders.presets import PRESETS
from fusion_classifier.encoders.weights import content_files
from fusion_classifier.errors import WeightsError
from fusion_classifier.training.decision import Decision

TUNING_FILE = "tuning.json"
HEAD_FILE = "classifier/head.safetensors"
MIN_NORM = 1e-12  # for dividing a vector by its norm
# Settings that affect the classifier, in addition to the weights in the folder.
KEPT_SETTINGS = ("pooling", "template", "max_length", "dtype", "pool_special_tokens")


@dataclass(frozen=True)
class TunedClassifier:
    """A tuned encoder with its linear layer: `weight` (C, F) and `bias` (C,), float32.

    `unit`: whether the layer reads vectors of unit length, as after contrastive tuning.
    """

    encoder: TransformerEncoder
    weight: np.ndarray
    bias: np.ndarray
    labels: tuple[str, ...]
    decision: Decision
    unit: bool = False

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """(N, C), float32."""
        if not texts:
            return np.empty((0, len(self.labels)), dtype=np.float32)
        features = np.stack([feature.reshape(-1) for feature in encode(self.encoder, texts)])  # (N, F)
        if self.unit:
            features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), MIN_NORM)
        logits: np.ndarray = features @ self.weight.T + self.bias
        return logits

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """Probabilities, calibrated on the validation split: (N, C), float32, in the order of `labels`."""
        return self.decision.probabilities(torch.from_numpy(self.logits(texts)))

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Label numbers (N,), int64; in a multi-label task (N, C) of 0 and 1."""
        return self.decision.labels(self.predict_proba(texts))


def load_tuned_classifier(folder: Path, device: torch.device) -> TunedClassifier:
    """The classifier of a tuned folder.

    Raises:
        WeightsError: The folder was not written by `fec tune`, or is damaged.
    """
    path = folder / TUNING_FILE
    try:
        record = json.loads(path.read_text("utf-8"))
        settings = {name: record["encoder"][name] for name in KEPT_SETTINGS}
        labels = tuple(record["task"]["labels"])
        decision = Decision.model_validate(record["decision"])
        unit = record["tuning"].get("objective") == "contrastive"  # folders from earlier versions have no objective
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        raise WeightsError(
            f"{path}: can't be read ({error.__class__.__name__}); was {folder} tuned by fec?"
        ) from error
    return read_classifier(folder, folder.resolve().name, settings, labels, decision, device, unit=unit)


def read_classifier(
    folder: Path,
    name: str,
    settings: Mapping[str, Any],
    labels: Sequence[str],
    decision: Decision,
    device: torch.device,
    *,
    unit: bool = False,
) -> TunedClassifier:
    """The classifier of a tuned folder, before tuning.json is written."""
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
    return TunedClassifier(encoder, weight, bias, tuple(labels), decision, unit)


def kept_settings(encoder: EncoderConfig) -> dict[str, Any]:
    """The encoder settings that the classifier depends on."""
    return {name: getattr(encoder, name) for name in KEPT_SETTINGS}


def model_folder(base: EncoderIdentity) -> Path:
    """The model's files as an ordinary model folder.

    Raises:
        WeightsError: A GGUF file that is too large to be unpacked.
    """
    if base.weights.gguf_file is None:
        return base.weights.folder
    folder = unpacked(base.weights, base.fingerprint, base.dtype)
    if folder is None:
        raise WeightsError(f"{base.config.name}: too large a GGUF file; give the original safetensors folder")
    return folder


def write_encoder(source: Path, encoder: TransformerEncoder, model: nn.Module, head: nn.Module, folder: Path) -> None:
    """Write model, tokenizer files (unchanged, from `source`) and head."""
    config = AutoConfig.from_pretrained(source, trust_remote_code=False, local_files_only=True)
    config.architectures = [type(encoder.model).__name__]
    config.dtype = "float32"
    config.save_pretrained(folder)
    for name in content_files(path.name for path in source.iterdir() if path.is_file()):
        if name != "config.json":
            shutil.copyfile(source / name, folder / name)
    # Not model.save_pretrained, which transformers does not support for GGUF models.
    _save(model, folder / "model.safetensors")
    (folder / HEAD_FILE).parent.mkdir()
    _save(head, folder / HEAD_FILE)


def _save(module: nn.Module, path: Path) -> None:
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    save_file(state, path, metadata={"format": "pt"})


def describe_base(encoder: EncoderConfig, base: EncoderIdentity) -> dict[str, Any]:
    """Origin of the weights, without local paths."""
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


def write_record(record: Mapping[str, Any], precision: str, folder: Path) -> None:
    """Write tuning.json and README.md."""
    (folder / TUNING_FILE).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")
    base, task, tuning = (record[name] for name in ("base", "task", "tuning"))
    base_line = "" if base["hub_id"] is None else f"base_model: {base['hub_id']}\n"
    card = (
        f"---\n{base_line}library_name: transformers\ntags: [text-classification, fusion-classifier]\n---\n\n"
        f"# {base['encoder']} tuned on {task['name']}\n\n"
        f"`{base['encoder']}` fine-tuned by `fec tune` on the train split of `{task['name']}` "
        f"({task['data']['train']['rows']:,} texts, {len(task['labels'])} labels; licence of the data: "
        f"{task['licence']}): {_how(tuning)}, epoch {record['best_epoch']} of {tuning['epochs']}, learning rate "
        f"{tuning['learning_rate']:g}, batches of {tuning['batch_size']}, computed in {precision}, seed "
        f"{tuning['seed']}. {_reached(record)}`tuning.json` has the rest. Features of the training texts have seen "
        "their labels: a classifier on top must be judged on other texts.\n"
    )
    (folder / "README.md").write_text(card, "utf-8")


def _how(tuning: Mapping[str, Any]) -> str:
    if tuning["objective"] == "contrastive":
        return "contrastively, all weights but the token embeddings"
    rank = tuning["lora_rank"]
    return "all weights" if rank is None else f"LoRA adapters of rank {rank}, merged into the weights"


def _reached(record: Mapping[str, Any]) -> str:
    """One sentence on the validation metrics, if any."""
    valid = record["valid"]
    if valid is None:
        return ""
    accuracy = "subset_accuracy" if record["task"]["multilabel"] else "accuracy"
    chose = "" if record["tuning"]["objective"] == "contrastive" else ", which also chose the epoch"
    return (
        f"With its own linear classifier it reaches {accuracy.replace('_', ' ')} {100 * valid[accuracy]:.2f} and "
        f"weighted F1 {100 * valid['weighted_f1']:.2f} on validation{chose}. "
    )
