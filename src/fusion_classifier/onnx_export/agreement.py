"""Compares the predictions of exported graphs, run by the folder's predict.py, with the classifier's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusion_classifier.classifier.prediction import TextPredictor
from fusion_classifier.encoders.projection import INT8_STEPS
from fusion_classifier.errors import FecError
from fusion_classifier.features.arrays import from_arrays
from fusion_classifier.training.inference import predict_logits

# ruff: noqa: PLC0415 - onnxruntime is an extra

TOLERANCE = 1e-3  # largest difference in probability between the graphs and PyTorch, both in float32


def measure_agreement(
    classifier: TextPredictor,
    described: Mapping[str, Any],
    arrays: Mapping[str, list[np.ndarray]],
    texts: Sequence[str],
    folder: Path,
) -> dict[str, Any]:
    """Compare the probabilities of the graphs with those of the classifier.

    Args:
        classifier: The exported classifier.
        described: The folder's config.json.
        arrays: Features of the texts by encoder name, computed by PyTorch in float32.
        texts: N texts.
        folder: The exported folder.
    """
    decision, shapes = classifier.config_.decision, classifier.config_.shapes
    features = {name: from_arrays(value, ragged=shapes[name].ragged) for name, value in arrays.items()}
    logits = predict_logits(classifier.head_, features, len(texts), torch.device("cpu"))
    expected = decision.probabilities(logits)

    def compared(found: np.ndarray, reference: np.ndarray) -> dict[str, float]:
        same = decision.labels(found) == decision.labels(reference)
        return {
            "max_probability_difference": float(np.abs(found - reference).max()),
            "equal_labels": float((same if same.ndim == 1 else same.all(1)).mean()),
        }

    by_head = _run_head(folder, arrays, described["encoders"])
    result: dict[str, Any] = {"texts": len(texts), "tolerance": TOLERANCE, "head": compared(by_head, expected)}
    if all(one["onnx"] for one in described["encoders"]):
        from fusion_classifier.classifier.standalone import Classifier

        result["text_to_probabilities"] = compared(Classifier(folder).predict_proba(texts), expected)
    for part in ("head", "text_to_probabilities"):
        worst = result.get(part, {}).get("max_probability_difference", 0.0)
        if not worst <= TOLERANCE:  # nor NaN
            what, way_out = ("the head", "") if part == "head" else ("the encoders", "; export the head alone")
            raise FecError(
                f"the probabilities of the graphs of {what} and PyTorch differ by up to {worst:.2g}, "
                f"more than {TOLERANCE}; nothing was written{way_out}"
            )
    return result


def _run_head(
    folder: Path, arrays: Mapping[str, list[np.ndarray]], encoders: Sequence[Mapping[str, Any]]
) -> np.ndarray:
    """Probabilities (N, C) by the head's graph, of features as `encode` returns them, all texts in one batch."""
    import onnxruntime

    inputs = {}
    for number, encoder in enumerate(encoders):
        scale = np.float32(INT8_STEPS if encoder["int8"] else 1)
        shape = -1, encoder["layers"], encoder["width"]
        rows = [value.astype(np.float32).reshape(shape) / scale for value in arrays[encoder["name"]]]
        if not encoder["token_states"]:
            inputs[f"features_{number}"] = np.concatenate(rows)
            continue
        padded = np.zeros((len(rows), max(map(len, rows)), *shape[1:]), np.float32)
        mask = np.zeros(padded.shape[:2], np.int64)
        for i, row in enumerate(rows):
            padded[i, : len(row)], mask[i, : len(row)] = row, 1
        inputs |= {f"features_{number}": padded, f"counted_mask_{number}": mask}
    session = onnxruntime.InferenceSession(str(folder / "head.onnx"), providers=["CPUExecutionProvider"])
    probabilities: np.ndarray = session.run(["probabilities"], inputs)[0]
    return probabilities
