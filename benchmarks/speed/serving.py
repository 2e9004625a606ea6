"""Speed of `fec serve` with many clients, with and without batching, compared with a plain server.

    python benchmarks/speed/serving.py
    python benchmarks/speed/serving.py --quick --json
    python benchmarks/speed/serving.py --only model

Classifiers are trained on a few texts (their size matters here, not their accuracy) and served on the loopback
interface, one server after the other, each in a separate process. Another process runs 1, 8 or 32 clients, each of
which sends a text, waits for the answer and sends the next.

- `batched`: `fec serve` with its defaults.
- `single`: the same with batches of one text.
- `plain`: FastAPI and transformers' text-classification pipeline, in ten lines of code: MiniLM with a linear head and
  random weights, in the same precision; compared only with the classifier on MiniLM.

For each: requests per second, and the median, 95th and 99th percentile of the latency in milliseconds; median over
rounds, with the servers alternating. Use an idle machine.

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
from pathlib import Path
from typing import Any

import numpy as np

from fusion_classifier import FusionClassifier
from fusion_classifier.config import TaskConfig
from fusion_classifier.encoders.loading import only_transformers
from fusion_classifier.errors import FecError
from fusion_classifier.tasks.registry import load_task

CLIENTS = (1, 8, 32)
TRAINED_TEXTS = 200
WARM_UP_SECONDS = 1.0
MODELS = {
    "minilm-l6": (["minilm-l6"], "linear"),
    "minilm-l6+smollm2-135m": (["minilm-l6", "smollm2-135m"], "fusion"),
}


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
def running(command: Sequence[str], port: int) -> Iterator[None]:
    """Run a server; yields when it is healthy."""
    # Not a pipe: nobody would read it meanwhile, and the server would block.
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([sys.executable, *command], stderr=log)
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
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


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
    return {"rps": len(latencies) / elapsed, "p50_ms": float(p50), "p95_ms": float(p95), "p99_ms": float(p99)}


def loaded(port: int, clients: int, seconds: float, texts: Path) -> dict[str, float]:
    """`load` in another process."""
    command = [sys.executable, __file__, "--clients", f"{port},{clients},{seconds},{texts}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise FecError(f"the clients failed: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


# --- the comparison ----------------------------------------------------------------------------------------


def measure(texts: list[str], labels: list[str], folder: Path, *, seconds: float, rounds: int) -> dict[str, Any]:
    """All figures."""
    place = folder / "texts.json"
    place.write_text(json.dumps(texts[TRAINED_TEXTS:]), "utf-8")
    servers: dict[tuple[str, str], list[str]] = {}
    for name, (encoders, head) in MODELS.items():
        trained = FusionClassifier(encoders=encoders, head=head, store=folder / "store", training={"max_epochs": 1})
        trained.fit(texts[:TRAINED_TEXTS], labels[:TRAINED_TEXTS]).save_pretrained(folder / name)
        ours = ["-m", "fusion_classifier", "serve", str(folder / name), "--no-page", "--port"]
        servers[name, "batched"] = ours
        servers[name, "single"] = ["-m", "fusion_classifier", "serve", "--max-batch-tokens", "1", *ours[3:]]
        if name == "minilm-l6":
            encoder = only_transformers(trained.load_encoders(), "compared")[0]
            dtype = encoder.identity.dtype
            plain = f"{encoder.tokenizer.name_or_path},{dtype},{len(trained.classes_)}"
            servers[name, "plain"] = [__file__, "--plain-server", plain, "--port"]
    seen: dict[tuple[str, str, int], list[dict[str, float]]] = {}
    for _ in range(rounds):
        for (name, kind), command in servers.items():
            port = free_port()
            with running([*command, str(port)], port):
                for clients in CLIENTS:
                    seen.setdefault((name, kind, clients), []).append(loaded(port, clients, seconds, place))
    result: dict[str, Any] = {"cores": os.cpu_count(), "seconds": seconds, "rounds": rounds, "models": {}}
    for (name, kind, clients), figures in seen.items():
        of_kind = result["models"].setdefault(name, {}).setdefault(kind, {})
        of_kind[str(clients)] = {key: statistics.median(one[key] for one in figures) for key in figures[0]}
    most = str(CLIENTS[-1])
    for kinds in result["models"].values():
        rate = kinds["batched"][most]["rps"]
        kinds["batched_over"] = {
            kind: rate / kinds[kind][most]["rps"] for kind in ("single", "plain") if kind in kinds
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
    parser.add_argument("--clients", help=argparse.SUPPRESS)
    parser.add_argument("--plain-server", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.clients:
        port, clients, seconds, place = given.clients.split(",", 3)
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
        result = measure(texts, labels, Path(folder), seconds=4 if given.quick else 8, rounds=1 if given.quick else 3)
    if given.json:
        print(json.dumps(result, indent=1))
        return
    for name, kinds in result["models"].items():
        for kind in ("batched", "single", "plain"):
            for clients, found in kinds.get(kind, {}).items():
                print(
                    f"{name:24} {kind:8} {clients:>2} clients: {found['rps']:6.1f} requests/s, "
                    f"{found['p50_ms']:.0f} / {found['p95_ms']:.0f} / {found['p99_ms']:.0f} ms (50, 95, 99%)"
                )
        ratios = ", ".join(f"{ratio:.2f} times {kind}" for kind, ratio in kinds["batched_over"].items())
        print(f"{name:24} batched at {CLIENTS[-1]} clients: {ratios}")


if __name__ == "__main__":
    try:
        main()
    except FecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
