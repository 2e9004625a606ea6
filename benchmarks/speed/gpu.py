"""Compares CUDA with the CPU of the same machine: features, extraction rate, training of the head.

    python benchmarks/speed/gpu.py --encoder minilm-l6 --texts data/go_emotion/train.csv

- `features`: largest difference between the two devices' token states for the first 256 texts in float32, relative to
  the largest state, and the smallest cosine of their mean-pooled vectors; also in their default precision (bfloat16).
- `texts_per_second`: token states of all texts, without the store, best of three rounds.
- `training`: seconds and out-of-fold accuracy of the default head on the first rows.

The store is not used, so Lance need not be installed. Texts are a CSV (or .csv.gz) with `text` and `label`.
"""

import argparse
import csv
import gzip
import io
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch

from fusion_classifier.config import Device, Dtype, EncoderConfig
from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.loading import load_encoder
from fusion_classifier.features.arrays import from_arrays
from fusion_classifier.fusion.ensemble import with_repeats
from fusion_classifier.fusion.registry import head_config
from fusion_classifier.support.progress import QUIET
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.train import train

COMPARED, ROUNDS = 256, 3
DEVICES: tuple[Device, ...] = ("cpu", "cuda")


def rows(path: Path, count: int) -> tuple[list[str], list[str]]:
    """Texts and labels of the first rows."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    found = list(csv.DictReader(io.StringIO(text)))[:count]
    return [row["text"] for row in found], [row["label"] for row in found]


def encoder_config(path: str, dtype: Dtype) -> EncoderConfig:
    """The encoder with the features of the default head."""
    return EncoderConfig(name="encoder", model=path, path=path, layers=(2, 4, 6), pooling="tokens", dtype=dtype)


def compare(path: str, texts: list[str], dtype: Dtype) -> dict[str, float]:
    """Difference between the two devices' features."""
    config = encoder_config(path, dtype)
    cpu, cuda = (encode(load_encoder(config, resolve_device(device)), texts[:COMPARED]) for device in DEVICES)
    largest = max(float(np.abs(one).max()) for one in cpu)
    apart = max(float(np.abs(a - b).max()) for a, b in zip(cpu, cuda, strict=True))
    means = [np.stack([one.mean(0)[-1] for one in side]) for side in (cpu, cuda)]
    units = [mean / np.linalg.norm(mean, axis=1, keepdims=True) for mean in means]
    return {"relative_distance": apart / largest, "least_cosine": float((units[0] * units[1]).sum(1).min())}


def rate(path: str, texts: list[str], device: Device) -> float:
    """Texts per second."""
    encoder = load_encoder(encoder_config(path, "auto"), resolve_device(device))
    encode(encoder, texts[:64])
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        encode(encoder, texts)
        seconds.append(time.perf_counter() - started)
    return len(texts) / min(seconds)


def training(path: str, texts: list[str], labels: list[str]) -> dict[str, dict[str, float]]:
    """Seconds and out-of-fold accuracy on each device, with the same features."""
    arrays = encode(load_encoder(encoder_config(path, "auto"), resolve_device("cuda")), texts)
    names = sorted(set(labels))
    targets = np.array([names.index(label) for label in labels])
    data = LabelledFeatures({"encoder": from_arrays([a.astype(np.float16) for a in arrays], ragged=True)}, targets)
    head = with_repeats(head_config("ensemble"), len(data))
    result: dict[str, dict[str, float]] = {}
    for device in DEVICES:
        started = time.perf_counter()
        trained = train(head, recipe("default", "ensemble"), data, None, len(names), 0, resolve_device(device), QUIET)
        result[device] = {
            "seconds": time.perf_counter() - started,
            "out_of_fold_accuracy": trained.best.valid_accuracy,
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", required=True, help="folder of the encoder, such as MiniLM's")
    parser.add_argument("--texts", type=Path, required=True, help="CSV with text and label")
    parser.add_argument("--trained", type=int, default=2000, help="number of training rows. Default: 2000")
    parser.add_argument("--count", type=int, default=20000, help="number of texts. Default: 20000")
    options = parser.parse_args()
    texts, labels = rows(options.texts, options.count)
    figures = {
        "card": torch.cuda.get_device_name(),
        "processor": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "features": {
            "float32": compare(options.encoder, texts, "float32"),
            "auto": compare(options.encoder, texts, "auto"),
        },
        "texts_per_second": {
            "cuda": rate(options.encoder, texts, "cuda"),
            "cpu": rate(options.encoder, texts[:4000], "cpu"),
        },
        "training": training(options.encoder, texts[: options.trained], labels[: options.trained]),
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
