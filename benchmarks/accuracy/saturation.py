"""Saturation of the co-occurrence features: as published, and with cosines and a signed root.

    python benchmarks/accuracy/saturation.py RUN --data DIR --store DIR --plot docs/saturation.svg

RUN is a finished run with the head `llmembed`. For its validation texts, the vectors X that the trained head pools
give the entries for pairs of different vectors: 2·sigmoid(x) − 1 of the dot products, as published, and x / √(|x| +
ε) of the cosines. An entry counts as saturated above 0.995 in absolute value, which corresponds to a dot product of
more than 6.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from fusion_classifier.classifier.folder import load_model
from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.encoders.identity import identify
from fusion_classifier.features.extract import read_features
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.cooccurrence import cooccurrence, cosine_cooccurrence, power_normalize, signed_root
from fusion_classifier.fusion.llmembed import LlmEmbedHead
from fusion_classifier.runs.config_file import read_run_config
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.training.data import blocks, feature_batch

SATURATED = 0.995


@torch.inference_mode()
def entries(run: Path, store: FeatureStore, data: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Normalized co-occurrence of different vectors, as published and with cosines: (N · pairs,) each."""
    saved = load_model(run / "model")
    if not isinstance(saved.head, LlmEmbedHead):
        raise SystemExit(f"{run}: the head is {saved.config.head.name}, not llmembed")
    config = read_run_config(run).task
    task = load_task(config if data is None else config.model_copy(update={"data": data}))
    device = resolve_device("cpu")
    identities = [identify(encoder.config, device) for encoder in saved.config.encoders]
    texts = task.split("valid").texts
    features = read_features(texts, identities, store)
    published, cosines = [], []
    for rows in blocks(len(texts), 512):
        X, _ = saved.head.stack(feature_batch(features, rows, device))
        n = X.shape[1]
        first, second = np.triu_indices(n, 1)
        products = cooccurrence(X).reshape(-1, n, n)[:, first, second]
        published.append(power_normalize(products, saved.head.sigma).ravel().numpy())
        cosines.append(signed_root(cosine_cooccurrence(X, 1)).ravel().numpy())
    return np.concatenate(published), np.concatenate(cosines)


def plot(published: np.ndarray, cosines: np.ndarray, path: Path) -> None:
    """Histograms of both."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, values, title in zip(
        figure.subplots(1, 2, sharey=True),
        (published, cosines),
        ("published: dot products, 2·sigmoid(x) − 1", "here: cosines, x / √(|x| + ε)"),
        strict=True,
    ):
        axes.hist(values, bins=60, range=(-1, 1), weights=np.full(len(values), 100 / len(values)), color="C0")
        axes.set_title(f"{title}\n{100 * (np.abs(values) > SATURATED).mean():.0f}% saturated", fontsize=10)
        axes.set_xlabel("co-occurrence feature")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("share of entries, %")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", help="folder of the task's data. Default: that of the run")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    published, cosines = entries(arguments.run, FeatureStore(arguments.store), arguments.data)
    if arguments.plot:
        plot(published, cosines, arguments.plot)
    result = {
        "entries": len(published),
        "saturated": {
            "published": float((np.abs(published) > SATURATED).mean()),
            "cosines": float((np.abs(cosines) > SATURATED).mean()),
        },
        "standard_deviation": {"published": float(published.std()), "cosines": float(cosines.std())},
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
