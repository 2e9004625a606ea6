"""`--config`: a run from the configuration of another, changed by options."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import fec

pytestmark = pytest.mark.slow  # many commands or trainings


def read(out: Path) -> dict[str, Any]:
    run = yaml.safe_load((out / "config.yaml").read_text("utf-8"))["run"]
    assert isinstance(run, dict)
    return run


@pytest.fixture(scope="module")
def first(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data.csv`, a store and a run in `run`."""
    folder = tmp_path_factory.mktemp("config")
    rows = [f"{text} {i},{label}" for i in range(20) for text, label in [("we won", "joy"), ("it is dark", "fear")]]
    (folder / "data.csv").write_text("\n".join(["comment,mood", *rows]) + "\n", "utf-8")
    columns = ("--text-column", "comment", "--label-column", "mood")
    done = fec(
        *("run", folder / "data.csv", *columns, "-e", f"{bert_folder}?max_length=60", "--head", "llmembed"),
        *("--width", 16, "--lr", "0.003", "--epochs", 3, "--seeds", 2),
        *("--store", folder / "store", "--out", folder / "run", "--no-report"),
    )
    assert done.returncode == 0, done.stderr
    return folder


def again(first: Path, out: Path, *options: object, command: str = "run") -> Path:
    no_report = ("--no-report",) if command == "run" else ()
    place = ("--store", first / "store", "--out", out, *no_report)
    done = fec(command, "--config", first / "run" / "config.yaml", *place, *options)
    assert done.returncode == 0, done.stderr
    return out


def test_a_run_is_repeated_with_one_line(first: Path, tmp_path: Path) -> None:
    out = again(first, tmp_path / "again")
    assert (out / "config.yaml").read_text("utf-8") == (first / "run" / "config.yaml").read_text("utf-8")
    before, now = (json.loads((run / "metrics.json").read_text("utf-8")) for run in (first / "run", out))
    for part in ("valid", "test", "per_class", "temperatures", "best_epochs"):
        assert now[part] == before[part]


def test_options_win_over_the_file(first: Path, tmp_path: Path) -> None:
    options = ("--lr", "0.01", "--dropout", "0.1", "--seeds", 1, "--limit", 15, "--pooling", "max")
    before, now = read(first / "run"), read(again(first, tmp_path / "out", *options))
    assert (now["task"].pop("limit"), before["task"].pop("limit")) == (15, None)
    assert now["task"] == before["task"]
    assert now["head"] == before["head"] | {"dropout": 0.1}
    assert now["training"] == before["training"] | {"learning_rate": 0.01}
    assert now["seeds"] == [0]
    (encoder,), (old,) = now["encoders"], before["encoders"]
    assert encoder == old | {"pooling": "max", "name": f"{old['name'].partition('?')[0]}?pooling=max&max_length=60"}


def test_another_head_starts_from_its_defaults(first: Path, tmp_path: Path) -> None:
    now = read(again(first, tmp_path / "out", "--head", "fusion", "--epochs", 1))
    assert now["head"]["width"] == 256
    assert now["training"]["learning_rate"] == 2e-3
    assert now["encoders"][0]["pooling"] == "tokens", "what this head reads"
    assert now["encoders"][0]["max_length"] == 60, "as in the file"


def test_a_recipe_replaces_the_training_alone(first: Path, tmp_path: Path) -> None:
    now = read(again(first, tmp_path / "out", "--recipe", "published", "--epochs", 1))
    assert now["head"]["width"] == 16
    assert now["training"]["learning_rate"] == 1e-4
    assert now["training"]["max_epochs"] == 1


def test_train_and_bare_configurations_work_too(first: Path, roberta_folder: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.yaml"
    bare.write_text(yaml.safe_dump(read(first / "run")), "utf-8")
    place = ("--store", first / "store", "--out", tmp_path / "out")
    assert fec("train", "--config", bare, *place).returncode == 0
    assert read(tmp_path / "out") == read(first / "run")
    extracted = fec("extract", "--config", bare, "-e", roberta_folder, "--store", first / "store", "--json")
    (report,) = json.loads(extracted.stdout)
    assert report["encoder"] == roberta_folder.name


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda run: run["training"].update(learning_rate=-1), "run.training.learning_rate"),
        (lambda run: run["head"].update(name="huge"), "run.head"),
        (lambda run: run["head"].update(width="wide"), "run.head.width"),
        (lambda run: run["encoders"][0].update(colour="red"), "run.encoders[0].colour"),
        (lambda run: run.pop("task"), "run.task"),
        (lambda run: run.clear(), "run.task"),
    ],
)
def test_a_wrong_file_is_named_with_the_field(change: Any, says: str, first: Path, tmp_path: Path) -> None:
    run = read(first / "run")
    change(run)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"run": run}), "utf-8")
    done = fec("run", "--config", path, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert f"{path}: {says}: " in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"[", b"a: 1", b"\xff\xfe\x00", b"run: 7", b"- 1"])
def test_a_damaged_file_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    done = fec("run", "--config", path)
    assert done.returncode == 1
    assert str(path) in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_name_too_long_for_a_file_is_a_usage_error() -> None:
    done = fec("run", "--config", "x" * 5000)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --config: 'xxx")
    assert done.stderr.count("\n") == 1


def test_without_task_and_file_both_are_named() -> None:
    done = fec("run")
    assert done.returncode == 2
    assert "TASK" in done.stderr
    assert "--config" in done.stderr
