"""What each encoder adds: every subset of encoders under every head, from the feature store alone.

A folder of an ablation holds

    ablation.json          every combination's scores, and the comparisons
    ablation.png           accuracy by combination
    <head>/<encoders>/     one run folder a combination; finished ones are not trained again

No model is loaded. Each encoder is judged by what is lost without it: all encoders against all but that one, by a
paired bootstrap over the evaluated texts, the same resamples for all seeds.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from fusion_classifier.config import EncoderConfig, RunConfig
from fusion_classifier.encoders.identity import identify
from fusion_classifier.errors import UsageError
from fusion_classifier.evaluation.metrics import summarize
from fusion_classifier.evaluation.plots import plot_ablation
from fusion_classifier.evaluation.predictions import SplitPredictions, write_predictions
from fusion_classifier.evaluation.significance import Difference, differences
from fusion_classifier.runs.context import Workspace
from fusion_classifier.runs.evaluate import Member, evaluate_split
from fusion_classifier.runs.features import features_missing
from fusion_classifier.runs.pipeline import train_task
from fusion_classifier.support.files import atomic_file, write_atomic
from fusion_classifier.tasks.loaded import LoadedTask

MOST_COMBINATIONS = 200
RESULT_FILE = "ablation.json"


@dataclass(frozen=True)
class Combination:
    """Some encoders under one head, and what every seed predicts."""

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
        configs: one a head, each with all its encoders.
        task: texts and labels.
        split: what is evaluated.
        out: folder, see the module's docstring.
        work: store, device, progress.

    Raises:
        UsageError: too many combinations, or a multi-label task.
        StoreError: features that are not in the store.
    """
    if task.multilabel:
        raise UsageError(f"{task.name}: fec ablate compares answers of one label a text; the task has several")
    count = sum(2 ** len(config.encoders) - 1 for config in configs)
    if count > MOST_COMBINATIONS:
        raise UsageError(f"{count} combinations of encoders and heads are too many; give fewer --encoder")
    task.split(split)
    features_missing(task, ["train", "valid", split], [e for config in configs for e in config.encoders], work)
    found = []
    for config in configs:
        for chosen in subsets(config.encoders):
            one = config.model_copy(update={"encoders": chosen})
            folder = out / config.head.name / "+".join(slug(encoder.name) for encoder in chosen)
            trained = train_task(one, task, folder, work)
            members = {seed: Member(t.head, t.decision) for seed, t in trained.items()}
            identities = [identify(encoder, work.device) for encoder in chosen]
            part = evaluate_split(members, split, task, identities, work)
            with atomic_file(folder / "predictions.parquet") as path:
                write_predictions([part], task.labels, path)
            seconds = float(np.mean([sum(epoch.seconds for epoch in t.history) for t in trained.values()]))
            found.append(Combination(config.head.name, tuple(e.name for e in chosen), part, seconds))
    result = describe(found, task, split)
    write_atomic(out / RESULT_FILE, json.dumps(result, indent=1) + "\n")
    with atomic_file(out / "ablation.png") as path:
        plot_ablation(result, path)
    return result


def slug(name: str) -> str:
    """An encoder's name as part of a path."""
    return re.sub(r"[^A-Za-z0-9_.=-]+", "_", name)


def describe(found: Sequence[Combination], task: LoadedTask, split: str) -> dict[str, Any]:
    """The scores of all combinations, and by head what each encoder adds to the others."""
    added = []
    for head in dict.fromkeys(one.head for one in found):
        by_encoders = {one.encoders: one for one in found if one.head == head}
        full = max(by_encoders, key=len)
        if len(full) == 1:
            continue
        for name in full:
            rest = tuple(other for other in full if other != name)
            added.append(
                {
                    "head": head,
                    "encoder": name,
                    "to": list(rest),
                    **_as_json(_differences(by_encoders[full], by_encoders[rest], len(task.labels))),
                }
            )
        alone = [one for encoders, one in by_encoders.items() if len(encoders) == 1]
        best = max(alone, key=lambda one: _accuracy(one.predictions))
        added.append(
            {
                "head": head,
                "encoder": " + ".join(name for name in full if name not in best.encoders),
                "to": list(best.encoders),
                "best_single": True,
                **_as_json(_differences(by_encoders[full], best, len(task.labels))),
            }
        )
    return {
        "task": task.name,
        "split": split,
        "texts": len(found[0].predictions.labels),
        "seeds": list(found[0].predictions.by_seed),
        "combinations": [
            {
                "head": one.head,
                "encoders": list(one.encoders),
                "metrics": summarize(one.predictions),
                "training_seconds": one.seconds,
            }
            for one in found
        ],
        "added": added,
    }


def _accuracy(part: SplitPredictions) -> float:
    return float(np.mean([(answers == part.labels).mean() for answers in part.answers.values()]))


def _differences(one: Combination, other: Combination, n_classes: int) -> Mapping[str, Difference]:
    a, b = one.predictions, other.predictions
    return differences(a.labels, list(a.answers.values()), list(b.answers.values()), n_classes)


def _as_json(found: Mapping[str, Difference]) -> dict[str, Any]:
    # Through JSON, so that what is returned equals what a reader of the file gets.
    return {"metrics": {name: json.loads(json.dumps(asdict(one))) for name, one in found.items()}}
