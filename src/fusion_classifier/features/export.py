"""Exports the features and labels of a split as one safetensors file, for other classifiers.

Tensors: `labels` (N,), int64; for each encoder `<name>` (N, *shape), or with pooling `tokens` `<name>.states`
(tokens of all texts, layers, H) and `<name>.offsets` (N + 1,): text i has the rows offsets[i] to
offsets[i + 1]. Features are float16, or float32 if a value did not fit. Metadata: `labels` (JSON list of
names), `task`, `split`, `text_hash` (JSON list).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from fusion_classifier.features.arrays import Features, PooledFeatures, TokenFeatures
from fusion_classifier.support.files import atomic_file


def export_split(
    features: Mapping[str, Features],
    labels: np.ndarray,
    path: Path,
    *,
    names: Sequence[str],
    task: str,
    split: str,
    hashes: Sequence[str],
) -> None:
    """Write one split."""
    tensors: dict[str, np.ndarray] = {"labels": labels}
    for name, values in features.items():
        if isinstance(values, TokenFeatures):
            tensors[f"{name}.states"] = np.ascontiguousarray(values.values)
            tensors[f"{name}.offsets"] = values.offsets
        else:
            tensors[name] = np.ascontiguousarray(values.values)
    metadata = {
        "task": task,
        "split": split,
        "labels": json.dumps(list(names)),
        "text_hash": json.dumps(list(hashes)),
    }
    with atomic_file(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def export_original(features: PooledFeatures, labels: np.ndarray, folder: Path, split: str) -> list[Path]:
    """Write one split in the layout of LLM-FusionClassifier's extraction, as safetensors instead of pickles.

    Files: `<split>_sents.safetensors` with the tensor `sents`, (N, H) or (N, layers, H) from the last layer to the
    first, and `<split>_labels.safetensors` with `labels`, (N,), int64.
    """
    values = features.values[:, ::-1] if features.values.ndim > 2 else features.values
    paths = []
    for name, tensor in (("sents", values), ("labels", labels)):
        path = folder / f"{split}_{name}.safetensors"
        with atomic_file(path) as temporary:
            save_file({name: np.ascontiguousarray(tensor)}, temporary)
        paths.append(path)
    return paths
