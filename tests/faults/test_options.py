"""Whatever stands on the command line, `fec` ends with a result or a sentence and an exit code, never a traceback.

FEC_FUZZ_EXAMPLES=500 pytest tests/faults/test_options.py tries more.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from fuzzing import EXAMPLES, command_ends, fuzzed, given, st
from hypothesis import settings

from fusion_classifier.cli import main as cli

pytestmark = [pytest.mark.linux, pytest.mark.slow]  # many commands or trainings

WORDS = ["", " ", "a,b", "=", "x=", "=x", "?layers=", "NAME=PATH", "-", "--", "{}", "{text}", "%s", "[bold]", "none"]
NUMBERS = ["-1", "0", "1", "3", "1e309", "nan", "inf", "-inf", "1_0", "0x10", "٣", str(2**63), "9" * 5000]
ODD = ["\udc80", "🧟", "\u202eabc", "\x1b[2J", "a\nb", "x" * 5000, "../..", "/", "/dev/null", "/proc/1/mem", "loop"]
PLACES = ["s3://", "s3://key:secret@bucket/x", "http://127.0.0.1:1/x", "~nobody/x", "~", "gpt2", "owner/none"]
VALUES = ["data.csv", "store", "model", "texts.txt", "empty", "test", "valid", "joy", "linear", "llmembed", "int8"]
values = st.sampled_from([*WORDS, *NUMBERS, *ODD, *PLACES, *VALUES])
ELSEWHERE = {"--engine": "ray", "--track": "*"}  # what takes long to begin has tests of its own

RUN = ["data.csv", "-e", "ENCODER", "--head", "linear", "--epochs", "1", "--store", "store"]
BEGINNINGS: dict[str, list[str]] = {
    "tasks": [],
    "encoders": [],
    "doctor": ["--store", "store"],
    "models": [],
    "store": ["--store", "store"],
    "store verify": ["--store", "store"],
    "store clean": ["--store", "store"],
    "store delete": ["small", "--store", "store"],
    "extract": ["data.csv", "-e", "ENCODER", "--head", "linear", "--store", "store"],
    "train": RUN,
    "run": [*RUN, "--no-report"],
    "evaluate": ["model", "--task", "data.csv", "--store", "store"],
    "predict": ["model", "we won"],
    "serve": ["model"],
    "project": ["ENCODER", "data.csv", "--width", "4", "--out", "p.safetensors", "--store", "store"],
    "tune": ["ENCODER", "data.csv", "--epochs", "1", "--out", "tuned", "--store", "store"],
    "distill": ["model", "--into", "ENCODER", "--task", "data.csv", "--out", "student", "--store", "store"],
    "explain": ["model", "we won"],
    "ablate": [*RUN, "--out", "ablated"],
    "export": ["data.csv", "-e", "ENCODER", "--head", "linear", "--store", "store", "--out", "out.npz"],
    "optimize": ["model", "--out", "graphs", "--no-encoders"],
    "compare": ["model", "model"],
    "report": ["model"],
    "audit": ["data.csv", "--no-label-errors", "--out", "audited"],
    "push": ["model", "owner/model"],
}


def commands(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, list[Any]]]:
    """Every command by its words, with its parameters."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield " ".join([*before, name]), command.params
            yield from commands(command, (*before, name))
        else:
            yield " ".join([*before, name]), command.params


PARAMETERS = dict(commands(typer.main.get_command(cli.app)))


@pytest.fixture(scope="module")
def place(bert_folder: Path, saved_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the beginnings name."""
    folder = tmp_path_factory.mktemp("options") / "here"
    shutil.copytree(saved_model, folder / "model")
    rows = [f"{text} {i},{label}" for i in range(10) for text, label in [("we won", "joy"), ("it is dark", "fear")]]
    (folder / "data.csv").write_text("\n".join(["text,label", *rows]) + "\n", "utf-8")
    (folder / "texts.txt").write_text("we won\n", "utf-8")
    (folder / "empty").mkdir()
    (folder / "loop").symlink_to("loop")
    return folder


def test_every_command_is_tried() -> None:
    assert set(BEGINNINGS) == set(PARAMETERS)


@st.composite
def changes(draw: st.DrawFn, command: str) -> list[str]:
    """What is added to a call that works, before or after it."""
    added: list[str] = []
    for _ in range(draw(st.integers(0, 3))):
        parameter = draw(st.sampled_from(PARAMETERS[command]))
        if parameter.param_type_name == "argument":
            added.append(draw(values))
            continue
        name = draw(st.sampled_from([*parameter.opts, *parameter.secondary_opts]))
        if parameter.is_flag:
            added.append(name)
            continue
        value = draw(values)
        if ELSEWHERE.get(name) not in (value, "*"):
            added += [name, value]
    return added


def in_a_folder(arguments: list[str], place: Path, folder: Path, patch: pytest.MonkeyPatch) -> int:
    """The exit code of a command that runs in a copy of the place."""
    shutil.copytree(place, folder, symlinks=True)
    # A server that runs has tests of its own.
    patch.setattr("fusion_classifier.serving.server.serve", lambda *_, **__: None)
    patch.setattr("fusion_classifier.serving.kernels.keep_few_kernels", lambda: None)
    patch.setenv("HOME", str(folder))
    return command_ends(arguments, folder)


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "data.csv", "--split-seed", "-1"],
        ["run", "data.csv", "--split-seed", str(2**32)],
        ["run", "data.csv", "--seeds", str(10**9)],
        ["audit", "data.csv", "--no-label-errors", "--label-separator", "\udc80"],
        ["project", "minilm-l6", "data.csv", "--out", "p.safetensors", "--seed", "-1"],
        ["store", "verify", "--store", "x" * 5000],
        ["tune", "minilm-l6", "data.csv", "--out", "tuned", "--seed", "-1"],
    ],
)
def test_what_was_found_is_refused(
    arguments: list[str], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert in_a_folder(arguments, place, tmp_path / "here", monkeypatch) == 2


@pytest.mark.parametrize("command", BEGINNINGS)
@settings(fuzzed, max_examples=max(4, EXAMPLES // 8))
@given(data=st.data())
def test_any_options(
    command: str,
    data: st.DataObject,
    place: Path,
    bert_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    call = [f"{bert_folder}?dtype=float32" if word == "ENCODER" else word for word in BEGINNINGS[command]]
    added = data.draw(changes(command))
    arguments = [*command.split(), *(call + added if data.draw(st.booleans()) else added + call)]
    with monkeypatch.context() as patch:
        in_a_folder(arguments, place, tmp_path_factory.mktemp("call") / "here", patch)
