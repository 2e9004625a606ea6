"""Kills commands with SIGKILL at random moments and runs them again: is the result the same as without a kill?

    python benchmarks/reliability/crash.py --kills 200 --json
    python benchmarks/reliability/crash.py --kills 12 --only run

Scenarios: `extract` (this process encodes), `ray` (workers encode), `train`, `run`, `predict` (a file) and `serve`.
A command is run once undisturbed; kills are drawn from the duration of that run, so that they hit start, work and
writing of results. Then: up to three consecutive kills in one folder, the same command again to the end, and a
comparison with the undisturbed run: features bit by bit, every file of a run folder (except times and plots of them),
answers. A killed server must leave nothing that prevents the next one from answering correctly. All with real weights
(MiniLM) and texts of the demo corpus.

Processes are forked from this one after its imports, which would otherwise take most of each run; Ray's are started
from scratch. Prints, as JSON, by scenario: kills, kills that hit a running command, comparisons, differences (must be
0), files left behind by kills.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import torch

from fusion_classifier.classifier import estimator as classifier
from fusion_classifier.cli import main as cli
from fusion_classifier.commands import report
from fusion_classifier.errors import FecError
from fusion_classifier.runs import pipeline as run
from fusion_classifier.serving import server

assert all((classifier, report, run, server)), "imported once, before the forks"

IN_A_ROW = 3
# They contain times, or depend on them.
WITH_TIMES = ("stages.json", "report.html", ".lock", "training_curves.png")
TIMES = ("seconds", "stages", "encoded_texts")
SHARES = {"extract": 0.25, "ray": 0.05, "train": 0.25, "run": 0.25, "predict": 0.1, "serve": 0.1}
TASK = ("demo", "-e", "minilm-l6", "--limit", "150")
HEAD = ("--head", "fusion", "--width", "32", "--epochs", "3", "--seeds", "2")


@dataclass
class Found:
    """Result of a scenario."""

    kills: int = 0
    at_work: int = 0
    compared: int = 0
    different: list[str] = field(default_factory=list)
    left_behind: int = 0


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def started(arguments: Sequence[str], said: Path = Path(os.devnull)) -> int:
    """A forked process for a command; it leads a process group, so that its children are killed with it.

    Its standard error is written to the file `said`.
    """
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(nothing, number)
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    try:
        torch.set_num_threads(1)
        cli.main(arguments)
    except SystemExit as ended:
        os._exit(int(ended.code or 0))
    except BaseException:
        os._exit(99)
    os._exit(98)


def ended(pid: int) -> int:
    """Its exit code; the negative signal number if it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed(pid: int, after: float) -> bool:
    """Kill it and its children after this many seconds; whether it was still running."""
    time.sleep(after)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return ended(pid) == -signal.SIGKILL


def in_child(work: Callable[[Path], Any], folder: Path) -> Any:
    """Run a function in a fork and return its result: threads of Arrow and Lance would not survive later forks."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        with os.fdopen(writing, "w") as pipe:
            json.dump(work(folder), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        result = json.load(pipe)
    if ended(pid):
        raise FecError("a comparison failed")
    return result


def features(store: Path) -> dict[str, str]:
    """Digest of each text's feature, and the findings of `verify`."""
    import lance  # noqa: PLC0415 - only in a fork

    from fusion_classifier.features.store import FeatureStore  # noqa: PLC0415

    found = {}
    here = FeatureStore(store)
    for key in here.keys():  # noqa: SIM118 - a method
        table = lance.dataset(str(store / f"{key}.lance")).to_table().combine_chunks()
        for row in range(table.num_rows):
            value = table.slice(row, 1).to_pylist()[0]
            name = f"{key}/{bytes(value.pop('text_hash')).hex()}"
            found[name] = hashlib.sha256(json.dumps(value).encode()).hexdigest()
        found |= {f"{key} verify {i}": problem for i, problem in enumerate(here.verify(key))}
    return found


def files(folder: Path) -> dict[str, str]:
    """Digest of each file of a run folder by name, without times and leftovers of kills."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or path.name in WITH_TIMES or any(part.startswith(".") for part in Path(name).parts):
            continue
        content = path.read_bytes()
        if path.suffix == ".json":
            content = json.dumps(without_times(json.loads(content)), sort_keys=True).encode()
        if path.name == "config.yaml":  # the source may change during the campaign
            content = re.sub(rb"\n  commit: .*", b"", content)
        if path.suffix == ".md":
            content = b"\n".join(line for line in content.splitlines() if not re.search(rb" s | minutes", line))
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def without_times(value: Any) -> Any:
    """The same without the entries with times."""
    if isinstance(value, dict):
        return {key: without_times(one) for key, one in value.items() if key not in TIMES}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def left_behind(folder: Path) -> int:
    """Temporary files of killed processes."""
    return sum(1 for path in folder.rglob(".*") if ".tmp" in path.name or path.name.endswith(".old"))


def repeated(
    command: Callable[[Path], list[str]],
    look: Callable[[Path], dict[str, str]],
    kills: int,
    draw: random.Random,
    root: Path,
    prepare: Callable[[Path], None] = lambda _: None,
) -> Found:
    """Kills and comparisons of one command, one folder per series."""
    found = Found()
    reference = root / "undisturbed"
    reference.mkdir(parents=True)
    prepare(reference)
    began = time.monotonic()
    if code := ended(started(command(reference))):
        raise FecError(f"{' '.join(command(reference))}: ended with {code} although nothing disturbed it")
    longest = time.monotonic() - began
    expected = in_child(look, reference)
    series = 0
    while found.kills < kills:
        series += 1
        folder = root / f"series-{series}"
        folder.mkdir()
        prepare(folder)
        for _ in range(min(IN_A_ROW, kills - found.kills)):
            found.at_work += killed(started(command(folder)), draw.uniform(0, 1.05 * longest))
            found.kills += 1
        code = ended(started(command(folder)))
        now = in_child(look, folder)
        found.compared += 1
        differences = [name for name in expected.keys() | now.keys() if expected.get(name) != now.get(name)]
        if code or differences:
            found.different.append(f"series {series}: exit code {code}, {sorted(differences)[:5]}")
        found.left_behind += left_behind(folder)
    return found


def serving(kills: int, draw: random.Random, root: Path) -> Found:
    """Kill servers under load; the next one on the same port must give the same answers."""
    found = Found()
    root.mkdir()
    port = free_port()
    command = ["serve", "go-emotions", "--port", str(port), "--no-page"]
    url, asked = f"http://127.0.0.1:{port}", {"inputs": [["what a lovely day"], ["he broke it again"]]}

    def up() -> int:
        pid = started(command)
        until = time.monotonic() + 120
        while time.monotonic() < until:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{url}/health").status_code == 200:
                    return pid
            time.sleep(0.05)
        raise FecError("a server does not start")

    def answer() -> Any:
        return httpx.post(f"{url}/predict", json=asked, timeout=60).json()

    pid = up()
    expected = answer()
    while found.kills < kills:
        for _ in range(draw.randrange(4)):
            found.compared += 1
            if answer() != expected:
                found.different.append(f"kill {found.kills}: another answer")
        asking = os.fork()
        if not asking:  # a client during a request: a broken connection or the right answer
            try:
                while True:
                    if answer() != expected:
                        os._exit(1)
            except httpx.HTTPError:
                os._exit(0)
            os._exit(1)
        found.at_work += killed(pid, draw.uniform(0, 0.5))
        found.kills += 1
        if ended(asking):
            found.different.append(f"kill {found.kills}: a client saw a wrong answer")
        pid = up()
    os.kill(pid, signal.SIGTERM)
    if code := ended(pid):
        found.different.append(f"the last server ended with {code}")
    return found


def scenarios(root: Path, draw: random.Random) -> dict[str, Callable[[int], Found]]:
    """Scenarios by name, as functions of the number of kills."""
    encoder = ("--head", "fusion", "--store")

    def extracted(folder: Path) -> None:
        if ended(started(["extract", *TASK, *encoder, str(folder / "store")])):
            raise FecError("an extraction failed")

    def extract(folder: Path) -> list[str]:
        return ["extract", *TASK, *encoder, str(folder / "store")]

    def by_ray(folder: Path) -> list[str]:
        return [*extract(folder), "--engine", "ray", "--workers", "1"]

    def writing(command: str) -> Callable[[Path], list[str]]:
        return lambda folder: [command, *TASK, *HEAD, "--store", str(folder / "store"), "--out", str(folder / "run")]

    texts = root / "texts.csv"
    texts.write_text("text\n" + "\n".join(f"a lovely day number {i}" for i in range(600)) + "\n", "utf-8")

    def predict(folder: Path) -> list[str]:
        return ["predict", "go-emotions", "--file", str(texts), "--out", str(folder / "answers.jsonl")]

    def stored(folder: Path) -> dict[str, str]:
        return features(folder / "store")

    def run_files(folder: Path) -> dict[str, str]:
        return files(folder / "run") | features(folder / "store")

    return {
        "extract": lambda kills: repeated(extract, stored, kills, draw, root / "extract"),
        "ray": lambda kills: repeated(by_ray, stored, kills, draw, root / "ray"),
        "train": lambda kills: repeated(writing("train"), run_files, kills, draw, root / "train", extracted),
        "run": lambda kills: repeated(writing("run"), run_files, kills, draw, root / "run"),
        "predict": lambda kills: repeated(predict, files, kills, draw, root / "predict"),
        "serve": lambda kills: serving(kills, draw, root / "serve"),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--only", choices=list(SHARES), action="append")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    shares = {name: share for name, share in SHARES.items() if not given.only or name in given.only}
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        here = scenarios(Path(folder), random.Random(given.seed))
        for name, share in shares.items():
            kills = max(1, round(given.kills * share / sum(shares.values())))
            result[name] = vars(here[name](kills))
            print(f"{name}: {result[name]}", file=sys.stderr, flush=True)
    total = {key: sum(one[key] for one in result.values()) for key in ("kills", "at_work", "compared", "left_behind")}
    total["different"] = sum(len(one["different"]) for one in result.values())
    print(json.dumps(result | {"all": total}, indent=1))
    sys.exit(bool(total["different"]))


if __name__ == "__main__":
    try:
        main()
    except FecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
