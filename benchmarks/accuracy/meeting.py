"""Whether interaction of encoders helps: the head `fusion` against heads with a joint part (meeting_heads.py).

    python benchmarks/accuracy/meeting.py --data DATA/ED --task ED --out meeting.jsonl --variants base kind=seq
    python benchmarks/accuracy/meeting.py --summary meeting.jsonl

A variant is `base` or pairs NAME=VALUE with commas between: kind (a head of meeting_heads.py; without it `fusion`),
own, depth, heads, drop, share and pos of its joint part; lr, ep, bs, ls and wd (learning rate, epochs, batch size,
label smoothing, weight decay) of the training; width and the other settings of `fusion`; enc=NAME+NAME of
`--encoders`; aug=1 with the texts in the column `aug_text`. Training is as in `fec run --head fusion`.

Accuracy is on validation, with the weights of the parts fitted and measured on different fifths of it. Missing
features are extracted into the store. Finished rows of `--out` are skipped.
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from curve_rows import append_row
from meeting_heads import HEADS, WORDS, Joint
from scipy.stats import ttest_rel
from torch import Tensor

from fusion_classifier.config import FusionConfig, TaskConfig
from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.loading import load_tokenizer
from fusion_classifier.encoders.spec import parse_encoders
from fusion_classifier.errors import FecError
from fusion_classifier.features.arrays import TokenFeatures
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.fusion import FusionHead
from fusion_classifier.runs.context import RunContext
from fusion_classifier.runs.features import extract_task, features_of
from fusion_classifier.support.progress import Progress
from fusion_classifier.tasks.loaded import LoadedTask
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.training.calibration import fit_mixture
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.inference import predict_each
from fusion_classifier.training.train import train

FOLDS = 5
TRAINING = {
    "lr": "learning_rate",
    "ep": "max_epochs",
    "bs": "batch_size",
    "ls": "label_smoothing",
    "wd": "weight_decay",
}


def parse(variant: str) -> dict[str, dict[str, Any]]:
    """The settings of a variant by what they belong to: `joint`, `training`, `config` and `other`."""
    found: dict[str, dict[str, Any]] = {"joint": {}, "training": {}, "config": {}, "other": {}}
    for pair in variant.split(",") if variant != "base" else []:
        name, _, value = pair.partition("=")
        if name in ("kind", "enc"):
            found["other"][name] = value
            continue
        number = float(value) if "." in value or "e" in value else int(value)
        of = "joint" if name in Joint.__dataclass_fields__ else "training" if name in TRAINING else "config"
        found["other" if name == "aug" else of][TRAINING.get(name, name)] = number
    if (kind := found["other"].get("kind")) is not None and kind not in HEADS:
        raise ValueError(f"unknown kind {kind!r}; choose from {', '.join(HEADS)}")
    return found


def checked(variant: str) -> str:
    """The variant, if all of its settings exist and have values in range."""
    try:
        settings = parse(variant)
        Joint(**settings["joint"])
        FusionConfig(**settings["config"])
        recipe("default", "fusion", **settings["training"])
    except (ValueError, FecError) as error:
        raise argparse.ArgumentTypeError(f"{variant}: {error}") from None
    return variant


def word_numbers(identity: EncoderIdentity, texts: Sequence[str], lengths: np.ndarray) -> TokenFeatures:
    """The number of the word, between spaces, of each token in the store: (T, 1, 1)."""
    tokenizer, numbers = load_tokenizer(identity), list[int]()
    read = tokenizer(
        list(texts),
        return_special_tokens_mask=True,
        return_offsets_mapping=True,
        truncation=True,
        max_length=identity.config.max_length,
    )
    for text, spans, special, length in zip(
        texts, read["offset_mapping"], read["special_tokens_mask"], lengths, strict=True
    ):
        kept = [span for span, flag in zip(spans, special, strict=True) if len(spans) == length or not flag]
        assert len(kept) == length, f"the store has {length} tokens of {text[:40]!r}, the tokenizer {len(kept)}"
        begins = [bool(c.strip()) and not text[max(i - 1, 0) : i].strip() for i, c in enumerate(text)]
        word = np.maximum(np.cumsum(begins) - 1, 0) if text else np.zeros(1, int)
        first = [start + len(text[start:end]) - len(text[start:end].lstrip()) for start, end in kept]
        numbers += [int(word[min(i, len(word) - 1)]) if end else 0 for i, (_, end) in zip(first, kept, strict=True)]
    return TokenFeatures(np.array(numbers, np.int16)[:, None, None], np.concatenate([[0], np.cumsum(lengths)]))


def cross_fitted(parts: Tensor, labels: np.ndarray) -> float:
    """Accuracy of weighted parts (P, N, C) in %, with the weights of each fifth fitted on the others."""
    fold, right = np.random.default_rng(0).permutation(len(labels)) % FOLDS, np.zeros(len(labels), bool)
    for k in range(FOLDS):
        inside, outside = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        weights = fit_mixture(parts[:, inside], labels[inside], torch.full((len(parts),), 1 / len(parts)))
        right[outside] = torch.einsum("p,pnc->nc", weights, parts[:, outside]).argmax(1).numpy() == labels[outside]
    return 100 * float(right.mean())


def run(
    variant: str, seed: int, task: LoadedTask, identities: Mapping[str, EncoderIdentity], work: RunContext
) -> dict[str, Any]:
    """Train a variant; its row."""
    started, settings = time.perf_counter(), parse(variant)
    other, kind = settings["other"], settings["other"].get("kind")
    chosen = [identities[n] for n in (other["enc"].split("+") if "enc" in other else identities)]
    splits = [task.training if other.get("aug") else task.split("train"), task.split("valid")]
    data = []
    for split in splits:
        rows = features_of(split, task, chosen, work.store)
        features = dict(rows.features)
        for identity in chosen if kind in ("seq", "word", "wordsum") else ():
            states = features[identity.config.name]
            assert isinstance(states, TokenFeatures)
            features[identity.config.name + WORDS] = word_numbers(identity, split.texts, states.lengths)
        data.append(LabelledFeatures(features, rows.labels))
    config, count = FusionConfig(**settings["config"]), len(task.labels)
    torch.manual_seed(seed)
    shapes = data[0].shapes
    head = (
        HEADS[kind](config, shapes, count, Joint(**settings["joint"])) if kind else FusionHead(config, shapes, count)
    )
    training = recipe("default", "fusion", **settings["training"])
    trained = train(head, training, data[0], data[1], count, seed, work.device, work.progress)
    parts = predict_each(trained.head, trained.head.parts, data[1].features, len(data[1]), work.device)
    labels = data[1].labels
    return {
        "task": task.name,
        "variant": variant,
        "seed": seed,
        "accuracy": round(cross_fitted(parts, labels), 2),
        "parts": [round(100 * float(a), 2) for a in (parts.argmax(2).numpy() == labels).mean(1)],
        "mixture": [round(float(a), 3) for a in trained.head.mixture],
        "epoch": trained.best_epoch,
        "seconds": round(time.perf_counter() - started, 1),
    }


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table: mean ± standard deviation, and the difference from `base` by seed with a paired t-test."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        found.setdefault((row["task"], row["variant"]), {})[row["seed"]] = row["accuracy"]
    lines = ["| task | variant | seeds | accuracy | − base |", "|---|---|---:|---:|---:|"]
    for (task, variant), of in found.items():
        values, base = list(of.values()), found.get((task, "base"), {})
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        seeds, against = sorted(of.keys() & base.keys()), ""
        if seeds and variant != "base":
            against = f"{statistics.mean(of[s] - base[s] for s in seeds):+.2f}"
            if len(seeds) > 1:
                against += f", p = {ttest_rel([of[s] for s in seeds], [base[s] for s in seeds]).pvalue:.2f}"
        lines.append(f"| {task} | `{variant}` | {len(values)} | {statistics.mean(values):.2f}{spread} | {against} |")
    return "\n".join(lines)


def read(file: Path) -> list[dict[str, Any]]:
    """The rows of a file; none if there is no file."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.is_file() else []


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--task", choices=("ED", "go_emotion"))
    parser.add_argument("--encoders", nargs="+", default=["minilm-l6", "mpnet-base", "smollm2-135m"])
    parser.add_argument("--variants", nargs="+", type=checked, default=["base", *(f"kind={kind}" for kind in HEADS)])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--summary", type=Path, metavar="FILE", help="print the table of a file of rows")
    given = parser.parse_args()
    if given.summary:
        print(summary(read(given.summary)))
        return
    if not (given.data and given.task and given.out):
        parser.error("give --data, --task and --out, or --summary")
    settings = [parse(variant) for variant in given.variants]
    column = "aug_text" if any(s["other"].get("aug") for s in settings) else None
    task = load_task(TaskConfig(name=given.task, data=given.data, augment_column=column))
    work = RunContext(FeatureStore(given.store), resolve_device("auto"), Progress())
    encoders = parse_encoders(given.encoders, features="tokens")
    names = {encoder.name for encoder in encoders}
    for name in {name for s in settings for name in s["other"].get("enc", "").split("+")} - {""} - names:
        parser.error(f"enc={name}: not among --encoders, which are {', '.join(sorted(names))}")
    extract_task(task, ["train", "valid"], encoders, work)
    identities = {encoder.name: identify(encoder, work.device) for encoder in encoders}
    done = {(row["task"], row["variant"], row["seed"]) for row in read(given.out)}
    for seed in range(given.seeds):
        for variant in given.variants:
            if (task.name, variant, seed) not in done:
                append_row(given.out, run(variant, seed, task, identities, work))
    print(summary(read(given.out)))


if __name__ == "__main__":
    main()
