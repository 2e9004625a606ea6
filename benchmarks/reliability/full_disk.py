"""Runs commands on a disk that fills up: is it reported, is nothing lost, do they resume?

    python benchmarks/reliability/full_disk.py --disks 100
    python benchmarks/reliability/full_disk.py --disks 10 --only run

Each command is run once on a file system with enough space, to determine its size. Then it is run on others of
a random smaller size: it must exit with code 1 and a one-sentence error (or succeed, if the output fits); then the
file system is enlarged, and the same command must give the same result: features bit by bit, and every file except
times. Other output, such as the store, is not on that disk unless the command is about it.

File systems are in memory (tmpfs), which requires root. Prints, as JSON, by command: `disks`, `full` (number that
were too small), `different` (must be empty).
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crash import HEAD, TASK, ended, features, files, in_child, started

from fusion_classifier.errors import FecError

ROOM = "500M"
PAGE = 4096


@dataclass(frozen=True)
class Command:
    """A command for a disk: its arguments for a folder there, and its prerequisites."""

    arguments: Callable[[Path], list[str]]
    before: tuple[str, ...] = ()


@dataclass
class Found:
    """Result of a command."""

    disks: int = 0
    full: int = 0
    different: list[str] = field(default_factory=list)


@contextmanager
def disk(place: Path) -> Iterator[Path]:
    """A file system with enough space."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def resize(place: Path, size: int | str) -> None:
    """Resize a file system, in bytes."""
    subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)


def contents(folder: Path) -> dict[str, str]:
    """Digest of each file, and of each feature of a store, by name."""
    store = folder / "store"
    there = {name: digest for name, digest in files(folder).items() if not name.startswith("store/")}
    return there | (features(store) if store.is_dir() else {})


def wrong(code: int, said: str) -> str:
    """Problems in how a command ended on a disk that may be too small."""
    sentences = [line for line in said.splitlines() if line.startswith("error: ")]
    if code not in (0, 1) or "Traceback" in said or len(sentences) != code:
        return f"exit code {code}: {said[-300:]!r}"
    return ""


def tried(name: str, commands: dict[str, Command], disks: int, draw: random.Random, root: Path) -> Found:
    """Run a command on this number of disks."""
    found, command = Found(), commands[name]

    def prepared(folder: Path) -> int:
        for before in command.before:
            if code := ended(started(commands[before].arguments(folder))):
                raise FecError(f"{before}: ended with {code} on a disk with room")
        return shutil.disk_usage(folder).used

    with disk(root / "reference") as folder:
        least = prepared(folder)
        if code := ended(started(command.arguments(folder))):
            raise FecError(f"{name}: ended with {code} on a disk with room")
        most = shutil.disk_usage(folder).used
        expected = in_child(contents, folder)
    for number in range(disks):
        found.disks += 1
        with disk(root / f"disk-{number}") as folder:
            used = prepared(folder)
            size = max(used + round(draw.random() * (most - least)), PAGE)
            resize(folder, size)
            said = root / "said"
            code = ended(started(command.arguments(folder), said))
            found.full += code == 1
            problems = [wrong(code, said.read_text("utf-8", "replace"))]
            resize(folder, ROOM)
            if code := ended(started(command.arguments(folder))):
                problems.append(f"exit code {code} with room")
            now = in_child(contents, folder)
            names = [name for name in expected.keys() | now.keys() if expected.get(name) != now.get(name)]
            if names:
                problems.append(f"other contents: {sorted(names)[:5]}")
            if any(problems):
                found.different.append(f"{size:,} of {most:,} bytes: {'; '.join(filter(None, problems))}")
    return found


def commands_of(root: Path) -> dict[str, Command]:
    """Commands by name."""
    texts, store = root / "texts.csv", root / "store"
    texts.write_text("text\n" + "\n".join(f"a lovely day number {i}" for i in range(300)) + "\n", "utf-8")
    here = [*TASK, "--head", "fusion", "--store", str(store)]
    if ended(started(["extract", *here])) or ended(
        started(["extract", *TASK, "--head", "linear", "--store", str(store)])
    ):
        raise FecError("an extraction failed")

    def writing(command: str, *more: str) -> Callable[[Path], list[str]]:
        return lambda folder: [command, *TASK, *more, "--store", str(store), "--out", str(folder / "out")]

    return {
        "extract": Command(
            lambda folder: ["extract", *TASK, "--head", "fusion", "--store", str(folder / "store")],
        ),
        "train": Command(writing("train", *HEAD)),
        "run": Command(
            lambda folder: ["run", *TASK, *HEAD, "--store", str(folder / "store"), "--out", str(folder / "run")]
        ),
        "train again": Command(writing("run", *HEAD, "--no-report"), before=("train",)),
        "export": Command(writing("export")),
        "audit": Command(writing("audit", "--no-label-errors")),
        "predict": Command(
            lambda folder: ["predict", "go-emotions", "--file", str(texts), "--out", str(folder / "answers.parquet")]
        ),
        "project": Command(
            lambda folder: [
                *("project", "minilm-l6", "demo", "--limit", "100", "--width", "16"),
                *("--store", str(store), "--out", str(folder / "p.safetensors")),
            ]
        ),
        "optimize": Command(
            lambda folder: ["optimize", "go-emotions", "--no-encoders", "--out", str(folder / "graphs")]
        ),
        "tune": Command(
            lambda folder: [
                *("tune", "minilm-l6", "demo", "--limit", "30", "--epochs", "1", "--max-length", "16"),
                *("--store", str(store), "--out", str(folder / "tuned")),
            ]
        ),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--disks", type=int, default=50)
    parser.add_argument("--only", action="append")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if os.geteuid():
        raise FecError("mounting file systems requires root")
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        commands = commands_of(Path(folder))
        chosen = given.only or list(commands)
        if unknown := set(chosen) - set(commands):
            raise FecError(f"--only {unknown.pop()!r}: choose from {', '.join(commands)}")
        for name in chosen:
            place = Path(folder) / name.replace(" ", "-")
            place.mkdir()
            disks = max(1, round(given.disks / len(chosen)))
            result[name] = vars(tried(name, commands, disks, random.Random(given.seed), place))
            print(f"{name}: {result[name]}", file=sys.stderr, flush=True)
    total: dict[str, int] = {key: sum(one[key] for one in result.values()) for key in ("disks", "full")}
    total["different"] = sum(len(one["different"]) for one in result.values())
    print(json.dumps(result | {"all": total}, indent=1))
    sys.exit(bool(total["different"]))


if __name__ == "__main__":
    try:
        main()
    except FecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
