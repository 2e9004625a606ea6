"""The README and the pages of docs/: their commands work or parse, their Python runs, what they name exists."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import fec
from typer.testing import CliRunner

from fusion_classifier.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = [
    line.removeprefix("$ ").partition("  #")[0].strip()
    for page in PAGES
    for block in re.findall(r"```console\n(.*?)```", page.read_text("utf-8"), re.S)
    for line in block.splitlines()
    if line.startswith("$ ")
]
# Of these pages every Python block is run, one after another in one scope.
PYTHON_PAGES = [page for page in PAGES if "<!-- run by tests -->" in page.read_text("utf-8")]


def run(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=280
    )


def test_there_are_commands() -> None:
    assert any(command.startswith("fec run") for command in COMMANDS)


def test_make_targets_exist() -> None:
    targets = {command.split()[1] for command in COMMANDS if command.startswith("make ")}
    assert targets <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("fec ")])
def test_commands_are_understood(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options are parsed before help is shown: an unknown one fails."""
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(app, [*shlex.split(command.partition(" > ")[0])[1:], "--help"])
    assert done.exit_code == 0, done.output or done.exception


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in COMMANDS if re.match(r"python \w+\.py", command)])
def test_commands_of_the_original_are_understood(command: str) -> None:
    done = run([*shlex.split(command.partition(" > ")[0])[1:], "--help"], ROOT)
    assert done.returncode == 0, done.stderr


def test_files_and_tests_that_are_named_exist() -> None:
    folders = [ROOT / name for name in ("src", "tests", "benchmarks", "docs", "examples")]
    paths = [path for folder in folders for path in folder.rglob("*.py")] + list(ROOT.glob("*.py"))
    known = {path.stem for path in paths}
    known |= {name for path in paths for name in re.findall(r"def (test_\w+)", path.read_text("utf-8"))}
    places = [f"/{path.relative_to(ROOT).as_posix()}" for path in paths]
    missing = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for name, cut in re.findall(r"\b(test_\w+)(…?)", text):
            if name not in known and not (cut and any(test.startswith(name) for test in known)):
                missing.append(f"{page.name}: {name}")
        files = re.findall(r"`((?:[\w-]+/)*\w+\.py)\b", text)
        missing += [f"{page.name}: {name}" for name in files if not any(path.endswith(f"/{name}") for path in places)]
    assert missing == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("few_penalties", "few_steps")
def test_the_readmes_way_with_ones_own_file_works(bert_folder: Path, tmp_path: Path) -> None:
    """Run, predict and predict by file, on a file with the README's columns."""
    small, other = f"minilm-l6={bert_folder}?layers=3", f"mpnet-base={bert_folder}?layers=1"
    lines = (ROOT / "src/fusion_classifier/tasks/named/demo_corpus/train.csv").read_text("utf-8").splitlines()
    few = lines[1:61]
    for name, header in (("reviews", "comment,mood"), ("tickets", "message,team")):
        (tmp_path / f"{name}.csv").write_text("\n".join([header, *few]), "utf-8")
    shutil.copy(tmp_path / "reviews.csv", tmp_path / "new.csv")
    guide = "".join((ROOT / page).read_text("utf-8") for page in ("README.md", "docs/own-data.md"))
    ours = [
        c
        for c in dict.fromkeys(COMMANDS)
        if c in guide and ".xlsx" not in c and re.match(r"fec (?!serve).*(reviews|runs/tickets|runs/steps)", c)
    ]
    assert {c.split()[1] for c in ours} >= {"run", "predict", "extract", "train", "evaluate", "ablate", "audit"}
    for command in ours:
        words, _, target = command.partition(" > ")
        # One small model for all, and few steps: that the commands work is the question, not how well they learn.
        arguments = shlex.split(words.replace("minilm-l6", small).replace("mpnet-base", other))[1:]
        if arguments[0] in ("run", "extract", "train", "evaluate", "ablate"):
            arguments += ["--store", str(tmp_path / "store")]
        if arguments[0] in ("run", "train", "ablate"):
            arguments += ["--epochs", "2", "--min-steps", "0"]
        if arguments[0] == "run":
            arguments += ["--encoder", small, "--seeds", "1", *(["--no-report"] if "--config" in arguments else [])]
        done = fec(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        if target:
            assert len(done.stdout.splitlines()) == len(few)


@pytest.mark.slow
@pytest.mark.usefixtures("few_penalties", "few_steps")
@pytest.mark.parametrize("page", [ROOT / "README.md", *PYTHON_PAGES], ids=lambda page: page.name)
def test_the_python_of_a_page_works(
    page: Path, bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a few texts of the demo corpus, and small encoders and few steps instead of what the page says."""
    from fusion_classifier.tasks.named.demo import Demo

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    task = Demo().load()
    labels = [task.labels[i] for i in task.targets("train")[:60]]
    scope = {"texts": list(task.split("train").texts[:60]), "labels": labels}
    blocks = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.S)
    assert blocks
    for block in blocks:
        small = block.replace("FusionClassifier()", 'FusionClassifier("minilm-l6")')
        small = small.replace('"minilm-l6"', repr(f"minilm-l6={bert_folder}?layers=3"))
        small = small.replace('"mpnet-base"', repr(f"mpnet-base={bert_folder}?layers=1"))
        exec(re.sub(r'"max_epochs": \d+', '"max_epochs": 2', small), scope)  # noqa: S102 - our own documentation
    assert (tmp_path / "my-model" / "model.safetensors").is_file()
