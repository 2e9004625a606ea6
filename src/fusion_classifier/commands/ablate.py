"""`fec ablate`: what each encoder adds, by training every subset of the encoders with every head.

An ablation folder contains

    ablation.json          the scores of every combination, and the comparisons
    ablation.png           accuracy by combination
    <head>/<encoders>/     one run folder per combination; finished ones are not trained again

Missing features are extracted. Each encoder is measured by the loss without it: all encoders against all but that
one, by a paired bootstrap over the evaluated texts, with p-values corrected for the number of comparisons. Scores on
validation, on which epoch, mixture and calibration were also chosen, are optimistic. The best single encoder is the
one with the highest accuracy on validation, regardless of the split that is evaluated.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from fusion_classifier.config import EncoderConfig, RunConfig
from fusion_classifier.encoders.identity import identify
from fusion_classifier.errors import UsageError
from fusion_classifier.evaluation.figures.charts import ablation_ranking
from fusion_classifier.evaluation.metrics import summarize
from fusion_classifier.evaluation.pictures import write_pictures
from fusion_classifier.evaluation.predictions import SplitPredictions, write_predictions
from fusion_classifier.evaluation.significance import differences, holm
from fusion_classifier.evaluation.warnings import at_chance
from fusion_classifier.runs.context import RunContext
from fusion_classifier.runs.evaluate import evaluate_split
from fusion_classifier.runs.features import extract_task
from fusion_classifier.runs.pipeline import train_task
from fusion_classifier.support.files import atomic_file, atomic_write
from fusion_classifier.tasks.loaded import LoadedTask
from fusion_classifier.training.result import TrainingResult

MAX_COMBINATIONS = 200
RESULT_FILE = "ablation.json"
Names = tuple[str, ...]  # of encoders


def subsets(encoders: Sequence[EncoderConfig]) -> list[tuple[EncoderConfig, ...]]:
    """Every non-empty subset, small ones first, each in the given order."""
    return [chosen for size in range(1, len(encoders) + 1) for chosen in combinations(encoders, size)]


def ablate(configs: Sequence[RunConfig], task: LoadedTask, split: str, out: Path, work: RunContext) -> dict[str, Any]:
    """Train and evaluate every subset of the encoders of each configuration (head); returns `ablation.json`."""
    if task.multilabel:
        raise UsageError(f"{task.name}: fec ablate compares single labels per text; the task has several")
    count = sum(2 ** len(config.encoders) - 1 for config in configs)
    if count > MAX_COMBINATIONS:
        raise UsageError(
            f"{count} combinations of encoders and heads are more than {MAX_COMBINATIONS}; give fewer `encoders`"
        )
    texts = len(task.split(split))
    encoders = dict.fromkeys(encoder for config in configs for encoder in config.encoders)
    extract_task(task, list(dict.fromkeys(["train", "valid", split])), list(encoders), work)
    found, added = [], []
    for config in configs:
        parts: dict[Names, SplitPredictions] = {}
        valid: dict[Names, float] = {}  # accuracy on validation
        for chosen in subsets(config.encoders):
            names = tuple(encoder.name for encoder in chosen)
            folder = out / config.head.name / "+".join(map(slug, names))
            part, trained = _train(config.model_copy(update={"encoders": chosen}), task, split, folder, work)
            parts[names] = part
            valid[names] = float(np.mean([one.best.valid_accuracy for one in trained]))
            seconds = float(np.mean([sum(epoch.seconds for epoch in one.history) for one in trained]))
            scores = {"metrics": summarize(part), "valid_accuracy": valid[names], "training_seconds": seconds}
            found.append({"head": config.head.name, "encoders": names} | scores)
        added += [{"head": config.head.name} | one for one in _compare(parts, valid, len(task.labels))]
    _correct(added)
    figures = {"task": task.name, "split": split, "texts": texts, "seeds": configs[0].seeds}
    text = json.dumps(figures | {"combinations": found, "added": added}, indent=1)
    atomic_write(out / RESULT_FILE, text + "\n")
    result: dict[str, Any] = json.loads(text)
    write_pictures(out, {"ablation.png": ablation_ranking(result)}, work.say_once)
    return result


def _correct(added: list[dict[str, Any]]) -> None:
    """Add `p_holm`, the p-value corrected for the number of comparisons, to each metric of each comparison.

    With two encoders, the best single one is compared twice, but the comparison counts once.
    """
    for metric in added[0]["metrics"] if added else ():
        tests = {(one["head"], one["to"]): one["metrics"][metric]["p"] for one in added}
        found: list[float | None] = [None] * len(tests)
        if None not in tests.values():
            found = [*holm(list(tests.values()))]
        corrected = dict(zip(tests, found, strict=True))
        for one in added:
            one["metrics"][metric]["p_holm"] = corrected[one["head"], one["to"]]


def slug(name: str) -> str:
    """An encoder's name in a form that is valid in a path."""
    return re.sub(r"[^A-Za-z0-9_.=-]+", "_", name)


def _train(
    config: RunConfig, task: LoadedTask, split: str, folder: Path, work: RunContext
) -> tuple[SplitPredictions, list[TrainingResult]]:
    """Predictions of every seed, and the trained heads."""
    trained = train_task(config, task, folder, work)
    part = evaluate_split(trained, split, task, [identify(encoder, work.device) for encoder in config.encoders], work)
    for warning in at_chance([part]):
        work.say(f"Warning: {config.head.name}, {' + '.join(e.name for e in config.encoders)}: {warning}")
    with atomic_file(folder / "predictions.parquet") as path:
        write_predictions([part], task.labels, path)
    return part, list(trained.values())


def _compare(parts: dict[Names, SplitPredictions], valid: dict[Names, float], n_classes: int) -> list[dict[str, Any]]:
    """The gain from each encoder over all others, and from all encoders over the best single one on validation."""
    everything = max(parts, key=len)
    if len(everything) == 1:
        return []
    best = max((names for names in parts if len(names) == 1), key=lambda names: valid[names])
    rests = [tuple(other for other in everything if other != name) for name in everything]
    found: list[dict[str, Any]] = []
    for rest in (*rests, best):
        a, b = parts[everything], parts[rest]
        metrics = differences(a.labels, list(a.answers.values()), list(b.answers.values()), n_classes)
        found.append(
            {
                "encoder": " + ".join(name for name in everything if name not in rest),
                "to": rest,
                "metrics": {name: asdict(one) for name, one in metrics.items()},
            }
        )
    found[-1]["best_single"] = True
    return found
