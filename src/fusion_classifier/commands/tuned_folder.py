"""The folder written by `fec tune`: an ordinary encoder, with the classifier that it was tuned with.

config.json, model.safetensors, tokenizer files    the tuned encoder
model/                                             the classifier, an ordinary model folder
tuning.json                                        base, data, settings, epochs, and the metrics
train-texts.bin                                    hashes of the training texts, 16 bytes each
README.md                                          a summary
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import AutoConfig

from fusion_classifier.classifier.card import model_card
from fusion_classifier.classifier.folder import ENCODER_ABOVE, ModelConfig, labels_of, save_model
from fusion_classifier.classifier.prediction import TextPredictor
from fusion_classifier.classifier.saved_encoders import saved_encoders
from fusion_classifier.classifier.tuned import TUNING_FILE, write_tuned_texts
from fusion_classifier.config import Device, EncoderConfig, LinearConfig, TextColumns
from fusion_classifier.encoders.gguf import unpacked
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.loading import TransformerEncoder
from fusion_classifier.encoders.presets import PRESETS
from fusion_classifier.encoders.weights import content_files
from fusion_classifier.errors import WeightsError
from fusion_classifier.features.arrays import FeatureShape, from_arrays
from fusion_classifier.fusion.linear import LinearHead
from fusion_classifier.tasks.loaded import LoadedTask, Split, targets
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.decision import Decision
from fusion_classifier.training.known import KnownTexts
from fusion_classifier.training.unknown import MAX_TEXTS, fit_known

MODEL_FOLDER = "model"
# Settings that affect the classifier, in addition to the weights in the folder.
KEPT_SETTINGS = ("pooling", "template", "max_length", "dtype", "pool_special_tokens")


def kept_settings(encoder: EncoderConfig) -> dict[str, Any]:
    """The encoder settings that the classifier depends on."""
    return {name: getattr(encoder, name) for name in KEPT_SETTINGS}


def model_folder(base: EncoderIdentity) -> Path:
    """The model's files as an ordinary model folder."""
    if base.weights.gguf_file is None:
        return base.weights.folder
    folder = unpacked(base.weights, base.fingerprint, base.dtype)
    if folder is None:
        raise WeightsError(f"{base.config.name}: too large a GGUF file; give the original safetensors folder")
    return folder


def write_encoder(
    source: Path, encoder: TransformerEncoder, model: nn.Module, texts: Sequence[str], folder: Path
) -> None:
    """Write model, tokenizer files (unchanged, from `source`) and hashes of the texts that it was tuned on."""
    config = AutoConfig.from_pretrained(source, trust_remote_code=False, local_files_only=True)
    config.architectures = [type(encoder.model).__name__]
    config.dtype = "float32"
    config.save_pretrained(folder)
    for name in content_files(path.name for path in source.iterdir() if path.is_file()):
        if name != "config.json":
            shutil.copyfile(source / name, folder / name)
    # Not model.save_pretrained, which transformers does not support for GGUF models.
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    write_tuned_texts(texts, folder)


class TunedClassifier:
    """The linear layer on the vectors of a tuned encoder, as the model folder `model` inside it.

    `unit` is whether the layer reads vectors of unit length, as after contrastive tuning.
    """

    def __init__(
        self,
        folder: Path,
        encoder: EncoderConfig,
        task: LoadedTask,
        layer: nn.Linear,
        *,
        unit: bool,
        text_column: TextColumns,
        seed: int,
        device: torch.device,
    ) -> None:
        name = f"{encoder.name}-tuned"
        place = {"name": name, "model": name, "path": str(folder)}
        self.device = device
        config = EncoderConfig.model_validate(place | {"layers": (-1,)} | kept_settings(encoder))
        vectors = len(config.poolings)
        width = layer.in_features // vectors
        shapes = {name: FeatureShape((vectors, width) if vectors > 1 else (width,), ragged=False)}
        (saved,) = saved_encoders([identify(config, device)], shapes)
        saved = saved.model_copy(update={"config": config.model_copy(update={"path": ENCODER_ABOVE})})
        self.head = LinearHead(LinearConfig(scaling="unit" if unit else "standardize"), shapes, len(task.labels))
        self.head.linear.load_state_dict(layer.state_dict())
        self.folder = folder / MODEL_FOLDER
        self.config = ModelConfig(
            **labels_of(np.array(task.labels)),
            task=task.name,
            text_column=text_column,
            head=self.head.config,
            encoders=(saved,),
            seed=seed,
        )

    def save(self, decision: Decision, known: KnownTexts | None = None) -> None:
        """Write the model folder."""
        config = self.config.model_copy(update={"decision": decision})
        save_model(self.folder, config, self.head, model_card(config), known=known)

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Logits of the saved classifier: (N, C), float32."""
        logits: np.ndarray = self._predictor().predict_logits(texts).numpy()
        return logits

    def known(self, train: Split, held: Split, decision: Decision) -> KnownTexts | None:
        """What detects unknown texts, of the saved classifier; of many texts a random sample is encoded.

        Args:
            train: Texts that it was trained on.
            held: Texts that it was not trained on.
            decision: Its calibration.
        """
        predictor = self._predictor()

        def features(split: Split) -> LabelledFeatures:
            chosen = split.take(np.random.default_rng(self.config.seed).permutation(len(split))[:MAX_TEXTS].tolist())
            ((config, arrays),) = predictor.encode_texts(chosen.texts)
            labels = targets(chosen.labels, len(self.config.labels))
            return LabelledFeatures({config.name: from_arrays(arrays, ragged=False)}, labels)

        head = self.head.to(self.device)
        return fit_known(head, decision, features(train), features(held), self.device, self.config.seed)

    def _predictor(self) -> TextPredictor:
        found = TextPredictor.from_pretrained(self.folder, device=cast("Device", self.device.type))
        assert isinstance(found, TextPredictor)
        return found


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
        f"{tuning['seed']}. {_reached(record)}Details: `tuning.json`. Features of the training texts have seen "
        "their labels: a classifier on top must be evaluated on other texts.\n"
    )
    (folder / "README.md").write_text(card, "utf-8")


def _how(tuning: Mapping[str, Any]) -> str:
    if tuning["objective"] == "contrastive":
        return "contrastively, all weights but the token embeddings"
    rank = tuning["lora_rank"]
    return "all weights" if rank is None else f"LoRA adapters of rank {rank}, merged into the weights"


def _reached(record: Mapping[str, Any]) -> str:
    """One sentence on the metrics, if any."""
    valid, held_out = record["valid"], record["out_of_fold"]
    if held_out is not None:
        tuned, frozen = (100 * held_out[name]["accuracy"] for name in ("tuned", "frozen"))
        return (
            f"Cross-validated, with an encoder tuned for each fold, the classifier in `{MODEL_FOLDER}` reaches "
            f"accuracy {tuned:.2f}, and logistic regression on the original encoder {frozen:.2f}. "
        )
    if valid is None:
        return ""
    accuracy = "subset_accuracy" if record["task"]["multilabel"] else "accuracy"
    chose = "" if record["tuning"]["objective"] == "contrastive" else ", which also chose the epoch"
    return (
        f"The classifier in `{MODEL_FOLDER}` reaches {accuracy.replace('_', ' ')} {100 * valid[accuracy]:.2f} and "
        f"weighted F1 {100 * valid['weighted_f1']:.2f} on validation{chose}. "
    )
