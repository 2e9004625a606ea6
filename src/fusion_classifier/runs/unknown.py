"""Measures how well a run's heads detect unknown texts, which are given as a file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusion_classifier.config import RunConfig
from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.errors import DataError, FecError, UsageError
from fusion_classifier.evaluation.metrics import over_seeds
from fusion_classifier.evaluation.unknown import unknown_figures
from fusion_classifier.features.arrays import Features
from fusion_classifier.features.extract import extract_features, open_features
from fusion_classifier.features.stored import StoredFeatures
from fusion_classifier.runs.context import RunContext
from fusion_classifier.tasks.loaded import LoadedTask
from fusion_classifier.tasks.readers import texts_of
from fusion_classifier.training.inference import predict_each, predict_logits
from fusion_classifier.training.known import DEFAULT_RATE, KnownTexts
from fusion_classifier.training.result import TrainingResult


def read_unknown(path: Path, config: RunConfig, task: LoadedTask) -> list[str]:
    """The unknown texts in a file: the task's column of texts, or the lines of a .txt."""
    if task.multilabel:
        raise UsageError(
            "`unknown`: not available with several labels per text, where an unknown text gets none; leave it out"
        )
    if not config.training.known_texts:
        raise UsageError("`unknown` needs `known_texts` to detect unknown texts")
    if task.cross_validated and "test" not in task.splits:
        raise UsageError(
            "`unknown`: there are no known texts other than the training texts; leave out `cross_validate`"
        )
    texts = list(texts_of(path, config.task.text_column, config.task.encoding))
    if not texts:
        raise DataError(f"{path} contains no texts; give texts that belong to none of the labels")
    return texts


def measure_unknown(
    trained: Mapping[int, TrainingResult],
    texts: Sequence[str],
    split: str,
    task: LoadedTask,
    identities: Sequence[EncoderIdentity],
    work: RunContext,
) -> dict[str, Any]:
    """The section `unknown` of metrics.json: unknown texts against those of a split, at the default rate."""
    for identity in identities:
        extract_features(texts, identity, work.store, work.device, work.progress)
    known_texts = task.split(split).texts
    parts = [open_features(part, identities, work.store, work.memory // 2) for part in (known_texts, texts)]
    figures, held = [], []
    for seed, one in trained.items():
        if one.known is None:
            raise FecError(
                f"seed {seed} has no data on its training texts to detect unknown ones; train it again: "
                "`overwrite`, or leave `unknown` out"
            )
        known, unknown = (_scores(one, one.known, part, work) for part in parts)
        figures.append(unknown_figures(known, unknown, one.known.threshold(DEFAULT_RATE)))
        held.append(len(one.known.scores))
    return {
        "texts": len(texts),
        "known_texts": len(known_texts),
        "split": split,
        "false_alarm_rate": DEFAULT_RATE,
        "least_rate": 1 / (min(held) + 1),
        "metrics": over_seeds(figures),
    }


def _scores(
    one: TrainingResult,
    known: KnownTexts,
    features: Mapping[str, Features] | Mapping[str, StoredFeatures],
    work: RunContext,
) -> np.ndarray:
    """Unknown scores (N,) of texts with these features."""
    head, count = one.head.to(work.device), len(next(iter(features.values())))
    x = predict_each(head, head.unit_vectors, features, count, work.device).numpy()
    return known.score(x, one.decision.log_odds(predict_logits(head, features, count, work.device)))
