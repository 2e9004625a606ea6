"""Writes a classifier as ONNX graphs in float32, and measures their agreement with it; files: optimize.py."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fusion_classifier.classifier.folder import ModelConfig
from fusion_classifier.classifier.models import ENCODER_GRAPH, OPTIMIZED_HEAD, STANDALONE_FILE, TOKENIZER_FILE
from fusion_classifier.classifier.prediction import TextPredictor
from fusion_classifier.classifier.saved_encoders import checked_identities
from fusion_classifier.config import TaskConfig
from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.loading import TransformerEncoder, load_transformer
from fusion_classifier.errors import FecError, UsageError, reason
from fusion_classifier.onnx_export.agreement import measure_agreement
from fusion_classifier.onnx_export.graphs import HEAD_OUTPUTS, export_encoder, export_head
from fusion_classifier.tasks.loaded import SPLITS
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.version import __version__

FORMAT = "fusion-classifier-onnx"
CPU = torch.device("cpu")


def write_graphs(
    classifier: TextPredictor, folder: Path, *, encoders: bool, check: int, describe: Callable[[str], None]
) -> dict[str, Any]:
    """Write a classifier as ONNX graphs in float32, and measure their agreement with PyTorch.

    Args:
        classifier: The classifier, on the CPU.
        folder: Empty folder.
        encoders: Whether to export the encoders, too.
        check: Number of texts of the demo corpus on which agreement is measured.
        describe: Called with messages about progress.

    Returns:
        Content of `config.json`, which is written.
    """
    config, texts = classifier.config_, check_texts(check)
    precision = {"dtype": "float32"} if encoders else {}
    identities = checked_identities(
        [one.model_copy(update={"config": one.config.model_copy(update=precision)}) for one in config.encoders], CPU
    )
    described, features = _described(config), {}
    for number, (identity, entry) in enumerate(zip(identities, described["encoders"], strict=True)):
        describe(f"exporting encoder {entry['name']}")
        encoder = load_transformer(identity, CPU, plain=True)
        if encoder.config.long == "window":
            raise UsageError(
                f"encoder {entry['name']}: windows of long texts can't be exported; train with `long` cut"
            )
        if encoder.dense is not None:
            raise UsageError(f"encoder {entry['name']}: dense layers can't be exported; set `dense` to false")
        entry.update(_settings(encoder))
        if encoders:
            entry.update(_export_encoder(encoder, number, folder))
        features[entry["name"]] = encode(encoder, texts)
        del encoder  # one at a time in memory
    describe("exporting the head")
    described["head"] |= _export_head(classifier, described["encoders"], folder)
    if classifier.known_ is not None:
        classifier.known_.save(folder)
    shutil.copyfile(STANDALONE_FILE, folder / "predict.py")
    write_config(folder, described)
    describe("comparing with the classifier")
    described["agreement"] = measure_agreement(classifier, described, features, texts, folder)
    write_config(folder, described)
    return described


def check_texts(count: int) -> list[str]:
    """Texts of the demo corpus, the test split first, and one that is longer than the limit of every encoder."""
    splits = load_task(TaskConfig(name="demo")).splits
    texts = [text for name in reversed(SPLITS) for text in splits[name].texts]
    return [*texts[: count - 1], " ".join(texts)[:20_000]] if count > 1 else texts[:1]


def check_folder(out: Path) -> None:
    """Check that no folder with other contents would be replaced."""
    if not out.is_dir() or not any(out.iterdir()):
        return
    try:
        ours = json.loads((out / "config.json").read_text("utf-8")).get("format") == FORMAT
    except (OSError, ValueError, AttributeError):
        ours = False
    if not ours:
        raise UsageError(f"`out`: {out} contains files other than an optimized model; choose another folder")


def _described(config: ModelConfig) -> dict[str, Any]:
    """The part of `config.json` that comes from the saved model, without local paths."""
    return {
        "format": FORMAT,
        "version": __version__,
        "task": config.task,
        "id2label": {str(index): label for index, label in config.id2label.items()},
        "label_type": config.label_type,
        "text_column": config.text_column,
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
    """Write an encoder and its tokenizer; their entry in config.json."""
    path, tokenizer = folder / ENCODER_GRAPH.format(number), folder / TOKENIZER_FILE.format(number)
    try:
        inputs = export_encoder(encoder, path)
        encoder.tokenizer.save_pretrained(tokenizer.parent)
        if not tokenizer.is_file():
            raise FecError(f"its tokenizer, {type(encoder.tokenizer).__name__}, can't be written as tokenizer.json")
    except Exception as error:  # tracing raises whatever the model raises
        raise FecError(
            f"encoder {encoder.config.name} can't be exported to ONNX ({reason(error)[:300]}); nothing was written; "
            "export the head alone"
        ) from error
    return {"onnx": path.name, "inputs": inputs, "tokenizer": TOKENIZER_FILE.format(number), "reason": None}


def _export_head(classifier: TextPredictor, encoders: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """Write the head; its entry in config.json."""
    int8 = [one["name"] for one in encoders if one["int8"]]
    try:
        inputs = export_head(classifier.head_, classifier.config_.decision, int8, folder / OPTIMIZED_HEAD)
    except Exception as error:  # tracing raises whatever the head raises
        name = classifier.config_.head.name
        raise FecError(f"head {name} can't be exported to ONNX ({reason(error)}); nothing was written") from error
    return {"onnx": OPTIMIZED_HEAD, "inputs": inputs, "outputs": list(HEAD_OUTPUTS)}


def write_config(folder: Path, described: Mapping[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", "utf-8")


def readme(described: Mapping[str, Any]) -> str:
    encoders = "\n".join(
        f"| {number} | {one['name']} | {one['onnx'] or 'not here: ' + one['reason']} | {one['pooling']} | "
        f"({'L, ' if one['token_states'] else ''}{one['layers']}, {one['width']}) |"
        for number, one in enumerate(described["encoders"])
    )
    agreement = "\n".join(
        f"- `{part}`: largest difference of a probability {figures['max_probability_difference']:.1e}, "
        f"equal labels {100 * figures['equal_labels']:.1f}%"
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
- Inputs of the head: {inputs}; token states are padded. Outputs: `logits` and calibrated `probabilities`,
  (B, C), and `vectors`, by which unknown texts are detected. The
  answer is the most probable label (with `decision.offsets` that of the largest ln p + offset), or every label
  that reaches its threshold (`decision.thresholds`).

Agreement with PyTorch, measured on {texts} texts:

{agreement}
"""
