"""Choose the default recipe of `llmembed`: hyper-parameters compared on the validation splits.

    python benchmarks/accuracy/recipes.py --data DATA --store DIR --json recipes.json

DATA contains `ED` and `go_emotion` as published; missing features are extracted. Test splits are never read. Every
setting is trained with the same seeds and prints one line of JSON with mean and standard deviation of validation
weighted F1 at the best epoch. `--quick` uses one seed and 3,000 rows.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from fusion_classifier.config import TaskConfig, TrainingConfig
from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.spec import parse_encoders
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.registry import parse_head
from fusion_classifier.runs.context import RunContext
from fusion_classifier.runs.features import extract_task, features_of
from fusion_classifier.support.progress import Progress
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.training.train import train

ENCODERS = ["smollm2-135m", "minilm-l6", "mpnet-base"]
GRIDS = {
    "llmembed": [
        TrainingConfig(
            learning_rate=learning_rate,
            batch_size=batch_size,
            clip_norm=1.0,
            max_epochs=200,
            min_steps=1000,
            patience=10,
            stopping="loss_or_score",
        )
        for learning_rate, batch_size in ((1e-4, 64), (1e-4, 256), (3e-4, 256))
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--tasks", nargs="+", default=["go_emotion", "ED"])
    parser.add_argument("--heads", nargs="+", default=list(GRIDS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    limit, seeds = (3000, 1) if arguments.quick else (None, arguments.seeds)
    work = RunContext(FeatureStore(arguments.store), resolve_device("auto"), Progress())
    results = []
    for name in arguments.tasks:
        task = load_task(TaskConfig(name=name, data=str(arguments.data / name), limit=limit))
        encoders = parse_encoders(ENCODERS)
        extract_task(task, ["train", "valid"], encoders, work)
        identities = [identify(encoder, work.device) for encoder in encoders]
        train_data, valid_data = (
            features_of(task.split(s), task, identities, work.store) for s in ("train", "valid")
        )
        for head in arguments.heads:
            for config in GRIDS[head]:
                started = time.perf_counter()
                runs = [
                    train(
                        parse_head(head),
                        config,
                        train_data,
                        valid_data,
                        len(task.labels),
                        seed,
                        work.device,
                        work.progress,
                    )
                    for seed in range(seeds)
                ]
                f1 = [run.best.valid_weighted_f1 for run in runs]
                result = {
                    "task": name,
                    "head": head,
                    **config.model_dump(exclude_none=True),
                    "valid_weighted_f1": statistics.mean(f1),
                    "std": statistics.stdev(f1) if len(f1) > 1 else 0.0,
                    "valid_accuracy": statistics.mean(run.best.valid_accuracy for run in runs),
                    "epochs": [len(run.history) for run in runs],
                    "seconds_a_seed": (time.perf_counter() - started) / seeds,
                }
                results.append(result)
                print(json.dumps(result), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
