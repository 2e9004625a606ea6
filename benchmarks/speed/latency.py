"""How long one text takes, beside a hand-written loop over the same weights and beside other libraries.

    python benchmarks/speed/latency.py
    python benchmarks/speed/latency.py --encoder minilm-l6=models/minilm-l6 --only minilm-l6 --quick --json
    python benchmarks/speed/latency.py --python openvino=ov/bin/python --python llama.cpp=ov/bin/python

One client: a text is classified, then the next, of about 10, 20, 60 and 200 tokens. Every side is a process of its
own, and they take turns text by text, so that a busy machine slows all of them alike: ratios hold where milliseconds
don't. A ratio is the median, over the texts, of a side's time divided by the floor's for the same text.

Classifiers are trained on a few texts (their size matters here, their answers don't): MiniLM with head `linear`,
MiniLM with SmolLM2 and head `fusion`, and SmolLM2 with head `linear`.

- `floor`: tokenizer, transformers' model and the trained head, called one after the other as in a script; in the same
  precision.
- `ours`: `predict([text])` of the classifier.
- `onnx-…`: the same of the form that `fec optimize --precision …` writes; where ONNX Runtime is installed.
- `bare-…`: the same graphs, called one after the other as in a script: the floor for ONNX Runtime.
- `pipeline`: transformers' text-classification pipeline on MiniLM with a linear head of random weights.
- `sentence-transformers`: its `encode` of MiniLM, and scikit-learn's logistic regression; where it is installed.
- `openvino-…`: the graphs of `onnx-float32` by OpenVINO, in float32, in bfloat16, and with weights and activations in
  8 bits by NNCF, calibrated on the training texts. Needs `--python openvino=…`: a Python with openvino, nncf,
  onnxruntime, tokenizers and numpy.
- `llama.cpp`: the mean over the text's tokens by llama.cpp, from SmolLM2's GGUF file. Needs `--python llama.cpp=…`: a
  Python with xllamacpp.

The rate of a bare matrix product in bfloat16 is printed beside them: without it milliseconds say nothing.
"""

# ruff: noqa: PLC0415 - each process imports what it measures

import argparse
import json
import os
import shutil
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
    "smollm2-135m": (["smollm2-135m"], "linear"),
}
OPENVINO = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}  # name of a form, and OpenVINO's precision
PRECISIONS: "tuple[Precision, ...]" = ("float32", "int8", "int8-dynamic")
SENTENCE = "i can not believe that she remembered my birthday after so many years of silence and rain"
Answer = Callable[[str], object]


# --- one side, in a process of its own ---------------------------------------------------------------------


def answer_lines(side: str, folder: Path, paths: Mapping[str, str], busy: bool) -> None:
    """Answer each line of standard input by the milliseconds that it took; if busy, of the processor's time."""
    clock = time.process_time if busy else time.perf_counter
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints
    name, _, form = side.partition("-")
    answer = openvino(form, folder) if name == "openvino" else SIDES[name](folder, paths)
    for line in sys.stdin:
        started = clock()
        answer(line.rstrip("\n"))
        out.write(f"{1000 * (clock() - started)}\n")
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


def bare(folder: Path, _paths: Mapping[str, str]) -> Answer:
    """Tokenizers, encoders and head by ONNX Runtime, called one after the other."""
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    config, options = json.loads((folder / "config.json").read_text("utf-8")), onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")

    def session(name: str) -> Any:
        return onnxruntime.InferenceSession(str(folder / name), options, providers=["CPUExecutionProvider"])

    encoders = [
        (one, session(one["onnx"]), Tokenizer.from_file(str(folder / one["tokenizer"]))) for one in config["encoders"]
    ]
    head = session(config["head"]["onnx"])

    def answer(text: str) -> Any:
        given: dict[str, Any] = {}
        for number, (encoder, model, tokenizer) in enumerate(encoders):
            found = tokenizer.encode(text)
            ids, ones = np.array([found.ids]), np.ones((1, len(found.ids)), np.int64)
            counted = ones if encoder["pool_special_tokens"] else 1 - np.array([found.special_tokens_mask])
            batch = {"input_ids": ids, "attention_mask": ones, "counted_mask": counted}
            inputs = {name: batch[name] for name in encoder["inputs"]}
            given |= {f"features_{number}": model.run(["features"], inputs)[0], f"counted_mask_{number}": counted}
        inputs = {name: given[name] for name in config["head"]["inputs"]}
        return config["id2label"][str(head.run(["probabilities"], inputs)[0][0].argmax())]

    return answer


def openvino(form: str, folder: Path) -> Answer:
    """The float32 graphs by OpenVINO."""
    import openvino as runtime

    from fusion_classifier.classifier.standalone import Classifier, encoded, padded

    core, graphs = runtime.Core(), Classifier(folder)
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": int(os.environ["OMP_NUM_THREADS"]),
        "INFERENCE_PRECISION_HINT": OPENVINO[form],
    }

    class Session:
        """As one of ONNX Runtime."""

        def __init__(self, model: Any) -> None:
            self.request = core.compile_model(model, "CPU", settings).create_infer_request()

        def run(self, names: Sequence[str], inputs: Mapping[str, Any]) -> list[Any]:
            """Outputs by name."""
            found = self.request.infer(inputs, share_inputs=True)
            return [found[name] for name in names]

    def loaded(encoder: Mapping[str, Any], tokenizer: Any) -> Any:
        model = core.read_model(folder / encoder["onnx"])
        if form != "int8":
            return model
        import nncf

        texts = json.loads((folder / "calibration.json").read_text("utf-8"))
        batches = [
            padded(dict(encoder), [encoded(tokenizer, "{text}", text, encoder["max_length"])]) for text in texts
        ]
        given = [{name: batch[name] for name in encoder["inputs"]} for batch in batches]
        kind = nncf.ModelType.TRANSFORMER
        return nncf.quantize(model, nncf.Dataset(given), model_type=kind, subset_size=len(given))

    graphs.encoders = [
        (encoder, Session(loaded(encoder, tokenizer)), tokenizer) for encoder, _, tokenizer in graphs.encoders
    ]
    graphs.head = Session(core.read_model(folder / graphs.config["head"]["onnx"]))
    return lambda text: graphs.predict([text])


def llama(file: Path, _paths: Mapping[str, str]) -> Answer:
    """llama.cpp's embedding of a text; no head."""
    import xllamacpp

    settings, threads = xllamacpp.CommonParams(), int(os.environ["OMP_NUM_THREADS"])
    settings.model.path, settings.embedding = str(file), True
    settings.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    settings.n_ctx = settings.n_batch = settings.n_ubatch = 512
    settings.n_parallel = 1
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(settings)
    return lambda text: server.handle_embeddings({"input": text})


SIDES: dict[str, Callable[[Path, Mapping[str, str]], Answer]] = {
    "floor": floor,
    "ours": ours,
    "onnx": ours,
    "bare": bare,
    "pipeline": pipeline,
    "sentence": sentence,
    "llama.cpp": llama,
}


# --- all sides, alternately -----------------------------------------------------------------------------------


def trained(
    name: str,
    place: Path,
    paths: Mapping[str, str],
    precisions: "Sequence[Precision]",
    pythons: Mapping[str, str],
) -> dict[str, Path]:
    """The folder of each side of a model; of llama.cpp the file."""
    import torch

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
    if find_spec("onnxruntime"):
        float32 = place / f"{name}-float32"
        if not float32.exists():
            judged = Judged(list(texts[:20]), targets[:20])
            optimize(model, float32, judged, precisions=["float32"], encoder_paths=paths, progress=QUIET)
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
    """The optimized model in the precision by which its folder's name ends, whatever it loses."""
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
