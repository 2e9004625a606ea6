"""How long one text takes, beside a hand-written loop over the same weights and beside other libraries.

    python benchmarks/speed/latency.py
    python benchmarks/speed/latency.py --encoder minilm-l6=models/minilm-l6 --only minilm-l6 --quick --json

One client: a text is classified, then the next, of about 10, 20, 60 and 200 tokens. Every side is a process of its
own, and they take turns text by text, so that a busy machine slows all of them alike: ratios hold where milliseconds
don't. A ratio is the median, over the texts, of a side's time divided by the floor's for the same text.

Classifiers are trained on a few texts (their size matters here, their answers don't): MiniLM with head `linear`, and
MiniLM with SmolLM2 and head `fusion`.

- `floor`: tokenizer, transformers' model and the trained head, called one after the other as in a script; in the same
  precision.
- `ours`: `predict([text])` of the classifier.
- `onnx-…`: the same of the form that `fec optimize --precision …` writes; where ONNX Runtime is installed.
- `pipeline`: transformers' text-classification pipeline on MiniLM with a linear head of random weights.
- `sentence-transformers`: its `encode` of MiniLM, and scikit-learn's logistic regression; where it is installed.

The rate of a bare matrix product in bfloat16 is printed beside them: without it milliseconds say nothing.
"""

# ruff: noqa: PLC0415 - each process imports what it measures

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusion_classifier.config import Precision

TOKENS = (10, 20, 60, 200)
TRAINED_TEXTS = 200
MODELS = {
    "minilm-l6": (["minilm-l6"], "linear"),
    "minilm-l6+smollm2-135m": (["minilm-l6", "smollm2-135m"], "fusion"),
}
PRECISIONS: "tuple[Precision, ...]" = ("float32", "int8", "int8-dynamic")
SENTENCE = "i can not believe that she remembered my birthday after so many years of silence and rain"
Answer = Callable[[str], object]


# --- one side, in a process of its own ---------------------------------------------------------------------


def answer_lines(side: str, folder: Path, paths: Mapping[str, str]) -> None:
    """Answer each line of standard input by the milliseconds that it took."""
    answer = SIDES[side.partition("-")[0]](folder, paths)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints
    for line in sys.stdin:
        started = time.perf_counter()
        answer(line.rstrip("\n"))
        out.write(f"{1000 * (time.perf_counter() - started)}\n")
        out.flush()


def ours(folder: Path, paths: Mapping[str, str]) -> Answer:
    """This package; an optimized model without torch."""
    from fusion_classifier.classifier.text_classifier import load_classifier

    classifier = load_classifier(folder, "cpu", paths)
    return lambda text: classifier.predict([text])


def floor(folder: Path, paths: Mapping[str, str]) -> Answer:
    """Tokenizer, model and head, called one after the other."""
    import torch

    from fusion_classifier.classifier.prediction import TextPredictor
    from fusion_classifier.encoders.loading import load_encoder
    from fusion_classifier.features.arrays import TokenStates

    classifier = TextPredictor.from_pretrained(folder, device="cpu", encoder_paths=paths)
    configs = [saved.config for saved in classifier.config_.encoders]
    encoders = [load_encoder(config, torch.device("cpu"), plain=True) for config in configs]
    head, decision, labels = classifier.head_.eval(), classifier.config_.decision, classifier.classes_

    @torch.inference_mode()
    def answer(text: str) -> Any:
        batch: dict[str, Any] = {}
        for encoder in encoders:
            given = encoder.tokenizer(
                text, return_tensors="pt", truncation=True, max_length=encoder.config.max_length
            )
            found = encoder.model(**given, output_hidden_states=True).hidden_states
            states = torch.stack([found[layer][0] for layer in encoder.layers], dim=1).float()  # (L, layers, H)
            tokens = encoder.config.pooling == "tokens"
            batch[encoder.config.name] = (
                TokenStates(states, torch.tensor([len(states)])) if tokens else states.mean(0).flatten()[None]
            )
        return labels[decision.labels(decision.probabilities(head(batch)))]

    return answer


def plain(paths: Mapping[str, str]) -> tuple[str, Any]:
    """MiniLM's folder and the precision in which this package computes it."""
    import torch

    from fusion_classifier.encoders.identity import identify
    from fusion_classifier.encoders.spec import parse_encoder

    place = paths.get("minilm-l6")
    identity = identify(parse_encoder(f"minilm-l6={place}" if place else "minilm-l6"), torch.device("cpu"))
    return str(identity.weights.folder), getattr(torch, identity.dtype)


def pipeline(_folder: Path, paths: Mapping[str, str]) -> Answer:
    """transformers' pipeline, in the same precision."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers import pipeline as of_transformers

    place, dtype = plain(paths)
    model = AutoModelForSequenceClassification.from_pretrained(place, num_labels=27, dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(place)
    answer: Answer = of_transformers("text-classification", model, tokenizer=tokenizer, top_k=None)
    return answer


def sentence(_folder: Path, paths: Mapping[str, str]) -> Answer:
    """sentence-transformers and scikit-learn, in the same precision."""
    import numpy as np
    from sentence_transformers import SentenceTransformer
    from sklearn.linear_model import LogisticRegression

    place, dtype = plain(paths)
    model = SentenceTransformer(place, device="cpu", model_kwargs={"dtype": dtype})
    head = LogisticRegression().fit(np.random.default_rng(0).normal(size=(270, 384)), np.arange(270) % 27)
    return lambda text: head.predict_proba(model.encode([text], show_progress_bar=False))


SIDES: dict[str, Callable[[Path, Mapping[str, str]], Answer]] = {
    "floor": floor,
    "ours": ours,
    "onnx": ours,
    "pipeline": pipeline,
    "sentence": sentence,
}


# --- all sides, alternately -----------------------------------------------------------------------------------


def trained(name: str, place: Path, paths: Mapping[str, str], precisions: "Sequence[Precision]") -> dict[str, Path]:
    """The folder of each side of a model."""
    from fusion_classifier import FusionClassifier
    from fusion_classifier.config import TaskConfig
    from fusion_classifier.onnx_export.optimize import Judged, optimize
    from fusion_classifier.support.progress import QUIET
    from fusion_classifier.tasks.registry import load_task

    names, head = MODELS[name]
    model = place / name
    task = load_task(TaskConfig(name="demo"))
    texts, targets = task.split("train").texts[:TRAINED_TEXTS], task.targets("train")[:TRAINED_TEXTS]
    encoders = [f"{one}={paths[one]}" if one in paths else one for one in names]
    if not model.exists():
        classifier = FusionClassifier(encoders=encoders, head=head, store=place / "store", training={"max_epochs": 1})
        classifier.fit(texts, [task.labels[target] for target in targets]).save_pretrained(model)
    folders = {"floor": model, "ours": model}
    for precision in precisions if find_spec("onnxruntime") else ():
        side = f"onnx-{precision}"
        folders[side] = place / f"{name}-{precision}"
        if not folders[side].exists():
            optimize(
                model,
                folders[side],
                Judged(list(texts[:20]), targets[:20]),
                max_loss=100,
                precisions=[precision],
                encoder_paths=paths,
                progress=QUIET,
            )
    if name == "minilm-l6":
        folders["pipeline"] = model
        if find_spec("sentence_transformers"):
            folders["sentence-transformers"] = model
    return folders


def measure(folders: Mapping[str, Path], paths: Mapping[str, str], threads: int, rounds: int) -> dict[str, Any]:
    """For each number of tokens and side: p50, p95 and p99 in milliseconds, and the ratio to the floor."""
    environment = os.environ | {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    processes = {}
    try:
        for side, folder in folders.items():
            command = [sys.executable, __file__, "--side", json.dumps([side, str(folder), dict(paths)])]
            processes[side] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
        for process in processes.values():
            for tokens in TOKENS:
                ask(process, text_of(tokens, 0))  # compiles what each length needs
        return {str(tokens): in_turns(processes, tokens, rounds) for tokens in TOKENS}
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def ask(process: "subprocess.Popen[str]", text: str) -> float:
    """Milliseconds of a text."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(text + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise SystemExit("error: a side has ended; its error is above")
    return float(line)


def in_turns(processes: Mapping[str, "subprocess.Popen[str]"], tokens: int, rounds: int) -> dict[str, Any]:
    """Figures of each side."""
    took: dict[str, list[float]] = {side: [] for side in processes}
    for number in range(rounds):
        for side, process in processes.items():
            took[side].append(ask(process, text_of(tokens, number)))
    result = {}
    for side, times in took.items():
        ordered = sorted(times)
        quantiles = {f"p{q}_ms": ordered[min(len(ordered) * q // 100, len(ordered) - 1)] for q in (50, 95, 99)}
        ratios = [ours / floors for ours, floors in zip(times, took["floor"], strict=True)]
        result[side] = {**quantiles, "over_floor": statistics.median(ratios)}
    return result


def text_of(tokens: int, number: int) -> str:
    """A text of about so many tokens; each number gives another."""
    words = SENTENCE.split(" ")
    return " ".join(words[(number * 5 + i * (1 + number % 3)) % len(words)] for i in range(tokens - 2))


def product(threads: int) -> float:
    """GFLOP/s of a bare matrix product in bfloat16."""
    import torch

    torch.set_num_threads(threads)
    a = torch.randn(1024, 1024, dtype=torch.bfloat16)
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - started)
    return 2 * 1024**3 / min(seconds) / 1e9


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", action="append", default=[], metavar="NAME=PATH", help="place of its weights")
    parser.add_argument("--only", choices=MODELS, help="measure this model alone")
    parser.add_argument("--precision", action="append", choices=PRECISIONS, help="of ONNX Runtime; default: all")
    parser.add_argument("--folder", type=Path, help="keep the trained and optimized models here for the next run")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        side, folder, paths = json.loads(given.side)
        answer_lines(side, Path(folder), paths)
        return
    paths = dict(one.split("=", 1) for one in given.encoder)
    result: dict[str, Any] = {"threads": given.threads, "product_gflops": product(given.threads), "models": {}}
    with tempfile.TemporaryDirectory() as temporary:
        for name in [given.only] if given.only else MODELS:
            folders = trained(name, given.folder or Path(temporary), paths, given.precision or PRECISIONS)
            result["models"][name] = measure(folders, paths, given.threads, 8 if given.quick else 40)
    if given.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{result['threads']} threads, matrix product {result['product_gflops']:.0f} GFLOP/s")
    for name, by_tokens in result["models"].items():
        for tokens, sides in by_tokens.items():
            for side, found in sides.items():
                times = " / ".join(f"{found[key]:.1f}" for key in ("p50_ms", "p95_ms", "p99_ms"))
                print(f"{name:22} {tokens:>3} tokens  {side:22} {found['over_floor']:.2f} of the floor; {times} ms")


if __name__ == "__main__":
    main()
