"""Writes a classifier as a folder of ONNX graphs, and measures that they answer as the classifier does.

    head.onnx            the head, with its calibration
    encoder-0.onnx, …    each encoder that can be exported, with its pooling; float32
    tokenizer-0/, …      its tokenizer
    config.json          labels, decision, inputs, the encoders' settings, the measured agreement
    predict.py           classifies texts with these files, without this package
    README.md            how to use it

The graphs are checked as they are used: by the folder's own predict.py, before the folder is there.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusion_classifier.classifier.estimator import FusionClassifier
from fusion_classifier.classifier.folder import ModelConfig
from fusion_classifier.classifier.saved_encoders import checked_identities
from fusion_classifier.config import TaskConfig
from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.loading import TransformerEncoder, load_transformer
from fusion_classifier.encoders.projection import INT8_STEPS
from fusion_classifier.errors import FecError, UsageError, reason
from fusion_classifier.features.arrays import from_arrays
from fusion_classifier.onnx_export.graphs import export_encoder, export_head
from fusion_classifier.support.extras import require
from fusion_classifier.support.files import atomic_folder
from fusion_classifier.support.progress import Progress
from fusion_classifier.tasks.loaded import SPLITS
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.training.loop import predict_logits
from fusion_classifier.version import __version__

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
FORMAT = "fusion-classifier-onnx"
CHECKED_TEXTS = 64
TOLERANCE = 1e-3  # largest difference of a probability between the graphs and PyTorch, both in float32
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Exported:
    """What an export came to: the folder, its files, its `config.json`, and which encoders are missing and why."""

    folder: Path
    files: tuple[str, ...]
    config: dict[str, Any]

    @property
    def missing(self) -> dict[str, str]:
        """Why an encoder is not there, by name."""
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
    """Write a classifier as a folder of ONNX graphs, and measure its agreement with the classifier.

    Args:
        model: what `FusionClassifier.from_pretrained` takes.
        out: the folder.
        encoders: whether encoders are exported, not the head alone. One that can't be is left out, with the reason
            in the result.
        check: texts of the demo corpus on which agreement is measured.
        encoder_paths: places of the encoders' weights, by encoder name.
        progress: shows which graph is being made.

    Raises:
        UsageError: a package is missing, or the folder holds something else.
        FecError: the graphs do not agree with the classifier, and nothing was written; or see the message.
    """
    require("export to ONNX", "onnx", *PACKAGES)
    _check_place(out)
    classifier = FusionClassifier.from_pretrained(model, device="cpu", encoder_paths=encoder_paths or {})
    config = classifier.config_
    texts = check_texts(check)
    precision = {"dtype": "float32"} if encoders else {}
    identities = checked_identities(
        [one.model_copy(update={"config": one.config.model_copy(update=precision)}) for one in config.encoders], CPU
    )
    with atomic_folder(out) as folder:
        described = _described(config)
        with progress.bar("exporting the head", total=None) as bar:
            int8, features = [], {}
            for number, (saved, identity) in enumerate(zip(config.encoders, identities, strict=True)):
                bar.describe(f"encoder {saved.config.name}")
                encoder = load_transformer(identity, CPU, plain=True)
                entry = described["encoders"][number]
                entry |= _settings(encoder)
                if entry["int8"]:
                    int8.append(saved.config.name)
                if encoders:
                    entry |= _export_encoder(encoder, number, folder)
                features[saved.config.name] = encode(encoder, texts)
                del encoder  # one at a time in memory
            bar.describe("the head")
            graph = export_head(classifier.head_, config.decision, int8, folder / "head.onnx")
            described["head"] |= {"onnx": "head.onnx", "inputs": graph.inputs, "outputs": ["logits", "probabilities"]}
            _check_graphs(folder)
            shutil.copyfile(Path(__file__).with_name("predict.py"), folder / "predict.py")
            _write_config(folder, described)
            bar.describe("comparing with the classifier")
            described["agreement"] = _agreement(classifier, described, features, int8, texts, folder)
            bar.finish()
        _write_config(folder, described)
        (folder / "README.md").write_text(_readme(described), "utf-8")
        files = tuple(sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()))
    return Exported(out, files, described)


def check_texts(count: int) -> list[str]:
    """Texts of the demo corpus, test split first, and one that is longer than any encoder reads."""
    splits = load_task(TaskConfig(name="demo")).splits
    texts = [text for name in reversed(SPLITS) for text in splits[name].texts]
    return [*texts[: count - 1], " ".join(texts)[:20_000]] if count > 1 else texts[:1]


def _check_place(out: Path) -> None:
    """See that no folder with other contents is replaced."""
    if not out.is_dir() or not any(out.iterdir()):
        return
    try:
        ours = json.loads((out / "config.json").read_text("utf-8")).get("format") == FORMAT
    except (OSError, ValueError, AttributeError):
        ours = False
    if not ours:
        raise UsageError(f"--out {out}: holds something else than an earlier export; choose another folder")


def _described(config: ModelConfig) -> dict[str, Any]:
    """`config.json` as far as the saved model says it. Nothing of it tells where files lie on this machine."""
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
    """What only the loaded encoder says."""
    return {
        "hidden_states": list(encoder.layers),
        "pool_special_tokens": encoder.pool_special_tokens,
        "pad_token_id": encoder.tokenizer.pad_token_id or 0,
        "int8": encoder.projection is not None and encoder.projection.int8,
    }


def _export_encoder(encoder: TransformerEncoder, number: int, folder: Path) -> dict[str, Any]:
    """Write an encoder and its tokenizer; what config.json says of them, or why they are not there."""
    path, tokenizer = folder / f"encoder-{number}.onnx", folder / f"tokenizer-{number}"
    try:
        graph = export_encoder(encoder, path)
        encoder.tokenizer.save_pretrained(tokenizer)
        if not (tokenizer / "tokenizer.json").is_file():
            raise FecError(f"its tokenizer, {type(encoder.tokenizer).__name__}, can't be written as tokenizer.json")
    except Exception as error:  # what tracing raises is as varied as models are
        for rest in folder.glob(f"encoder-{number}.onnx*"):
            rest.unlink()
        shutil.rmtree(tokenizer, ignore_errors=True)
        first = str(error).strip().splitlines()
        return {"onnx": None, "reason": first[0][:300] if first else type(error).__name__}
    return {
        "onnx": path.name,
        "inputs": graph.inputs,
        "tokenizer": f"{tokenizer.name}/tokenizer.json",
        "reason": None,
    }


def _check_graphs(folder: Path) -> None:
    """See that the files are valid ONNX."""
    import onnx  # noqa: PLC0415 - an extra

    for path in sorted(folder.glob("*.onnx")):
        try:
            onnx.checker.check_model(str(path))
        except onnx.checker.ValidationError as error:
            raise FecError(f"{path.name}: is no valid ONNX ({reason(error)}); nothing was written") from error


def _agreement(
    classifier: FusionClassifier,
    described: Mapping[str, Any],
    arrays: Mapping[str, list[np.ndarray]],
    int8: Sequence[str],
    texts: Sequence[str],
    folder: Path,
) -> dict[str, Any]:
    """How far the graphs' probabilities are from the classifier's, on the same texts.

    Raises:
        FecError: further than float32 explains.
    """
    decision, shapes = classifier.config_.decision, classifier.config_.shapes
    features = {name: from_arrays(value, ragged=shapes[name].ragged) for name, value in arrays.items()}
    expected = decision.probabilities(predict_logits(classifier.head_, features, len(texts), CPU))

    def compared(found: np.ndarray, reference: np.ndarray) -> dict[str, float]:
        same = decision.labels(found) == decision.labels(reference)
        return {
            "max_probability_difference": float(np.abs(found - reference).max()),
            "equal_labels": float((same if same.ndim == 1 else same.all(1)).mean()),
        }

    result: dict[str, Any] = {
        "texts": len(texts),
        "tolerance": TOLERANCE,
        "head": compared(_run_head(folder, arrays, shapes, int8), expected),
    }
    if all(one["onnx"] for one in described["encoders"]):
        from fusion_classifier.onnx_export.predict import Classifier  # noqa: PLC0415 - an extra

        found = Classifier(folder).predict_proba(texts)
        dtypes = {encoder.config.name: encoder.identity.dtype for encoder in classifier.load_encoders()}
        result["text_to_probabilities"] = compared(found, expected)
        result["with_the_classifiers_precision"] = {
            "dtypes": dtypes,
            **compared(found, classifier.predict_proba(texts)),
        }
    for part in ("head", "text_to_probabilities"):
        worst = result.get(part, {}).get("max_probability_difference", 0.0)
        if not worst <= TOLERANCE:  # nor NaN
            what = "the head's graph" if part == "head" else "the graphs"
            advice = "" if part == "head" else "; --no-encoders exports the head alone"
            raise FecError(
                f"{what} and PyTorch differ by {worst:.2g} in a probability, more than {TOLERANCE}: "
                f"nothing was written{advice}"
            )
    return result


def _run_head(
    folder: Path, arrays: Mapping[str, list[np.ndarray]], shapes: Mapping[str, Any], int8: Sequence[str]
) -> np.ndarray:
    """Probabilities by the head's graph of features as `encode` gives them, all texts in one batch."""
    import onnxruntime  # noqa: PLC0415 - an extra

    inputs = {}
    for number, (name, values) in enumerate(arrays.items()):
        shape = shapes[name]
        scale = INT8_STEPS if name in int8 else 1.0
        rows = [
            value.astype(np.float32).reshape(-1, shape.layers, shape.width) / np.float32(scale) for value in values
        ]
        if not shape.ragged:
            inputs[f"features_{number}"] = np.concatenate(rows)
            continue
        longest = max(map(len, rows))
        padded = np.zeros((len(rows), longest, shape.layers, shape.width), np.float32)
        mask = np.zeros((len(rows), longest), np.int64)
        for i, row in enumerate(rows):
            padded[i, : len(row)], mask[i, : len(row)] = row, 1
        inputs |= {f"features_{number}": padded, f"counted_mask_{number}": mask}
    session = onnxruntime.InferenceSession(str(folder / "head.onnx"), providers=["CPUExecutionProvider"])
    probabilities: np.ndarray = session.run(["probabilities"], inputs)[0]
    return probabilities


def _write_config(folder: Path, described: Mapping[str, Any]) -> None:
    (folder / "config.json").write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _readme(described: Mapping[str, Any]) -> str:
    """The folder's README."""
    encoders = "\n".join(
        f"| {number} | {one['name']} | {one['onnx'] or 'not here: ' + one['reason']} | {one['pooling']} | "
        f"({'L, ' if one['token_states'] else ''}{one['layers']}, {one['width']}) |"
        for number, one in enumerate(described["encoders"])
    )
    agreement = described["agreement"]
    lines = [
        f"- `{part}`: largest difference of a probability {figures['max_probability_difference']:.1e}, "
        f"equal labels {100 * figures['equal_labels']:.1f} %"
        for part, figures in agreement.items()
        if isinstance(figures, dict)
    ]
    return README.format(
        task=described["task"],
        labels=", ".join(described["id2label"].values()),
        encoders=encoders,
        inputs=", ".join(f"`{name}`" for name in described["head"]["inputs"]),
        texts=agreement["texts"],
        agreement="\n".join(lines),
    )


README = """# Text classifier, ONNX

Trained on {task} by LLM-FusionClassifier. Labels: {labels}.

    pip install onnxruntime tokenizers numpy
    python predict.py "a text" "another"

`predict.py` is a page of Python to copy from: tokenize, run each encoder, run the head.

| | encoder | graph | pooling | features of a text |
|---|---|---|---|---|
{encoders}

- An encoder's inputs, each (B, L), int64: `input_ids`; `attention_mask`, 1 where there is no padding; `counted_mask`,
  1 for the tokens that pooling and head take in (all, or all but the special tokens: `pool_special_tokens` in
  config.json). Output: `features`, float32.
- The head's inputs: {inputs}; token states come padded, with their mask.
  Outputs: `logits` and `probabilities`, (B, C), calibrated. The answer is the most probable label or, where
  config.json has `decision.thresholds`, every label that reaches its own.

Measured on {texts} texts when it was written, against PyTorch:

{agreement}
"""
