"""Loss of accuracy with smaller token states: projections to several widths, in 16 and 8 bits.

    python benchmarks/accuracy/projection.py --task go_emotion --data DATA/go_emotion --encoder minilm-l6 --seeds 3

The encoder's token states (`fec extract TASK -e ENCODER`) are projected in memory, like `ENCODER?projection=FILE` in
`fec extract`, so that one extraction is enough for all settings. Each setting trains the default head; figures are
for the validation split. "Points" is accuracy minus that of the original states, paired by seed.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusion_classifier.config import ProjectionKind, TaskConfig
from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.projection import Projection, fit_projection, quantize
from fusion_classifier.encoders.spec import parse_encoders
from fusion_classifier.errors import FecError
from fusion_classifier.evaluation.metrics import score
from fusion_classifier.features.arrays import TokenFeatures
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.registry import parse_head
from fusion_classifier.runs.context import RunContext
from fusion_classifier.runs.features import extract_task, features_of
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.inference import predict_logits
from fusion_classifier.training.train import train

SETTINGS: tuple[tuple[ProjectionKind, int, bool], ...] = (
    # kind, share of the width kept (1/n), 8 bits
    ("none", 1, True),
    ("pca", 3, False),
    ("pca", 3, True),
    ("random", 3, False),
    ("pca", 12, False),
    ("pca", 12, True),
)
SAMPLE_TEXTS = 2000  # default of `fec project`
CHUNK_TOKENS = 8192


def projected(features: TokenFeatures, projection: Projection) -> TokenFeatures:
    """All states projected, in the store's format: float16 or int8."""

    def parts() -> Iterator[np.ndarray]:
        for start in range(0, len(features.values), CHUNK_TOKENS):
            y = projection.project(torch.from_numpy(features.values[start : start + CHUNK_TOKENS])).numpy()
            yield quantize(y) if projection.int8 else y.astype(np.float16)

    return TokenFeatures(np.concatenate(list(parts())), features.offsets)


def table(rows: list[dict[str, Any]]) -> str:
    """The settings as Markdown, compared with the first."""
    lines = ["| states | width | bytes per token | accuracy | points |", "|---|---:|---:|---:|---:|"]
    plain = rows[0]["accuracy"]
    for row in rows:
        difference = 100 * statistics.mean(a - b for a, b in zip(row["accuracy"], plain, strict=True))
        mean = f"{100 * statistics.mean(row['accuracy']):.2f}"
        lines.append(f"| {row['states']} | {row['width']} | {row['bytes']:,} | {mean} | {difference:+.2f} |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", required=True)
    parser.add_argument("--data")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--encoder", default="minilm-l6")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    work = RunContext(FeatureStore(given.store), resolve_device("auto"), QUIET)
    task = load_task(TaskConfig(name=given.task, data=given.data, limit=given.limit))
    encoders = parse_encoders([given.encoder], features="tokens")
    identities = [identify(encoder, work.device) for encoder in encoders]
    extract_task(task, ["train", "valid"], encoders, work)
    raw = {name: features_of(task.split(name), task, identities, work.store) for name in ("train", "valid")}
    ((name, states),) = raw["train"].features.items()
    assert isinstance(states, TokenFeatures)
    hidden = states.shape.width
    chosen = np.random.default_rng(0).permutation(len(states))[:SAMPLE_TEXTS]
    sample = torch.from_numpy(states.take(chosen).values)

    def accuracies(data: dict[str, LabelledFeatures]) -> list[float]:
        found = []
        for seed in range(given.seeds):
            trained = train(
                parse_head("fusion"),
                recipe("default", "fusion"),
                data["train"],
                data["valid"],
                len(task.labels),
                seed,
                work.device,
                work.progress,
            )
            logits = predict_logits(trained.head, data["valid"].features, len(data["valid"]), work.device)
            found.append(score(data["valid"].labels, trained.decision.probabilities(logits))["accuracy"])
        return found

    size = states.values[0].nbytes
    rows: list[dict[str, Any]] = [
        {"states": "original, 16 bits", "width": hidden, "bytes": size, "accuracy": accuracies(raw)}
    ]
    for kind, share, int8 in SETTINGS:
        width = None if kind == "none" else hidden // share
        projection = fit_projection(sample, kind, width, int8=int8, fitted_on={})
        small = {}
        for split, data in raw.items():
            features = data.features[name]
            assert isinstance(features, TokenFeatures)
            small[split] = LabelledFeatures({name: projected(features, projection)}, data.labels)
        of_token = small["train"].features[name]
        assert isinstance(of_token, TokenFeatures)
        what = f"{'all dimensions' if kind == 'none' else kind}, {8 if int8 else 16} bits"
        size = of_token.values[0].nbytes
        rows.append({"states": what, "width": projection.width, "bytes": size, "accuracy": accuracies(small)})
        print(rows[-1], file=sys.stderr, flush=True)
    if given.json:
        print(json.dumps(rows, indent=1))
    else:
        print(f"{task.name}, validation, {given.encoder}, {given.seeds} seeds\n\n{table(rows)}")


if __name__ == "__main__":
    try:
        main()
    except FecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
