"""How long one text takes, compared with a hand-written loop over the same weights and with other libraries.

    python benchmarks/speed/latency.py
    python benchmarks/speed/latency.py --encoder minilm-l6=models/minilm-l6 --only minilm-l6 --quick --json
    python benchmarks/speed/latency.py --python openvino=ov/bin/python --python llama.cpp=ov/bin/python

One client: a text is classified, then the next, of about 10, 20, 60 and 200 tokens. Every side is a separate
process, and they alternate text by text, so that a busy machine slows all of them equally: ratios are valid even if
milliseconds are not. A ratio is the median, over the texts, of a side's time divided by the floor's for the same
text.

Classifiers are trained on a few texts (their size matters here, not their answers): MiniLM with head `linear`,
the default, MiniLM with MPNet and head `ensemble`; MiniLM with SmolLM2 and head `fusion`; and SmolLM2 with head
`linear`.

- `floor`: tokenizer, transformers' model and the trained head, called one after the other as in a script; in the same
  precision.
- `ours`: `predict([text])` of the classifier.
- `onnx-…`: the same for the form that `fec optimize --precision …` writes; if ONNX Runtime is installed.
- `bare-…`: the same graphs, called one after the other as in a script: the floor for ONNX Runtime.
- `pipeline`: transformers' text-classification pipeline on MiniLM with a linear head of random weights.
- `sentence-transformers`: its `encode` of MiniLM, and scikit-learn's logistic regression; if it is installed.
- `openvino-…`: the graphs of `onnx-float32` by OpenVINO, in float32, in bfloat16, and with weights and activations in
  8 bits by NNCF, calibrated on the training texts. Needs `--python openvino=…`: a Python with openvino, nncf,
  onnxruntime, tokenizers and numpy.
- `llama.cpp`: the mean over the text's tokens by llama.cpp, from SmolLM2's GGUF file. Needs `--python llama.cpp=…`: a
  Python with xllamacpp.

The rate of a bare matrix product in bfloat16 is printed next to them: without it, milliseconds are meaningless.
"""

# ruff: noqa: PLC0415 - each process imports what it measures

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latency_sides import OPENVINO, answer_lines

if TYPE_CHECKING:
    from fusion_classifier.config import Precision

TOKENS = (10, 20, 60, 200)
TRAINED_TEXTS = 200
MODELS = {
    "minilm-l6": (["minilm-l6"], "linear"),
    "minilm-l6+mpnet-base": (["minilm-l6", "mpnet-base"], "ensemble"),
    "minilm-l6+smollm2-135m": (["minilm-l6", "smollm2-135m"], "fusion"),
    "smollm2-135m": (["smollm2-135m"], "linear"),
}
PRECISIONS: "tuple[Precision, ...]" = ("float32", "int8", "int8-dynamic")
SENTENCE = "i can not believe that she remembered my birthday after so many years of silence and rain"


# --- all sides, alternately -----------------------------------------------------------------------------------


def trained(
    name: str,
    place: Path,
    paths: Mapping[str, str],
    precisions: "Sequence[Precision]",
    pythons: Mapping[str, str],
) -> dict[str, Path]:
    """The folder of each side of a model; for llama.cpp the file."""
    import torch

    from fusion_classifier import FusionClassifier
    from fusion_classifier.config import TaskConfig
    from fusion_classifier.onnx_export.optimize import HeldOut, optimize
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
    if find_spec("onnxruntime"):
        float32 = place / f"{name}-float32"
        if not float32.exists():
            held_out = HeldOut(list(texts[:20]), targets[:20])
            optimize(model, float32, held_out, precisions=["float32"], encoder_paths=paths, progress=QUIET)
        folders |= {
            f"onnx-{precision}": in_precision(float32, place / f"{name}-{precision}") for precision in precisions
        }
        folders |= {f"bare-{precision}": folders[f"onnx-{precision}"] for precision in precisions}
    if "openvino" in pythons:
        (float32 / "calibration.json").write_text(json.dumps(list(texts)), "utf-8")
        folders |= {f"openvino-{form}": float32 for form in OPENVINO}
    if "llama.cpp" in pythons and name == "smollm2-135m":
        from fusion_classifier.encoders.identity import identify
        from fusion_classifier.encoders.spec import parse_encoder

        weights = identify(parse_encoder(encoders[0]), torch.device("cpu")).weights
        folders["llama.cpp"] = next(Path(weights.folder).glob("*.gguf"))
    if name == "minilm-l6":
        folders["pipeline"] = model
        if find_spec("sentence_transformers"):
            folders["sentence-transformers"] = model
    return folders


def in_precision(float32: Path, folder: Path) -> Path:
    """The optimized model in the precision at the end of its folder's name, regardless of its loss."""
    from fusion_classifier.onnx_export.quantize import quantize_encoder

    precision: Any = folder.name.removeprefix(float32.name.removesuffix("float32"))
    if not folder.exists():
        shutil.copytree(float32, folder)
        config = json.loads((folder / "config.json").read_text("utf-8"))
        for encoder in config["encoders"]:
            quantize_encoder(float32 / encoder["onnx"], folder / encoder["onnx"], precision)
        (folder / "config.json").write_text(json.dumps({**config, "precision": precision}), "utf-8")
    return folder


def measure(
    folders: Mapping[str, Path],
    paths: Mapping[str, str],
    pythons: Mapping[str, str],
    *,
    threads: int,
    rounds: int,
    busy: bool,
) -> dict[str, Any]:
    """For each number of tokens and side: p50, p95 and p99 in milliseconds, and the ratio to the floor."""
    environment = os.environ | {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    processes = {}
    try:
        for side, folder in folders.items():
            python = pythons.get(side.partition("-")[0], sys.executable)
            command = [python, __file__, "--side", json.dumps([side, str(folder), dict(paths), busy])]
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
    order = random.Random(0)
    for number in range(rounds):
        # In a new order for each text: a side is slower after a longer break.
        for side in order.sample(list(processes), len(processes)):
            took[side].append(ask(processes[side], text_of(tokens, number)))
    result = {}
    for side, times in took.items():
        ordered = sorted(times)
        quantiles = {f"p{q}_ms": ordered[min(len(ordered) * q // 100, len(ordered) - 1)] for q in (50, 95, 99)}
        ratios = [ours / floors for ours, floors in zip(times, took["floor"], strict=True)]
        result[side] = {**quantiles, "over_floor": statistics.median(ratios)}
    return result


def text_of(tokens: int, number: int) -> str:
    """A text of about this number of tokens, different for each number."""
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
    parser.add_argument("--side-only", action="append", help="measure this side and the floor alone; may be repeated")
    parser.add_argument(
        "--python", action="append", default=[], metavar="SIDE=PATH", help="Python of openvino or llama.cpp"
    )
    parser.add_argument("--folder", type=Path, help="keep the trained and optimized models here for the next run")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, help="texts of each length; default: 40, with --quick 8")
    parser.add_argument(
        "--busy", action="store_true", help="measure the processor's time: for --threads 1, other work"
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        side, folder, paths, busy = json.loads(given.side)
        answer_lines(side, Path(folder), paths, busy)
        return
    paths = dict(one.split("=", 1) for one in given.encoder)
    pythons = dict(one.split("=", 1) for one in given.python)
    result: dict[str, Any] = {"threads": given.threads, "product_gflops": product(given.threads), "models": {}}
    with tempfile.TemporaryDirectory() as temporary:
        for name in [given.only] if given.only else MODELS:
            place = given.folder or Path(temporary)
            folders = trained(name, place, paths, given.precision or PRECISIONS, pythons)
            if given.side_only:
                folders = {side: found for side, found in folders.items() if side in ("floor", *given.side_only)}
            rounds = given.rounds or (8 if given.quick else 40)
            result["models"][name] = measure(
                folders, paths, pythons, threads=given.threads, rounds=rounds, busy=given.busy
            )
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
