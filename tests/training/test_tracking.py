"""What trackers are told: read back from the real ones, and compared with what training wrote."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from fusion_classifier.cli.main import app
from fusion_classifier.config import RunConfig, TaskConfig
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.errors import FecError, UsageError
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.registry import parse_head
from fusion_classifier.runs.context import RunContext
from fusion_classifier.runs.pipeline import run, train_task
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.loaded import LoadedTask
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.training import tracking
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.result import Epoch
from fusion_classifier.training.tracking import ToolName, Tracking, flat, track

pytestmark = pytest.mark.slow  # many commands or trainings

SECRET = "a text that nobody else may read"
Seeds = dict[str, dict[str, list[tuple[int, Any]]]]  # by seed and figure: steps and values


@pytest.fixture(scope="module")
def setting(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, LoadedTask, RunContext]:
    """Two seeds of three epochs on a file of one's own."""
    folder = tmp_path_factory.mktemp("tracking")
    rows = [f"{t} {i},{m}" for i in range(16) for t, m in (("we won", "joy"), (SECRET, "fear"), ("he lied", "anger"))]
    (folder / "moods.csv").write_text("\n".join(["text,label", *rows]), "utf-8")
    config = RunConfig(
        task=TaskConfig(name=str(folder / "moods.csv")),
        encoders=(parse_encoder(str(bert_folder)),),
        head=parse_head("llmembed", width=16),
        training=recipe("default", "llmembed", max_epochs=3),
        seeds=(0, 1),
    )
    work = RunContext(FeatureStore(folder / "store"), torch.device("cpu"), QUIET)
    return config, load_task(config.task), work


def tracked(
    tool: ToolName, setting: tuple[RunConfig, LoadedTask, RunContext], out: Path, project: str | None = None
) -> Tracking:
    config, task, _ = setting
    return track(tool, project, config, task.name, out, print)


def read_tensorboard(out: Path, _project: str) -> Seeds:
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    result: Seeds = {}
    for folder in sorted((out / "tensorboard").iterdir()):
        events = EventAccumulator(str(folder))
        events.Reload()
        result[folder.name.removeprefix("seed-")] = {
            name: [(one.step, one.value) for one in events.Scalars(name)] for name in events.Tags()["scalars"]
        }
    return result


def read_mlflow(_out: Path, project: str) -> Seeds:
    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name(project)
    assert experiment is not None
    result: Seeds = {}
    for one in client.search_runs([experiment.experiment_id]):
        assert one.info.status == "FINISHED"
        assert one.data.tags["fec.seed"] not in result, "a seed is one run"
        result[one.data.tags["fec.seed"]] = {
            name: [(point.step, point.value) for point in client.get_metric_history(one.info.run_id, name)]
            for name in one.data.metrics
        }
    return result


def read_trackio(_out: Path, project: str) -> Seeds:
    """In a process of its own: Trackio settles its folder when it is imported."""
    code = """import json, sys, trackio
from trackio.sqlite_storage import SQLiteStorage
project = sys.argv[1]
runs = [(run.name, run.config, SQLiteStorage.get_logs(project, run.name)) for run in trackio.Api().runs(project)]
print(json.dumps(runs))
"""
    done = subprocess.run([sys.executable, "-c", code, project], check=True, capture_output=True, text=True)
    result: Seeds = {}
    for name, config, rows in json.loads(done.stdout.splitlines()[-1]):
        seed = name.rpartition("-")[2]
        assert config["seed"] == int(seed)
        assert config["head.name"] == "llmembed"
        assert seed not in result, "a seed is one run"
        figures: dict[str, list[tuple[int, float]]] = {}
        for row in rows:
            for key, value in row.items():
                if key not in ("step", "timestamp"):
                    figures.setdefault(key, []).append((row["step"], value))
        result[seed] = figures
    return result


READ = {"tensorboard": read_tensorboard, "mlflow": read_mlflow, "trackio": read_trackio}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of each tool's own, by its own settings."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # without a server the slim mlflow has no other
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    for name, module in list(sys.modules.items()):  # settled at import
        if name.partition(".")[0] == "trackio":
            monkeypatch.delitem(sys.modules, name)
            del module
    return tmp_path


@pytest.mark.parametrize("tool", ["tensorboard", "mlflow", "trackio"])
def test_a_tracker_has_every_figure_once_and_no_text(
    tool: ToolName, setting: tuple[RunConfig, LoadedTask, RunContext], places: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(tool)
    config, task, work = setting
    out, project = places / "run", "moods-project"
    result = run(config, task, out, work, tracking=tracked(tool, setting, out, project))
    # The same command again finds all done.
    run(config, task, out, work, tracking=tracked(tool, setting, out, project))
    found = READ[tool](out, project)
    assert set(found) == {"0", "1"}
    for position, (seed, figures) in enumerate(sorted(found.items())):
        history = json.loads((out / "seeds" / seed / "training.json").read_text())["history"]
        for name, key in {"train/loss": "train_loss", "valid/weighted_f1": "valid_weighted_f1"}.items():
            expected = [(epoch["epoch"], pytest.approx(epoch[key], rel=1e-5)) for epoch in history]
            assert figures[name] == expected
        for split in ("valid", "test"):
            for metric in ("accuracy", "macro_f1", "nll"):
                summary = result.metrics[split][metric]["values"][position]
                assert figures[f"final/{split}/{metric}"] == [(3, pytest.approx(summary, rel=1e-5))]
    if tool != "tensorboard":
        assert next(places.rglob("*metrics*.json"), None) or any((places / tool).rglob("blobs/*/*/*"))
    kept = out / "tensorboard" if tool == "tensorboard" else places / tool
    everything = b"".join(path.read_bytes() for path in kept.rglob("*") if path.is_file())
    assert SECRET.encode() not in everything
    assert capfd.readouterr().out == "", "standard output is for results"


def test_seeds_trained_without_a_tracker_are_logged_later(
    setting: tuple[RunConfig, LoadedTask, RunContext], tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    config, task, work = setting
    run(config, task, tmp_path / "run", work)
    train_task(config, task, tmp_path / "run", work, tracking=tracked("tensorboard", setting, tmp_path / "run"))
    found = read_tensorboard(tmp_path / "run", "")
    assert [step for step, _ in found["1"]["valid/loss"]] == [1, 2, 3]
    assert "final/test/accuracy" not in found["1"]
    run(config, task, tmp_path / "run", work, tracking=tracked("tensorboard", setting, tmp_path / "run"))
    found = read_tensorboard(tmp_path / "run", "")
    assert len(found["1"]["final/test/accuracy"]) == len(found["1"]["best/epoch"]) == 1


class Interrupted(BaseException):
    """As a signal raises."""


@pytest.mark.parametrize("tool", ["tensorboard", "mlflow", "trackio"])
def test_an_interrupted_seed_is_in_the_tracker_once(
    tool: ToolName, setting: tuple[RunConfig, LoadedTask, RunContext], places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(tool)
    config, task, work = setting
    out = places / "run"
    original, count = tracking._figures, 0

    def stopped(epoch: Epoch) -> dict[str, float]:
        nonlocal count
        count += 1
        if count == 2:
            raise Interrupted
        return original(epoch)

    monkeypatch.setattr(tracking, "_figures", stopped)
    with pytest.raises(Interrupted):
        run(config, task, out, work, tracking=tracked(tool, setting, out, "p"))
    monkeypatch.setattr(tracking, "_figures", original)
    run(config, task, out, work, tracking=tracked(tool, setting, out, "p"))
    found = READ[tool](out, "p")
    assert [step for step, _ in found["0"]["valid/loss"]] == [1, 2, 3]


class Failing:
    """A tracker whose server goes away after some calls."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def open(self, _group: str, _parameters: Mapping[str, Any], _key: str | None) -> str:
        self.log()
        return "a run"

    def log(self, *_: object) -> None:
        self.left -= 1
        if self.left < 0:
            raise ConnectionError("no route to host\nand a long story")

    close = log


@pytest.mark.parametrize("calls", [0, 2, 6, 11, 17])
def test_a_tracker_that_fails_does_not_stop_the_run(
    calls: int, setting: tuple[RunConfig, LoadedTask, RunContext], tmp_path: Path
) -> None:
    config, task, work = setting
    said: list[str] = []
    follower = Tracking(Failing(calls), "mlflow", tmp_path / "run", {}, said.append)
    result = run(config, task, tmp_path / "run", work, tracking=follower)
    assert said == ["mlflow stopped accepting metrics (no route to host); the run continues without it"]
    assert result.metrics["seeds"] == [0, 1]


def test_a_missing_server_is_an_error_before_training(
    setting: tuple[RunConfig, LoadedTask, RunContext], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(FecError, match=r"`track`: mlflow .* MLFLOW_TRACKING_URI"):
        tracked("mlflow", setting, tmp_path)


def test_a_missing_package_is_named_with_the_way_out(
    setting: tuple[RunConfig, LoadedTask, RunContext], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for tool in tracking.TOOLS:
        with pytest.raises(UsageError, match=rf"pip install 'llm-fusion-classifier\[{tool}\]'"):
            tracked(tool, setting, tmp_path)


def test_a_configuration_becomes_flat_names() -> None:
    nested = {"head": {"name": "linear"}, "encoders": [{"name": "a", "path": None}], "seeds": [0, 1]}
    assert flat(nested) == {"head.name": "linear", "encoders.0.name": "a", "seeds": [0, 1]}


def test_the_command_line_tracks_and_overwrites(
    setting: tuple[RunConfig, LoadedTask, RunContext], bert_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard")
    config, _, work = setting
    command = [
        "run",
        config.task.name,
        "-e",
        str(bert_folder),
        "--head",
        "llmembed",
        "--width",
        "16",
        "--store",
        str(work.store.root),
    ]
    command += ["--out", str(tmp_path / "run")]
    for more in (["--epochs", "2"], ["--epochs", "3", "--overwrite"]):
        done = CliRunner().invoke(app, [*command, "--track", "tensorboard", *more])
        assert done.exit_code == 0, done.output
    found = read_tensorboard(tmp_path / "run", "")
    assert [step for step, _ in found["0"]["train/loss"]] == [1, 2, 3]
    wrong = CliRunner().invoke(app, [*command, "--track-project", "x"])
    assert str(wrong.exception) == "--track-project requires --track"
