"""Speed of `fec serve` with many clients, with and without batching, compared with a plain server.

    python benchmarks/speed/serving.py
    python benchmarks/speed/serving.py --quick --json
    python benchmarks/speed/serving.py --earlier ../earlier/src --model minilm-l6+smollm2-135m --clients 1
    python benchmarks/speed/serving.py --only model

Classifiers are trained on a few texts (their size matters here, not their accuracy) and served on the loopback
interface, one server after the other, each in a separate process. Another process runs 1, 8 or 32 clients, each of
which sends a text, waits for the answer and sends the next.

- `batched`: `fec serve` with its defaults.
- `single`: the same with batches of one text.
- `plain`: FastAPI and transformers' text-classification pipeline, in ten lines of code: MiniLM with a linear head and
  random weights, in the same precision; compared only with the classifier on MiniLM.
- `optimized`: `fec serve` of the model written by `fec optimize --precision int8`; if ONNX Runtime is installed.
- `earlier`: `fec serve` of another version of this package (`--earlier`), with a model that it trains itself.

For each: requests per second, and the median, 95th and 99th percentile of the latency in milliseconds; median over
rounds, with the servers alternating; and the server's processor time per request, which other work on the machine
disturbs least (with OMP_NUM_THREADS=1; waiting threads count too). Use an idle machine.

`--only model` estimates the gain from batching within seconds and without a server: CPU time per text of the model in
batches of 1 to 32, for MiniLM. Time used by other processes does not count.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from fusion_classifier import FusionClassifier
from fusion_classifier.config import TaskConfig
from fusion_classifier.encoders.loading import only_transformers
from fusion_classifier.errors import FecError
from fusion_classifier.onnx_export.optimize import HeldOut, optimize
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.registry import load_task

CLIENTS = (1, 8, 32)
TRAINED_TEXTS = 200
WARM_UP_SECONDS = 1.0
MODELS = {
    "minilm-l6": (["minilm-l6"], "linear"),
    "minilm-l6+mpnet-base": (["minilm-l6", "mpnet-base"], "ensemble"),
    "minilm-l6+smollm2-135m": (["minilm-l6", "smollm2-135m"], "fusion"),
}
KINDS = ("batched", "single", "plain", "optimized", "earlier")
# Run by another state of this package, too: arguments are the folder, the texts' file, encoders, head.
TRAIN = """
import json, sys
from fusion_classifier import FusionClassifier
folder, place, encoders, head = sys.argv[1:]
texts, labels = json.load(open(place, encoding="utf-8"))
training = {"max_epochs": 1}
model = FusionClassifier(encoders=json.loads(encoders), head=head, store=folder + ".store", training=training)
model.fit(texts, labels).save_pretrained(folder)
"""


# --- the servers -------------------------------------------------------------------------------------------


def serve_plain(folder: str, dtype: str, labels: int, port: int) -> None:
    """A plain server without this package."""
    import torch  # noqa: PLC0415 - only this process needs them
    import uvicorn  # noqa: PLC0415
    from fastapi import Body, FastAPI  # noqa: PLC0415
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline  # noqa: PLC0415

    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=labels, dtype=getattr(torch, dtype))
    classify = pipeline("text-classification", model, tokenizer=AutoTokenizer.from_pretrained(folder), top_k=None)
    app = FastAPI()

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.post("/predict")
    def predict(inputs: str = Body(embed=True)) -> Any:
        return classify(inputs, truncation=True, max_length=256)

    uvicorn.run(app, port=port, log_level="warning")


@contextmanager
def running(command: Sequence[str], port: int, source: Path | None = None) -> Iterator[psutil.Process]:
    """Run a server, with the package of another folder if one is given; yields its process when it is healthy."""
    # Not a pipe: nobody would read it meanwhile, and the server would block.
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([sys.executable, *command], stderr=log, env=environment(source))
        try:
            until = time.monotonic() + 120
            while True:
                if process.poll() is not None:
                    log.seek(0)
                    raise FecError(f"a server ended at its start: {log.read()}")
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if time.monotonic() > until:
                    raise FecError("a server does not start")
                time.sleep(0.1)
            yield psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def environment(source: Path | None) -> dict[str, str]:
    """Environment of a process that imports the package from `source`; None: as this one."""
    return dict(os.environ) | ({"PYTHONPATH": str(source)} if source else {})


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- the clients, in a separate process ----------------------------------------------------------------


async def client(
    port: int, bodies: Sequence[bytes], start: int, until: float, seen: list[tuple[float, float]]
) -> None:
    """Send requests one after another over one connection; appends end time and duration of each."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    position = start
    while (began := time.perf_counter()) < until:
        body = bodies[position % len(bodies)]
        position += 1
        head = (
            f"POST /predict HTTP/1.1\r\nhost: here\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        )
        writer.write(head.encode() + b"\r\n\r\n" + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in answer.split(b"\r\n")[1:] if line)
        await reader.readexactly(int(fields[b"content-length"]))
        if b" 200 " not in answer.split(b"\r\n", 1)[0]:
            raise FecError(f"a request failed: {answer.splitlines()[0].decode()}")
        ended = time.perf_counter()
        seen.append((ended, ended - began))
    writer.close()


async def load(port: int, clients: int, seconds: float, bodies: Sequence[bytes]) -> dict[str, float]:
    """Figures for this number of clients."""
    begin = time.perf_counter() + WARM_UP_SECONDS
    seen: list[tuple[float, float]] = []
    await asyncio.gather(*(client(port, bodies, 37 * i, begin + seconds, seen) for i in range(clients)))
    latencies = [1000 * took for ended, took in seen if ended >= begin]
    # Pending requests at the end are awaited and counted with their duration.
    elapsed = max(ended for ended, _ in seen) - begin
    p50, p95, p99 = np.percentile(latencies, [50, 95, 99])
    return {
        "rps": len(latencies) / elapsed,
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "p99_ms": float(p99),
        "requests": len(seen),
    }


def loaded(server: psutil.Process, port: int, clients: int, seconds: float, texts: Path) -> dict[str, float]:
    """`load` in another process, and milliseconds of the processor's time that the server takes per request."""
    before = sum(server.cpu_times()[:2])
    command = [sys.executable, __file__, "--load", f"{port},{clients},{seconds},{texts}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise FecError(f"the clients failed: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found | {"cpu_ms": 1000 * (sum(server.cpu_times()[:2]) - before) / found.pop("requests")}


# --- the comparison ----------------------------------------------------------------------------------------


def train(name: str, folder: Path, place: Path, paths: dict[str, str], source: Path | None = None) -> None:
    """Train a model, by the package in `source` if one is given."""
    names, head = MODELS[name]
    encoders = [f"{one}={paths[one]}" if one in paths else one for one in names]
    command = [sys.executable, "-c", TRAIN, str(folder), str(place), json.dumps(encoders), head]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(source))
    if done.returncode:
        raise FecError(f"a model could not be trained: {done.stderr.strip().splitlines()[-1]}")


def server_commands(
    name: str, kinds: Sequence[str], folder: Path, place: Path, paths: dict[str, str], earlier: Path | None
) -> dict[str, list[str]]:
    """Command of each server of a model, whose parts are trained and kept in `folder`."""
    trained, of_earlier, optimized = folder / name, folder / f"{name}-earlier", folder / f"{name}-optimized"
    if not trained.exists():
        train(name, trained, place, paths)
    serve = ["-m", "fusion_classifier", "serve", "--no-page"]
    commands = {
        "batched": [*serve, str(trained)],
        "single": [*serve, "--max-batch-tokens", "1", str(trained)],
    }
    if name == "minilm-l6" and "plain" in kinds:
        loaded = FusionClassifier.from_pretrained(trained, encoder_paths=paths)
        encoder = only_transformers(loaded.load_encoders(), "compared")[0]
        plain = f"{encoder.tokenizer.name_or_path},{encoder.identity.dtype},{len(loaded.classes_)}"
        commands["plain"] = [__file__, "--plain-server", plain]
    if "optimized" in kinds and find_spec("onnxruntime"):
        if not optimized.exists():
            texts, labels = json.loads(place.read_text("utf-8"))
            names = sorted(set(labels))
            held_out = HeldOut(texts[:20], np.array([names.index(label) for label in labels[:20]]))
            optimize(
                trained, optimized, held_out, max_loss=100, precisions=["int8"], encoder_paths=paths, progress=QUIET
            )
        commands["optimized"] = [*serve, str(optimized)]
    if earlier and "earlier" in kinds:
        if not of_earlier.exists():
            train(name, of_earlier, place, paths, earlier)
        commands["earlier"] = [*serve, str(of_earlier)]
    return {kind: [*command, "--port"] for kind, command in commands.items() if kind in kinds}


def measure(
    servers: dict[tuple[str, str], list[str]],
    texts: Path,
    earlier: Path | None,
    *,
    clients: Sequence[int],
    seconds: float,
    rounds: int,
) -> dict[str, Any]:
    """All figures."""
    seen: dict[tuple[str, str, int], list[dict[str, float]]] = {}
    for _ in range(rounds):
        for (name, kind), command in servers.items():
            port = free_port()
            with running([*command, str(port)], port, earlier if kind == "earlier" else None) as server:
                for count in clients:
                    seen.setdefault((name, kind, count), []).append(loaded(server, port, count, seconds, texts))
    load_average = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    result: dict[str, Any] = {"cores": os.cpu_count(), "seconds": seconds, "rounds": rounds, "load": load_average}
    models = result["models"] = {}
    for (name, kind, count), figures in seen.items():
        of_kind = models.setdefault(name, {}).setdefault(kind, {})
        of_kind[str(count)] = {key: statistics.median(one[key] for one in figures) for key in figures[0]}
    for kinds in models.values():
        for kind in set(kinds) - {"batched"} if "batched" in kinds else ():
            kinds[kind]["batched_over"] = {
                str(count): kinds["batched"][str(count)]["rps"] / kinds[kind][str(count)]["rps"] for count in clients
            }
    return result


def by_batch(texts: list[str], labels: list[str], folder: Path) -> dict[str, float]:
    """CPU milliseconds per text by batch size; median of several batches of different texts."""
    encoders, head = MODELS["minilm-l6"]
    trained = FusionClassifier(encoders=encoders, head=head, store=folder / "store", training={"max_epochs": 1})
    trained.fit(texts[:TRAINED_TEXTS], labels[:TRAINED_TEXTS])
    others = texts[TRAINED_TEXTS:]
    trained.predict_logits(others[:32])
    found = {}
    for size in (1, 2, 4, 8, 16, 32):
        took = []
        for i in range(max(5, 16 // size)):
            part = [others[(i * size + j) % len(others)] for j in range(size)]
            started = time.process_time()
            trained.predict_logits(part)
            took.append(1000 * (time.process_time() - started) / size)
        found[str(size)] = statistics.median(took)
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="demo")
    parser.add_argument("--data")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=["model"])
    parser.add_argument("--encoder", action="append", default=[], metavar="NAME=PATH", help="place of its weights")
    parser.add_argument("--model", action="append", choices=MODELS, help="default: all")
    parser.add_argument("--kind", action="append", choices=KINDS, help="default: all")
    parser.add_argument("--clients", action="append", type=int, help=f"default: {CLIENTS}")
    parser.add_argument("--earlier", type=Path, metavar="SRC", help="folder `src` of another state of this package")
    parser.add_argument("--folder", type=Path, help="keep the models here for the next run")
    parser.add_argument("--seconds", type=float, help="of each number of clients")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    parser.add_argument("--plain-server", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.load:
        port, clients, seconds, place = given.load.split(",", 3)
        bodies = [json.dumps({"inputs": text}).encode() for text in json.loads(Path(place).read_text("utf-8"))]
        print(json.dumps(asyncio.run(load(int(port), int(clients), float(seconds), bodies))))
        return
    if given.plain_server:
        place, dtype, labels = given.plain_server.rsplit(",", 2)
        serve_plain(place, dtype, int(labels), given.port)
        return
    task = load_task(TaskConfig(name=given.task, data=given.data))
    train = task.split("train")
    order = np.random.default_rng(0).permutation(len(train.texts))
    texts = [train.texts[i] for i in order]
    labels = [task.labels[int(task.targets("train")[i])] for i in order]
    with tempfile.TemporaryDirectory() as folder:
        if given.only:
            found = by_batch(texts, labels, Path(folder))
            print(
                json.dumps(found, indent=1)
                if given.json
                else "\n".join(f"{n:>2}: {ms:.2f} ms" for n, ms in found.items())
            )
            return
        kept = given.folder or Path(folder)
        kept.mkdir(parents=True, exist_ok=True)
        of_training, of_clients = kept / "train.json", kept / "texts.json"
        of_training.write_text(json.dumps([texts[:TRAINED_TEXTS], labels[:TRAINED_TEXTS]]), "utf-8")
        of_clients.write_text(json.dumps(texts[TRAINED_TEXTS:]), "utf-8")
        paths = dict(one.split("=", 1) for one in given.encoder)
        kinds = given.kind or KINDS
        servers = {
            (name, kind): command
            for name in given.model or MODELS
            for kind, command in server_commands(name, kinds, kept, of_training, paths, given.earlier).items()
        }
        seconds, rounds = given.seconds or (4 if given.quick else 8), given.rounds or (1 if given.quick else 3)
        result = measure(
            servers, of_clients, given.earlier, clients=given.clients or CLIENTS, seconds=seconds, rounds=rounds
        )
    print(json.dumps(result, indent=1) if given.json else "\n".join(lines_of(result)))


def lines_of(result: dict[str, Any]) -> Iterator[str]:
    """The figures in words."""
    yield f"load average {result['load']}"
    for name, kinds in result["models"].items():
        for kind, by_clients in kinds.items():
            over = by_clients.pop("batched_over", {})
            for clients, found in by_clients.items():
                latency = " / ".join(f"{found[key]:.1f}" for key in ("p50_ms", "p95_ms", "p99_ms"))
                ratio = f"; batched is {over[clients]:.2f} times as fast" if over else ""
                rates = f"{found['rps']:6.1f}/s, {latency} ms, {found['cpu_ms']:.2f} ms of the processor"
                yield f"{name:24} {kind:9} {clients:>2} clients: {rates}{ratio}"


if __name__ == "__main__":
    try:
        main()
    except FecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
