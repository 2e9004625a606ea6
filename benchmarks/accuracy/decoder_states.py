"""Whether a decoder's states improve if it reads a text twice, or without its causal mask; and what decoders add.

    python benchmarks/accuracy/decoder_states.py --data DATA/go_emotion --store states --out states.jsonl
    python benchmarks/accuracy/decoder_states.py --data DATA/go_emotion --store states --out states.jsonl \
        --encoder gemma=models/gemma3-270m

A decoder's token reads only the tokens before it. `twice`: the text is repeated, so that the second copy's tokens
read all of it (Springer et al.: Repetition Improves Language Model Embeddings, ICLR 2025,
https://arxiv.org/abs/2402.15449). `no mask`: every token reads all others, without training (BehnamGhader et al.:
LLM2Vec, COLM 2024, https://arxiv.org/abs/2404.05961).

The head `fusion` is trained on the first rows of the train split, with each seed. Accuracy is on validation, with the
weights of the encoders fitted and measured on different fifths of it. Finished rows of `--out` are skipped.
"""

import argparse
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from curve_rows import append_row
from meeting import cross_fitted, read
from scipy.stats import ttest_rel

from fusion_classifier.config import EncoderConfig, FusionConfig, TaskConfig
from fusion_classifier.encoders import packed
from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.spec import parse_encoders
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.fusion import FusionHead
from fusion_classifier.runs.context import RunContext
from fusion_classifier.runs.features import extract_task, features_of
from fusion_classifier.support.progress import Progress
from fusion_classifier.tasks.loaded import LoadedTask
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.inference import predict_each
from fusion_classifier.training.train import train

TWICE = "template={text}\n{text}"
PAIR = ("minilm-l6", "mpnet-base")
# Encoders, and whether decoders keep their causal mask; a variant is compared with the one that its name begins with.
VARIANTS: dict[str, tuple[tuple[str, ...], bool]] = {
    "SmolLM2": (("smollm2-135m",), True),
    "SmolLM2, twice": ((f"smollm2-135m?{TWICE}",), True),
    "SmolLM2, no mask": (("smollm2-135m",), False),
    "MiniLM + MPNet": (PAIR, True),
    "MiniLM + MPNet + SmolLM2": ((*PAIR, "smollm2-135m"), True),
    "MiniLM + MPNet + SmolLM2, twice": ((*PAIR, f"smollm2-135m?{TWICE}"), True),
    "MiniLM + MPNet + SmolLM2, no mask": ((*PAIR, "smollm2-135m"), False),
}


@contextmanager
def without_mask(active: bool) -> Iterator[None]:
    """Within the block, with `active`, decoders that are loaded attend to all tokens of a text."""
    before = packed._attention_function

    def attend_to_all(module: Any, *args: Any, **options: Any) -> Any:
        return before(module, *args, **{**options, "is_causal": False})

    if active:
        packed._attention_function = attend_to_all
    try:
        yield
    finally:
        packed._attention_function = before


def accuracy(encoders: Sequence[EncoderConfig], task: LoadedTask, seed: int, work: RunContext) -> float:
    """Accuracy of a trained head on validation, in %."""
    identities = [identify(encoder, work.device) for encoder in encoders]
    rows = [features_of(task.split(name), task, identities, work.store) for name in ("train", "valid")]
    train_data, valid_data = (LabelledFeatures(dict(part.features), part.labels) for part in rows)
    torch.manual_seed(seed)
    head = FusionHead(FusionConfig(), train_data.shapes, len(task.labels))
    training = recipe("default", "fusion")
    trained = train(head, training, train_data, valid_data, len(task.labels), seed, work.device, work.progress)
    parts = predict_each(trained.head, trained.head.parts, valid_data.features, len(valid_data), work.device)
    return cross_fitted(parts, valid_data.labels)


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table: mean ± standard deviation, and differences by seed with a paired t-test."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        found.setdefault(row["variant"], {})[row["seed"]] = row["accuracy"]
    lines = ["| encoders | seeds | accuracy | difference |", "|---|---:|---:|---|"]
    for name, by_seed in found.items():
        base = max((b for b in found if name.startswith(b) and b != name), key=len, default=None)
        values, against = list(by_seed.values()), ""
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        seeds = sorted(by_seed.keys() & found[base].keys()) if base else []
        if base and len(seeds) > 1:
            pairs = [by_seed[s] for s in seeds], [found[base][s] for s in seeds]
            mean = statistics.mean(pairs[0]) - statistics.mean(pairs[1])
            against = f"{mean:+.2f} to {base}, p = {ttest_rel(*pairs).pvalue:.2f}"
        lines.append(f"| {name} | {len(values)} | {statistics.mean(values):.2f}{spread} | {against} |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=("ED", "go_emotion"), default="go_emotion")
    parser.add_argument("--data", required=True)
    parser.add_argument("--rows", type=int, default=4000, help="of the train split; default: 4000")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--encoder", metavar="NAME=PATH", help="another decoder, alone and beside MiniLM and MPNet")
    parser.add_argument("--store", type=Path, required=True, help="folder of the feature stores")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    variants = dict(VARIANTS)
    if given.encoder:
        name = given.encoder.partition("=")[0]
        twice = f"{given.encoder}{'&' if '?' in given.encoder else '?'}{TWICE}"
        variants |= {name: ((given.encoder,), True), f"{name}, twice": ((twice,), True)}
        variants[f"MiniLM + MPNet + {name}"] = ((*PAIR, given.encoder), True)
    task = load_task(TaskConfig(name=given.task, data=given.data, limit=given.rows))
    done = {(row["variant"], row["seed"]) for row in read(given.out)}
    for variant, (specs, causal) in variants.items():
        store = FeatureStore(given.store / ("causal" if causal else "no-mask"))
        work = RunContext(store, resolve_device("auto"), Progress())
        encoders = parse_encoders(specs, features="tokens")
        with without_mask(not causal):
            extract_task(task, ["train", "valid"], encoders, work)
        for seed in range(given.seeds):
            if (variant, seed) not in done:
                found = accuracy(encoders, task, seed, work)
                append_row(given.out, {"task": task.name, "variant": variant, "seed": seed, "accuracy": found})
    print(summary(read(given.out)))


if __name__ == "__main__":
    main()
