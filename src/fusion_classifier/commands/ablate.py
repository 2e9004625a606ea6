"""`fec ablate`: what each encoder adds, by training every subset of the encoders under every head.

An ablation folder contains

    ablation.json          every combination's scores, and the comparisons
    ablation.png           accuracy by combination
    <head>/<encoders>/     one run folder per combination; finished ones are not trained again

Features come from the store alone; no encoder is loaded. Each encoder is judged by what is lost without it: all
encoders against all but that one, by a paired bootstrap over the evaluated texts.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from fusion_classifier.config import EncoderConfig, RunConfig
from fusion_classifier.encoders.identity import identify
from fusion_classifier.errors import UsageError
from fusion_classifier.evaluation.metrics import summarize
from fusion_classifier.evaluation.pictures import ablation_pictures, write_pictures
from fusion_classifier.evaluation.predictions import SplitPredictions, write_predictions
from fusion_classifier.evaluation.significance import differences
from fusion_classifier.runs.context import Workspace
from fusion_classifier.runs.evaluate import evaluate_split
from fusion_classifier.runs.features import features_missing
from fusion_classifier.runs.pipeline import train_task
from fusion_classifier.support.files import atomic_file, write_atomic
from fusion_classifier.tasks.loaded import LoadedTask

MOST_COMBINATIONS = 200
RESULT_FILE = "ablation.json"


@dataclass(frozen=True)
class Combination:
    """A subset of the encoders under one head: predictions of every seed, and mean training time of a seed."""

    head: str
    encoders: tuple[str, ...]
    predictions: SplitPredictions
    seconds: float


def subsets(encoders: Sequence[EncoderConfig]) -> list[tuple[EncoderConfig, ...]]:
    """Every non-empty subset, small ones first, each in the order given."""
    return [chosen for size in range(1, len(encoders) + 1) for chosen in combinations(encoders, size)]


def ablate(configs: Sequence[RunConfig], task: LoadedTask, split: str, out: Path, work: Workspace) -> dict[str, Any]:
    """Train and evaluate every subset of each configuration's encoders.

    Args:
        configs: one per head, each with all its encoders.
        task: texts and labels, one label per text.
        split: evaluated split.
        out: ablation folder.
        work: store, device, progress.

    Returns:
        The content of `ablation.json`.

    Raises:
        UsageError: too many combinations, or a multi-label task.
        StoreError: features are missing from the store.
    """
    if task.multilabel:
        raise UsageError(f"{task.name}: fec ablate compares single labels per text; the task has several")
    count = sum(2 ** len(config.encoders) - 1 for config in configs)
    if count > MOST_COMBINATIONS:
        raise UsageError(
            f"{count} combinations of encoders and heads are more than {MOST_COMBINATIONS}; give fewer `encoders`"
        )
    task.split(split)
    features_missing(task, ["train", "valid", split], [e for config in configs for e in config.encoders], work)
    found = []
    for config in configs:
        for chosen in subsets(config.encoders):
            folder = out / config.head.name / "+".join(slug(encoder.name) for encoder in chosen)
            found.append(_train(config.model_copy(update={"encoders": chosen}), task, split, folder, work))
    text = json.dumps(_figures(found, task, split), indent=1)
    write_atomic(out / RESULT_FILE, text + "\n")
    result: dict[str, Any] = json.loads(text)
    write_pictures(out, ablation_pictures(result), work.say_once)
    return result


def slug(name: str) -> str:
    """An encoder's name as part of a path."""
    return re.sub(r"[^A-Za-z0-9_.=-]+", "_", name)


def _train(config: RunConfig, task: LoadedTask, split: str, folder: Path, work: Workspace) -> Combination:
    trained = train_task(config, task, folder, work)
    part = evaluate_split(trained, split, task, [identify(encoder, work.device) for encoder in config.encoders], work)
    with atomic_file(folder / "predictions.parquet") as path:
        write_predictions([part], task.labels, path)
    seconds = float(np.mean([sum(epoch.seconds for epoch in one.history) for one in trained.values()]))
    return Combination(config.head.name, tuple(encoder.name for encoder in config.encoders), part, seconds)


def _figures(found: Sequence[Combination], task: LoadedTask, split: str) -> dict[str, Any]:
    """The scores of all combinations, and by head what each encoder adds to the others."""
    added = []
    for head in dict.fromkeys(one.head for one in found):
        by_encoders = {one.encoders: one for one in found if one.head == head}
        full = by_encoders.pop(max(by_encoders, key=len))
        if len(full.encoders) == 1:
            continue
        for name in full.encoders:
            rest = by_encoders[tuple(other for other in full.encoders if other != name)]
            added.append(_added(full, rest, len(task.labels)))
        best = max((one for one in by_encoders.values() if len(one.encoders) == 1), key=_accuracy)
        added.append(_added(full, best, len(task.labels)) | {"best_single": True})
    return {
        "task": task.name,
        "split": split,
        "texts": len(found[0].predictions.labels),
        "seeds": list(found[0].predictions.by_seed),
        "combinations": [
            {
                "head": one.head,
                "encoders": one.encoders,
                "metrics": summarize(one.predictions),
                "training_seconds": one.seconds,
            }
            for one in found
        ],
        "added": added,
    }


def _added(full: Combination, rest: Combination, n_classes: int) -> dict[str, Any]:
    """What the other encoders of `full` add to those of `rest`."""
    a, b = full.predictions, rest.predictions
    found = differences(a.labels, list(a.answers.values()), list(b.answers.values()), n_classes)
    return {
        "head": full.head,
        "encoder": " + ".join(name for name in full.encoders if name not in rest.encoders),
        "to": rest.encoders,
        "metrics": {name: asdict(one) for name, one in found.items()},
    }


def _accuracy(one: Combination) -> float:
    part = one.predictions
    return float(np.mean([(answers == part.labels).mean() for answers in part.answers.values()]))
