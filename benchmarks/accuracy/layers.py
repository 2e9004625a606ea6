"""Which layer of an encoder is best for a task: every hidden state, with every pooling, separately.

    python benchmarks/accuracy/layers.py go_emotion --data DATA/go_emotion -e smollm2-135m -e mpnet-base --plot x.svg

One pass of each model gives all layers and poolings: `mean` and the token that attends to the whole text (`first`,
the [CLS] token, for an encoder; `last` for a decoder). The head `linear` is trained on each with its default recipe;
figures are for the validation split. Layer 0 is the embedding output; the last one is after the final norm.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from fusion_classifier.config import EncoderConfig, TaskConfig
from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.loading import load_transformer
from fusion_classifier.encoders.spec import parse_encoders
from fusion_classifier.errors import FecError
from fusion_classifier.evaluation.metrics import score
from fusion_classifier.features.arrays import PooledFeatures
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.registry import parse_head
from fusion_classifier.runs.context import RunContext
from fusion_classifier.runs.features import extract_task, features_of
from fusion_classifier.support.files import atomic_write
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.loaded import LoadedTask
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.inference import predict_logits
from fusion_classifier.training.train import train

HEAD = "linear"


def all_layers(encoder: EncoderConfig, device: torch.device) -> EncoderConfig:
    """The encoder with every hidden state, as the mean and as the token that attends to the whole text."""
    loaded = load_transformer(identify(encoder, device), device)
    layers = tuple(range(loaded.model.config.num_hidden_layers + 1))
    whole = "last" if loaded.tokenizer.cls_token is None else "first"
    return encoder.model_copy(update={"layers": layers, "pooling": f"mean+{whole}"})


def accuracy(train_rows: LabelledFeatures, valid_rows: LabelledFeatures, labels: int, seed: int) -> float:
    """Validation accuracy of the head trained on one state."""
    device = torch.device("cpu")
    trained = train(parse_head(HEAD), recipe("default", HEAD), train_rows, valid_rows, labels, seed, device, QUIET)
    logits = predict_logits(trained.head, valid_rows.features, len(valid_rows), device)
    return float(score(valid_rows.labels, trained.decision.probabilities(logits))["accuracy"])


def measure(task: LoadedTask, encoder: EncoderConfig, seeds: int, work: RunContext) -> list[dict[str, Any]]:
    """The accuracy of every layer with every pooling of one encoder."""
    assert encoder.layers is not None
    extract_task(task, ["train", "valid"], [encoder], work)
    rows = {
        name: features_of(task.split(name), task, [identify(encoder, work.device)], work.store)
        for name in ("train", "valid")
    }
    found = []
    for position, (pooling, layer) in enumerate((p, layer) for p in encoder.poolings for layer in encoder.layers):
        one = {}
        for name, data in rows.items():
            features = data.features[encoder.name]
            assert isinstance(features, PooledFeatures)  # (N, poolings · layers, H)
            state = np.ascontiguousarray(features.values[:, position])  # (N, H)
            one[name] = LabelledFeatures({encoder.name: PooledFeatures(state)}, data.labels)
        accuracies = [accuracy(one["train"], one["valid"], len(task.labels), seed) for seed in range(seeds)]
        found.append({"encoder": encoder.name, "pooling": pooling, "layer": layer, "accuracy": accuracies})
        print(found[-1], file=sys.stderr, flush=True)
    return found


def table(found: list[dict[str, Any]]) -> str:
    """One row per encoder and pooling: the best layer, the last, and the mean of the last five."""
    lines = [
        "| encoder | pooling | best layer | accuracy | last layer | last five, mean |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, pooling in dict.fromkeys((row["encoder"], row["pooling"]) for row in found):
        of = {
            row["layer"]: statistics.mean(row["accuracy"])
            for row in found
            if (row["encoder"], row["pooling"]) == (name, pooling)
        }
        best, last = max(of, key=lambda layer: of[layer]), max(of)
        five = statistics.mean(of[layer] for layer in sorted(of)[-5:])
        lines.append(
            f"| {name} | {pooling} | {best} of {last} "
            f"| {100 * of[best]:.1f} | {100 * of[last]:.1f} | {100 * five:.1f} |"
        )
    return "\n".join(lines)


def plot(found: list[dict[str, Any]], title: str, path: Path) -> None:
    """Plot accuracy by depth, one line per encoder and pooling."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    encoders = list(dict.fromkeys(row["encoder"] for row in found))
    for name, pooling in dict.fromkeys((row["encoder"], row["pooling"]) for row in found):
        rows = [row for row in found if (row["encoder"], row["pooling"]) == (name, pooling)]
        depth = max(row["layer"] for row in rows)
        axes.plot(
            [row["layer"] / depth for row in rows],
            [100 * statistics.mean(row["accuracy"]) for row in rows],
            color=f"C{encoders.index(name)}",
            linestyle="-" if pooling == "mean" else ":",
            marker="o",
            markersize=3,
            label=f"{name}, {pooling}",
        )
    axes.set_title(title)
    axes.set_xlabel("layer / number of layers (0: embedding output)")
    axes.set_ylabel("accuracy, %")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8)
    figure.savefig(path)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("--data")
    parser.add_argument("--limit", type=int)
    parser.add_argument("-e", "--encoder", action="append", required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path, help="JSON file for all figures")
    given = parser.parse_args()
    work = RunContext(FeatureStore(given.store), resolve_device("auto"), QUIET)
    task = load_task(TaskConfig(name=given.task, data=given.data, limit=given.limit))
    encoders = [all_layers(encoder, work.device) for encoder in parse_encoders(given.encoder)]
    found = [row for encoder in encoders for row in measure(task, encoder, given.seeds, work)]
    if given.json:
        atomic_write(given.json, json.dumps(found, indent=1) + "\n")
    if given.plot:
        plot(found, f"{task.name}, validation: head {HEAD} on one layer", given.plot)
    print(f"{task.name}, validation, head {HEAD}, {given.seeds} seeds\n\n{table(found)}")


if __name__ == "__main__":
    try:
        main()
    except FecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
