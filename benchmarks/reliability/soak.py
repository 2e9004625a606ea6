"""`fec serve` with valid, invalid, slow and disconnecting clients: is every answer correct, is memory stable?

    python benchmarks/reliability/soak.py --json
    python benchmarks/reliability/soak.py --requests 10000 --clients 64 --json
    python benchmarks/reliability/soak.py --minutes 20 --rate 40 --json

A classifier with real weights (MiniLM) is trained on the demo corpus and served in a separate process, with an API
key. First, `--requests` requests from `--clients` clients, some of them invalid in one of the ways in `BAD`: the
answer to a valid request is correct if its scores equal the model's offline scores, up to rounding in another batch
(`TOLERANCE`); that to an invalid one, if it has the documented status and error type. Meanwhile other clients send
one byte per second, or disconnect before the answer. Then more clients than the server accepts at once (429), after
which it must answer correctly again. Then, for `--minutes`, a steady rate of the same mix, while memory, threads and
open files are sampled every second. Finally, the server is stopped under load: it must answer the accepted requests
and exit with 0, and its log must not contain the texts. Prints, as JSON: requests, wrong answers by kind (must be
empty), the largest difference in a score, and the growth of memory per hour, from a linear fit to the second half of
the samples.
"""

import argparse
import asyncio
import json
import math
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from crash import free_port

from fusion_classifier import FusionClassifier
from fusion_classifier.config import TaskConfig
from fusion_classifier.errors import FecError
from fusion_classifier.tasks.registry import load_task

KEY = "a key of the soak"
MARK = "zebrafish"  # part of every text, to find texts in a log
BATCH, CHARACTERS, PAYLOAD, AT_ONCE = 8, 2000, 20_000, 128  # limits that the server is started with
TOLERANCE = 0.01  # for scores: in bfloat16 the last digits of a feature depend on the batch
JSON_TYPE = {"content-type": "application/json"}
LONG = f"{MARK} " + "a " * 900  # more tokens than the model's limit, but within the limit of characters

# Description, body, status, error type.
BAD: list[tuple[str, Any, int, str]] = [
    ("empty text", {"inputs": ""}, 400, "Empty"),
    ("no texts", {"inputs": []}, 400, "Empty"),
    ("an empty text in a batch", {"inputs": [[MARK], [" "]]}, 400, "Empty"),
    ("pairs", {"inputs": [[MARK, MARK]]}, 422, "Validation"),
    ("a number", {"inputs": 10**400}, 422, "Validation"),
    ("an object", {"inputs": {"text": MARK}}, 422, "Validation"),
    ("no inputs", {"texts": MARK}, 422, "Validation"),
    ("a lone surrogate", b'{"inputs": "' + MARK.encode() + b' \\ud800"}', 422, "Validation"),
    ("a wrong direction", {"inputs": MARK, "truncation_direction": "up"}, 422, "Validation"),
    ("a string for a boolean", {"inputs": MARK, "raw_scores": "yes"}, 422, "Validation"),
    ("too many characters", {"inputs": MARK * CHARACTERS, "truncate": True}, 422, "Validation"),
    ("too many tokens", {"inputs": LONG}, 422, "Tokenizer"),
    ("too many texts", {"inputs": [[MARK]] * (BATCH + 1)}, 413, "Validation"),
    ("too large a body", b'{"inputs": "' + b"a" * (3 * PAYLOAD) + b'"}', 413, "Validation"),
    ("half a JSON", b'{"inputs": "' + MARK.encode(), 422, "Validation"),
    ("not a number", b'{"inputs": NaN}', 422, "Validation"),
    ("depth", b"[" * 10_000, 400, "Validation"),
    ("no UTF-8", b'{"inputs": "\xff"}', 400, "Validation"),
    ("nothing", b"", 422, "Validation"),
]


@dataclass
class Seen:
    """What came back."""

    right: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    overloaded: int = 0
    difference: float = 0.0

    def check(self, what: str, ok: bool) -> None:
        """Count an answer."""
        self.right += ok
        if not ok:
            self.wrong[what] += 1


@dataclass(frozen=True)
class Expected:
    """Offline answers: probabilities by label, for each text."""

    scores: dict[str, dict[str, float]]

    def good(self, draw: random.Random) -> tuple[dict[str, Any], list[str]]:
        """A valid request, and its texts."""
        texts = draw.choices(list(self.scores), k=draw.choice([1, 1, 1, 2, BATCH]))
        inputs: Any = texts[0] if len(texts) == 1 else [[text] for text in texts]
        return {"inputs": inputs, "truncate": draw.random() < 0.5}, texts

    def difference(self, texts: Sequence[str], answer: Any) -> float:
        """The largest difference in a score; infinite if the format is not the documented one."""
        answers = [answer] if len(texts) == 1 else answer
        if len(answers) != len(texts):
            return math.inf
        worst = 0.0
        for text, one in zip(texts, answers, strict=True):
            given = {entry["label"]: entry["score"] for entry in one}
            known = self.scores[text]
            falling = [entry["score"] for entry in one]
            if given.keys() != known.keys() or falling != sorted(falling, reverse=True):
                return math.inf
            worst = max(worst, *(abs(given[label] - known[label]) for label in known))
        return worst


async def ask(client: httpx.AsyncClient, expected: Expected, draw: random.Random, bad: float, seen: Seen) -> None:
    """Send one request, valid or invalid, and check its answer."""
    try:
        if draw.random() < bad:
            await ask_badly(client, draw, seen)
            return
        body, texts = expected.good(draw)
        answer = await client.post("/predict", json=body)
    except httpx.HTTPError as error:
        seen.check(f"no answer: {type(error).__name__}", ok=False)
        return
    if answer.status_code == 429:
        seen.overloaded += 1
        return
    off = expected.difference(texts, answer.json()) if answer.status_code == 200 else math.inf
    seen.difference = max(seen.difference, 0.0 if math.isinf(off) else off)
    seen.check(f"a good request: {answer.status_code}", off <= TOLERANCE)


async def ask_badly(client: httpx.AsyncClient, draw: random.Random, seen: Seen) -> None:
    """One bad request."""
    what, body, status, kind = draw.choice(
        [*BAD, ("key", None, 401, "Unauthorized"), ("path", None, 404, "NotFound")]
    )
    if what == "key":
        answer = await client.post("/predict", json={"inputs": MARK}, headers={"authorization": f"Bearer {MARK}"})
    elif what == "path":
        answer = await client.get(f"/{MARK}")
    else:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = await client.post("/predict", content=content, headers=JSON_TYPE)
    if answer.status_code == 429:
        seen.overloaded += 1
        return
    said = answer.json()
    right = (answer.status_code, said.get("error_type")) == (status, kind) and set(said) == {"error", "error_type"}
    seen.check(f"{what}: {answer.status_code} {said.get('error_type')}", right and MARK not in answer.text)


async def slow(port: int, until: asyncio.Event) -> None:
    """A client that sends headers or a body at one byte per second, and reconnects when it is disconnected."""
    head = b"POST /predict HTTP/1.1\r\nhost: here\r\nauthorization: Bearer x\r\ncontent-length: 5000\r\n\r\n"
    for start in (0, len(head)) * 1000:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head[:start])
            for byte in head[start:] + b" " * 5000:
                if until.is_set() or reader.at_eof():
                    break
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(1)
            writer.close()
        except OSError:
            pass
        if until.is_set():
            return


async def vanishing(port: int, draw: random.Random, until: asyncio.Event) -> None:
    """A client that disconnects before the answer."""
    body = json.dumps({"inputs": f"{MARK} {draw.random()}"}).encode()
    lines = ["POST /predict HTTP/1.1", "host: here", "content-type: application/json", f"content-length: {len(body)}"]
    head = "\r\n".join([*lines, f"authorization: Bearer {KEY}", "", ""]).encode()
    while not until.is_set():
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write((head + body)[: draw.choice([10, len(head), len(head) + len(body)])])
            await writer.drain()
            await asyncio.sleep(draw.uniform(0, 0.01))
            writer.transport.abort()
        except OSError:
            pass
        await asyncio.sleep(0.1)


def connected(port: int) -> httpx.AsyncClient:
    """A client with the API key."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {KEY}"}, limits=limits, timeout=120
    )


async def mixed(port: int, expected: Expected, requests: int, clients: int, seed: int) -> Seen:
    """Requests from concurrent clients, along with slow and disconnecting ones."""
    seen, left, until = Seen(), iter(range(requests)), asyncio.Event()

    async def worker(number: int) -> None:
        draw = random.Random(seed * 1000 + number)
        async with connected(port) as client:
            for _ in left:
                await ask(client, expected, draw, 0.4, seen)

    others = [asyncio.create_task(slow(port, until)) for _ in range(16)]
    others += [asyncio.create_task(vanishing(port, random.Random(i), until)) for i in range(4)]
    await asyncio.gather(*(worker(number) for number in range(clients)))
    until.set()
    await asyncio.gather(*others)
    return seen


async def overload(port: int, expected: Expected) -> dict[str, Any]:
    """More concurrent requests than the server accepts, then an acceptable number."""
    flood, after = Seen(), Seen()
    async with connected(port) as client:
        await asyncio.gather(*(ask(client, expected, random.Random(i), 0, flood) for i in range(4 * AT_ONCE)))
        for i in range(50):
            await ask(client, expected, random.Random(i), 0, after)
    return {
        "refused_429": flood.overloaded,
        "answered": flood.right,
        "wrong": dict(flood.wrong + after.wrong),
        "right_afterwards": after.right,
    }


async def steady(port: int, expected: Expected, minutes: float, rate: float, pid: int) -> dict[str, Any]:
    """A constant rate of requests, and the server's resources meanwhile."""
    process, seen, until = psutil.Process(pid), Seen(), asyncio.Event()
    samples: list[tuple[float, int, int, int]] = []
    began, running = time.monotonic(), set()
    draw = random.Random(1)
    others = [asyncio.create_task(slow(port, until)) for _ in range(4)]
    others.append(asyncio.create_task(vanishing(port, random.Random(9), until)))
    async with connected(port) as client:
        due = began
        while due < began + 60 * minutes:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(ask(client, expected, draw, 0.4, seen))
            running.add(task)
            task.add_done_callback(running.discard)
            due += 1 / rate
            if not samples or time.monotonic() - samples[-1][0] >= 1:
                memory = process.memory_info().rss
                samples.append((time.monotonic(), memory, process.num_threads(), process.num_fds()))
        await asyncio.gather(*running)
    until.set()
    await asyncio.gather(*others)
    half = np.array(samples[len(samples) // 2 :], dtype=np.float64)
    slope = float(np.polyfit(half[:, 0] - half[0, 0], half[:, 1], 1)[0]) if len(half) > 2 else math.nan
    first, last = (np.median([one[1] for one in part]) / 1e6 for part in (samples[:30], samples[-30:]))
    return {
        "minutes": minutes,
        "requests": seen.right + sum(seen.wrong.values()),
        "wrong": dict(seen.wrong),
        "overloaded": seen.overloaded,
        "rss_mb": {
            "first_30_s": float(first),
            "last_30_s": float(last),
            "most": max(one[1] for one in samples) / 1e6,
        },
        "rss_mb_by_minute": [round(one[1] / 1e6) for one in samples[::60]],
        "rss_growth_mb_an_hour": slope * 3600 / 1e6,
        "threads": sorted({one[2] for one in samples}),
        "open_files": [min(one[3] for one in samples), max(one[3] for one in samples)],
    }


async def stopped(port: int, expected: Expected, server: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Send SIGTERM while requests are being answered."""
    seen = Seen()
    async with connected(port) as client:
        tasks = [asyncio.create_task(ask(client, expected, random.Random(i), 0, seen)) for i in range(64)]
        await asyncio.sleep(0.15)
        server.send_signal(signal.SIGTERM)
        await asyncio.gather(*tasks)
    code = await asyncio.to_thread(server.wait, 90)
    # Requests after the signal find no server, which is not a wrong answer.
    refused = sum(count for what, count in seen.wrong.items() if what == "no answer: ConnectError")
    wrong = {what: count for what, count in seen.wrong.items() if what != "no answer: ConnectError"}
    return {"exit_code": code, "answered": seen.right, "not_accepted": refused, "wrong": wrong}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=0.2)
    parser.add_argument("--rate", type=float, default=40.0, help="requests per second in those minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    task = load_task(TaskConfig(name="demo"))
    train = task.split("train")
    texts, names = train.texts, [task.labels[int(i)] for i in train.labels]  # type: ignore[arg-type]  # one label each
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = FusionClassifier(encoders=["minilm-l6"], head="linear", store=folder / "store", verbose=False)
        model.fit(texts[:400], names[:400]).save_pretrained(folder / "model")
        asked = [f"{MARK} {text}" for text in texts[400:600]]
        labels = [str(label) for label in model.classes_]
        expected = Expected(
            {
                t: dict(zip(labels, map(float, p), strict=True))
                for t, p in zip(asked, model.predict_proba(asked), strict=True)
            }
        )
        port = free_port()
        limits = {
            "--port": port,
            "--api-key": KEY,
            "--max-client-batch-size": BATCH,
            "--max-text-characters": CHARACTERS,
            "--payload-limit": PAYLOAD,
            "--max-concurrent-requests": AT_ONCE,
        }
        options = [str(part) for pair in limits.items() for part in pair]
        command = [sys.executable, "-m", "fusion_classifier", "serve", str(folder / "model"), *options]
        with (folder / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as server:
            try:
                while httpx_fails(port):
                    if server.poll() is not None:
                        raise FecError(f"the server ended: {(folder / 'log').read_text()}")
                    time.sleep(0.2)
                mix = asyncio.run(mixed(port, expected, given.requests, given.clients, given.seed))
                result: dict[str, Any] = {
                    "requests": given.requests,
                    "clients": given.clients,
                    "right": mix.right,
                    "wrong": dict(mix.wrong),
                    "overloaded": mix.overloaded,
                    "greatest_difference": mix.difference,
                    "overload": asyncio.run(overload(port, expected)),
                    "steady": asyncio.run(steady(port, expected, given.minutes, given.rate, server.pid)),
                    "stop": asyncio.run(stopped(port, expected, server)),
                }
            finally:
                server.kill()
        written = (folder / "log").read_text("utf-8")
        leaks = {"texts": MARK, "key": KEY, "paths": str(folder), "stacks": "Traceback"}
        result["in_log"] = {what: len(re.findall(re.escape(sign), written)) for what, sign in leaks.items()}
    print(json.dumps(result, indent=1))


def httpx_fails(port: int) -> bool:
    """Whether the server does not answer yet."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health").status_code != 200
    except httpx.HTTPError:
        return True


if __name__ == "__main__":
    try:
        main()
    except FecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
