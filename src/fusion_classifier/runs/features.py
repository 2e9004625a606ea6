"""The features of a task's texts: extraction, look-up and export."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fusion_classifier.classifier.inputs import row_weights
from fusion_classifier.classifier.pipeline import Rows, label_texts, with_names
from fusion_classifier.cluster.extract import extract_features_ray
from fusion_classifier.config import ClassWeights, EncoderConfig, HeadConfig
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.tokenization import cut_note
from fusion_classifier.errors import UsageError
from fusion_classifier.features.arrays import PooledFeatures
from fusion_classifier.features.export import export_original, export_split
from fusion_classifier.features.extract import ExtractionReport, extract_features, open_features, read_features
from fusion_classifier.features.hashing import hash_texts, hexadecimal
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.runs.context import RunContext
from fusion_classifier.tasks.loaded import LoadedTask, Split, targets
from fusion_classifier.tasks.normalize import text_groups
from fusion_classifier.training.data import LabelledFeatures


def extract_task(
    task: LoadedTask, splits: Sequence[str], encoders: Sequence[EncoderConfig], work: RunContext
) -> list[ExtractionReport]:
    """Extract the missing features of these splits, encoder by encoder; for train, including augmentation and label
    names.
    """
    texts = [text for split in splits for text in (task.training if split == "train" else task.split(split)).texts]
    names = label_texts(task.labels, len(task.training)) if "train" in splits else []
    texts += names
    reports = []
    for config in encoders:
        identity = identify(config, work.device)
        if work.ray is None:
            report = extract_features(texts, identity, work.store, work.device, work.progress, say=work.say)
        else:
            report = extract_features_ray(texts, identity, work.store, work.ray, work.progress)
        if report.truncated:
            work.say(cut_note(config, report.truncated))
        if report.encoded and names:
            work.say_once(f"the names of the {len(names)} labels are among the encoded texts")
        reports.append(report)
    return reports


def training_rows(task: LoadedTask, head: HeadConfig, class_weight: ClassWeights = "none") -> Rows:
    """The weighted training rows; with label names if the head cross-validates and they may help."""
    rows = weighted(rows_of(task.training, task), task.labels, class_weight)
    return with_names(rows, label_texts(task.labels, len(rows.texts))) if head.cross_validated_rows else rows


def rows_of(split: Split, task: LoadedTask) -> Rows:
    """The rows of a split of a task."""
    return Rows(split.texts, targets(split.labels, len(task.labels)))


def weighted(rows: Rows, labels: Sequence[str], class_weight: ClassWeights) -> Rows:
    """The rows with weights according to `class_weight`."""
    if class_weight == "none":
        return rows
    if rows.targets.ndim > 1:
        raise UsageError("`class_weight` supports only one label per text; leave it out")
    return replace(rows, weights=row_weights(None, class_weight, np.array(labels), rows.targets))


def features_of(
    split: Split,
    task: LoadedTask,
    identities: Sequence[EncoderIdentity],
    store: FeatureStore,
    memory: int | None = None,
) -> LabelledFeatures:
    """The features and labels of a task's rows; features stay in the store if they exceed `memory` bytes."""
    features = open_features(split.texts, identities, store, memory)
    return LabelledFeatures(features, rows_of(split, task).targets, groups=text_groups(split.texts))


def export_task(
    task: LoadedTask,
    splits: Sequence[str],
    encoders: Sequence[EncoderConfig],
    out: Path,
    work: RunContext,
    *,
    original: bool = False,
) -> list[Path]:
    """Write the features of splits as safetensors, extracting missing ones; returns the paths.

    With `original`: for a single encoder, in the layout of LLM-FusionClassifier (`export_original`).
    """
    if original and len(encoders) > 1:
        raise UsageError("`original`: each encoder has its own files; set one of `encoders` at a time")
    if original and encoders[0].pooling == "tokens":
        raise UsageError("`original`: these files contain one vector per text and layer; give another `pooling`")
    extract_task(task, splits, encoders, work)
    identities = [identify(encoder, work.device) for encoder in encoders]
    paths = []
    for name in splits:
        split = task.split(name)
        features = read_features(split.texts, identities, work.store)
        labels, hashes = targets(split.labels, len(task.labels)), hexadecimal(hash_texts(split.texts))
        path = out / f"{name}.safetensors"
        if original:
            (values,) = features.values()
            assert isinstance(values, PooledFeatures)
            paths += export_original(values, labels, out, name)
            continue
        export_split(features, labels, path, names=task.labels, task=task.name, split=name, hashes=hashes)
        paths.append(path)
    return paths
