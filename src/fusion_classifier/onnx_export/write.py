"""Writes a classifier as a folder of ONNX graphs, and measures that they answer as the classifier does.

head.onnx            the head, with its calibration
encoder-0.onnx, …    each encoder that can be exported, with its pooling; float32
tokenizer-0/, …      its tokenizer
config.json          labels, decision, inputs, the encoders' settings, the measured agreement
predict.py           classifies texts with these files, without this package
README.md            how to use it
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fusion_classifier.classifier.folder import ModelConfig
from fusion_classifier.classifier.prediction import TextPredictor
from fusion_classifier.classifier.saved_encoders import checked_identities
from fusion_classifier.config import TaskConfig
from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.loading import TransformerEncoder, load_transformer
from fusion_classifier.errors import FecError, UsageError, reason
from fusion_classifier.onnx_export.agreement import measure_agreement
from fusion_classifier.onnx_export.graphs import export_encoder, export_head
from fusion_classifier.support.extras import require
from fusion_classifier.support.files import atomic_folder
from fusion_classifier.support.progress import Progress
from fusion_classifier.tasks.loaded import SPLITS
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.version import __version__

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
FORMAT = "fusion-classifier-onnx"
CHECKED_TEXTS = 64
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Exported:
    """Result of an export: the folder, its files, and the contents of its `config.json`."""

    folder: Path
    files: tuple[str, ...]
    config: dict[str, Any]

    @property
    def missing(self) -> dict[str, str]:
        """Encoders that were not exported, with the reason."""
        return {one["name"]: one["reason"] for one in self.config["encoders"] if one["onnx"] is None}


def export_onnx(
    model: str,
    out: Path,
    *,
    encoders: bool = True,
    check: int = CHECKED_TEXTS,
    encoder_paths: Mapping[str, str] | None = None,
    progress: Progress,
) -> Exported:
    """Write a classifier as a folder of ONNX graphs, and measure their agreement with the classifier.

    Args:
        model: Model folder, run folder, model of the package, or Hub id.
        out: Folder to write.
        encoders: Whether to export the encoders, too. One that can't be exported is left out, with the reason in the
            result.
        check: Number of texts of the demo corpus on which agreement is measured.
        encoder_paths: Places of the encoders' weights, by encoder name.
        progress: Shows which graph is being exported.

    Raises:
        UsageError: A package is missing, or the folder holds something else.
        FecError: The head can't be exported, or the graphs do not agree with the classifier; nothing was written.
    """
    require("export to ONNX", "onnx", *PACKAGES)
    _check_folder(out)
    classifier = TextPredictor.from_pretrained(model, device="cpu", encoder_paths=encoder_paths or {})
    config, texts = classifier.config_, check_texts(check)
    precision = {"dtype": "float32"} if encoders else {}
    identities = checked_identities(
        [one.model_copy(update={"config": one.config.model_copy(update=precision)}) for one in config.encoders], CPU
    )
    described, features = _described(config), {}
    with atomic_folder(out) as folder, progress.bar("exporting", total=None) as bar:
        for number, (identity, entry) in enumerate(zip(identities, described["encoders"], strict=True)):
            bar.describe(f"exporting encoder {entry['name']}")
            encoder = load_transformer(identity, CPU, plain=True)
            if encoder.dense is not None:
                raise UsageError(f"encoder {entry['name']}: dense layers can't be exported; set `dense` to false")
            entry.update(_settings(encoder))
            if encoders:
                entry.update(_export_encoder(encoder, number, folder))
            features[entry["name"]] = encode(encoder, texts)
            del encoder  # one at a time in memory
        bar.describe("exporting the head")
        described["head"] |= _export_head(classifier, described["encoders"], folder)
        shutil.copyfile(Path(__file__).with_name("predict.py"), folder / "predict.py")
        _write_config(folder, described)
        bar.describe("comparing with the classifier")
        described["agreement"] = measure_agreement(classifier, described, features, texts, folder)
        _write_config(folder, described)
        (folder / "README.md").write_text(_readme(described), "utf-8")
        bar.finish()
        files = tuple(sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()))
    return Exported(out, files, described)


def check_texts(count: int) -> list[str]:
    """Texts of the demo corpus, the test split first, and one that is longer than any encoder reads."""
    splits = load_task(TaskConfig(name="demo")).splits
    texts = [text for name in reversed(SPLITS) for text in splits[name].texts]
    return [*texts[: count - 1], " ".join(texts)[:20_000]] if count > 1 else texts[:1]


def _check_folder(out: Path) -> None:
    """See that no folder with other contents is replaced."""
    if not out.is_dir() or not any(out.iterdir()):
        return
    try:
        ours = json.loads((out / "config.json").read_text("utf-8")).get("format") == FORMAT
    except (OSError, ValueError, AttributeError):
        ours = False
    if not ours:
        raise UsageError(f"`out`: {out} holds something else than an earlier export; choose another folder")


def _described(config: ModelConfig) -> dict[str, Any]:
    """`config.json` as far as the saved model says it; without paths of this machine."""
    return {
        "format": FORMAT,
        "version": __version__,
        "task": config.task,
        "id2label": {str(index): label for index, label in config.id2label.items()},
        "label_type": config.label_type,
        "decision": config.decision.model_dump(mode="json"),
        "head": {"name": config.head.name},
        "encoders": [
            {
                "name": saved.config.name,
                "revision": saved.config.revision,
                "fingerprint": saved.fingerprint,
                "pooling": saved.config.pooling,
                "templates": list(saved.config.templates),
                "max_length": saved.config.max_length,
                "layers": shape.layers,
                "width": shape.width,
                "token_states": shape.ragged,
                "onnx": None,
                "reason": "exported without encoders",
            }
            for saved, shape in zip(config.encoders, config.shapes.values(), strict=True)
        ],
        "agreement": None,
    }


def _settings(encoder: TransformerEncoder) -> dict[str, Any]:
    """Settings that are known once an encoder is loaded."""
    return {
        "hidden_states": list(encoder.layers),
        "pool_special_tokens": encoder.pool_special_tokens,
        "pad_token_id": encoder.tokenizer.pad_token_id or 0,
        "int8": encoder.projection is not None and encoder.projection.int8,
    }


def _export_encoder(encoder: TransformerEncoder, number: int, folder: Path) -> dict[str, Any]:
    """Write an encoder and its tokenizer; their entry in config.json, or the reason why they can't be exported."""
    path, tokenizer = folder / f"encoder-{number}.onnx", folder / f"tokenizer-{number}"
    try:
        inputs = export_encoder(encoder, path)
        encoder.tokenizer.save_pretrained(tokenizer)
        if not (tokenizer / "tokenizer.json").is_file():
            raise FecError(f"its tokenizer, {type(encoder.tokenizer).__name__}, can't be written as tokenizer.json")
    except Exception as error:  # tracing raises whatever the model raises
        for rest in folder.glob(f"{path.name}*"):
            rest.unlink()
        shutil.rmtree(tokenizer, ignore_errors=True)
        return {"onnx": None, "reason": reason(error)[:300]}
    return {"onnx": path.name, "inputs": inputs, "tokenizer": f"{tokenizer.name}/tokenizer.json", "reason": None}


def _export_head(classifier: TextPredictor, encoders: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """Write the head; its entry in config.json.

    Raises:
        FecError: It can't be exported.
    """
    int8 = [one["name"] for one in encoders if one["int8"]]
    try:
        inputs = export_head(classifier.head_, classifier.config_.decision, int8, folder / "head.onnx")
    except Exception as error:  # tracing raises whatever the head raises
        name = classifier.config_.head.name
        raise FecError(f"head {name}: can't be exported to ONNX ({reason(error)}); nothing was written") from error
    return {"onnx": "head.onnx", "inputs": inputs, "outputs": ["logits", "probabilities"]}


def _write_config(folder: Path, described: Mapping[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _readme(described: Mapping[str, Any]) -> str:
    encoders = "\n".join(
        f"| {number} | {one['name']} | {one['onnx'] or 'not here: ' + one['reason']} | {one['pooling']} | "
        f"({'L, ' if one['token_states'] else ''}{one['layers']}, {one['width']}) |"
        for number, one in enumerate(described["encoders"])
    )
    agreement = "\n".join(
        f"- `{part}`: largest difference of a probability {figures['max_probability_difference']:.1e}, "
        f"equal labels {100 * figures['equal_labels']:.1f} %"
        for part, figures in described["agreement"].items()
        if isinstance(figures, dict)
    )
    return README.format(
        task=described["task"],
        labels=", ".join(described["id2label"].values()),
        encoders=encoders,
        inputs=", ".join(f"`{name}`" for name in described["head"]["inputs"]),
        texts=described["agreement"]["texts"],
        agreement=agreement,
    )


README = """# Text classifier, ONNX

Trained on {task} by LLM-FusionClassifier. Labels: {labels}.

    pip install onnxruntime tokenizers numpy
    python predict.py "a text" "another"

`predict.py` shows all steps: tokenize, run each encoder, run the head.

| | encoder | graph | pooling | features of a text |
|---|---|---|---|---|
{encoders}

- Inputs of an encoder, each (B, L), int64: `input_ids`; `attention_mask`, 1 where there is no padding; and
  `counted_mask`, 1 for the tokens that pooling and head count: all, or without the special tokens
  (`pool_special_tokens` in config.json). Output: `features`, float32.
- Inputs of the head: {inputs}; token states are padded. Outputs: `logits` and calibrated `probabilities`, (B, C). The
  answer is the most probable label (with `decision.offsets` that of the largest ln p + offset), or every label
  that reaches its threshold (`decision.thresholds`).

Agreement with PyTorch, measured on {texts} texts:

{agreement}
"""
