"""Reports a run to an experiment tracker: Trackio, MLflow or TensorBoard, each an extra.

Each seed is a run of the tracker. It gets the configuration, the metrics of each epoch as training proceeds, and at
the end the metrics of all splits and, if the tool stores files, `metrics.json` and the pictures. No text is ever
sent.

`tracking.json` in the run folder records what was logged, so that a resumed run logs nothing twice: an interrupted
seed is trained again with the same metrics, of which only the new ones are logged.
"""

# ruff: noqa: PLC0415  # each tool is an extra

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from fusion_classifier.config import RunConfig
from fusion_classifier.errors import FecError, reason
from fusion_classifier.support.extras import require
from fusion_classifier.support.files import atomic_write

if TYPE_CHECKING:
    from fusion_classifier.training.result import Epoch, TrainingResult

ToolName = Literal["trackio", "mlflow", "tensorboard"]
STATE_FILE = "tracking.json"
TENSORBOARD_FOLDER = "tensorboard"
FILES = ("metrics.json", "training_curves.png", "confusion_matrix.png", "risk_coverage.png", "f1_by_label.png")
# By default MLflow retries an unreachable server seven times, for minutes.
MLFLOW_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
MAX_PARAMETER_LENGTH = 500  # characters, MLflow's limit


class Tool(Protocol):
    """An experiment tracker with one open run. Any method may raise."""

    def open(self, group: str, parameters: Mapping[str, Any], key: str | None) -> str:
        """Open the run with this key, or a new one with these parameters; returns its key."""

    def log(self, figures: Mapping[str, float], step: int) -> None:
        """Add metrics to the open run."""

    def close(self, files: Sequence[Path]) -> None:
        """Add files to the open run and close it."""


@dataclass
class Tracking:
    """Reports training to a tool, if any. A tool that fails is reported once and then ignored."""

    tool: Tool | None = None
    name: str = ""
    out: Path = Path()
    config: Mapping[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = print
    opened: int | None = None  # seed of the open run

    def seed(self, seed: int) -> Callable[["Epoch"], None]:
        """Callback for one seed, called after each epoch."""
        return lambda epoch: self._safely(lambda tool: self._log_epoch(tool, seed, epoch))

    def trained(self, result: "TrainingResult") -> None:
        """Log a trained seed, including all epochs if it was trained without a tracker."""

        def log(tool: Tool) -> None:
            if self._state().get(str(result.seed), {}).get("state", "started") == "started":
                for epoch in result.history:
                    self._log_epoch(tool, result.seed, epoch)
                best = {f"best/{name}": value for name, value in _figures(result.best).items()}
                self._finish(tool, result.seed, "trained", {"best/epoch": result.best_epoch} | best)

        self._safely(log)

    def evaluated(self, seeds: Mapping[int, Mapping[str, float]]) -> None:
        """Log the final metrics of each seed, and the run folder's files."""

        def log(tool: Tool) -> None:
            files = [self.out / name for name in FILES if (self.out / name).is_file()]
            for seed, figures in seeds.items():
                if self._state()[str(seed)]["state"] == "trained":
                    final = {f"final/{name}": value for name, value in figures.items()}
                    self._finish(tool, seed, "evaluated", final, files)

        self._safely(log)

    def _safely(self, log: Callable[[Tool], None]) -> None:
        if self.tool is None:
            return
        try:
            with contextlib.redirect_stdout(sys.stderr):  # standard output is reserved for results
                log(self.tool)
        except Exception as error:
            self.say(f"{self.name} stopped accepting metrics ({reason(error)}); the run continues without it")
            self.tool = None

    def _log_epoch(self, tool: Tool, seed: int, epoch: "Epoch") -> None:
        figures = _figures(epoch)
        if epoch.epoch > self._open(tool, seed)["epochs"]:
            tool.log(figures, epoch.epoch)
            self._note(seed, epochs=epoch.epoch)

    def _finish(
        self, tool: Tool, seed: int, state: str, figures: Mapping[str, float], files: Sequence[Path] = ()
    ) -> None:
        tool.log(figures, self._open(tool, seed)["epochs"])
        tool.close(files)
        self.opened = None
        self._note(seed, state=state)

    def _open(self, tool: Tool, seed: int) -> dict[str, Any]:
        """Open the run of a seed; returns its entry in `tracking.json`."""
        entry = self._state().get(str(seed), {"run": None})
        if self.opened != seed:
            key = tool.open(self.out.resolve().name, {"seed": seed, **flat(self.config)}, entry["run"])
            self.opened = seed
            if entry["run"] is None:
                return self._note(seed, run=key, state="started", epochs=0)
        return entry

    def _state(self) -> dict[str, dict[str, Any]]:
        """Logged values by seed: run, state, epochs."""
        state: dict[str, dict[str, Any]] = self._file().get(self.name, {})
        return state

    def _note(self, seed: int, **changes: Any) -> dict[str, Any]:
        state = self._state()
        entry = state[str(seed)] = state.get(str(seed), {}) | changes
        atomic_write(self.out / STATE_FILE, json.dumps(self._file() | {self.name: state}, indent=1) + "\n")
        return entry

    def _file(self) -> dict[str, Any]:
        path = self.out / STATE_FILE
        found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        return found


NOT_TRACKED = Tracking()


def track(
    tool: ToolName, project: str | None, config: RunConfig, task: str, out: Path, say: Callable[[str], None]
) -> Tracking:
    """Connect to a tracker. `project` defaults to the task's name; `say` shows a message to the user."""
    require(f"`track` {tool}:", tool, tool)
    make, advice = TOOLS[tool]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            connected = make(project or task, out)
    except Exception as error:  # any exception of the tool
        raise FecError(f"`track`: {tool} can't be used ({reason(error)}); {advice}") from error
    return Tracking(connected, tool, out, config.model_dump(mode="json"), say)


class TensorBoard:
    """Event files in the run folder, one folder per seed. Other files are not stored."""

    def __init__(self, _project: str, out: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.make_writer, self.folder = SummaryWriter, out / TENSORBOARD_FOLDER
        self.writer: Any = None

    def open(self, _group: str, parameters: Mapping[str, Any], key: str | None) -> str:
        folder = f"seed-{parameters['seed']}"
        self.writer = self.make_writer(str(self.folder / folder))
        if key is None:
            self.writer.add_text("config", "\n".join(f"    {name}: {value}" for name, value in parameters.items()))
        return folder

    def log(self, figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self, _files: Sequence[Path]) -> None:
        self.writer.close()


class MlFlow:
    """Runs of an experiment, at MLFLOW_TRACKING_URI."""

    def __init__(self, project: str, _out: Path) -> None:
        for name, value in MLFLOW_PATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient

        self.client, self.run = MlflowClient(), ""
        found = self.client.get_experiment_by_name(project)
        self.experiment = found.experiment_id if found else self.client.create_experiment(project)

    def open(self, group: str, parameters: Mapping[str, Any], key: str | None) -> str:
        from mlflow.entities import Param

        if key is None:
            seed = str(parameters["seed"])
            tags = {"fec.run": group, "fec.seed": seed}
            key = str(self.client.create_run(self.experiment, tags=tags, run_name=f"{group}-seed-{seed}").info.run_id)
            values = [Param(name, str(value)[:MAX_PARAMETER_LENGTH]) for name, value in parameters.items()]
            self.client.log_batch(key, params=values)
        self.run = key
        return key

    def log(self, figures: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self.client.log_batch(self.run, [Metric(name, value, now, step) for name, value in figures.items()])

    def close(self, files: Sequence[Path]) -> None:
        for file in files:
            self.client.log_artifact(self.run, str(file))
        self.client.set_terminated(self.run)


class Trackio:
    """Runs of a project, in Trackio's folder or as set by its environment variables."""

    def __init__(self, project: str, _out: Path) -> None:
        import trackio
        from trackio.sqlite_storage import SQLiteStorage

        SQLiteStorage.validate_project_name(project)
        self.trackio: Any = trackio
        self.project = project
        self.run: Any = None

    def open(self, group: str, parameters: Mapping[str, Any], key: str | None) -> str:
        with contextlib.suppress(RuntimeError):  # no run is open in this process
            self.trackio.finish()
        self.run = self.trackio.init(
            project=self.project,
            name=f"{group}-seed-{parameters['seed']}",
            group=group,
            config=dict(parameters),
            resume="never" if key is None else "must",
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )
        return str(self.run.id)

    def log(self, figures: Mapping[str, float], step: int) -> None:
        self.run.log(dict(figures), step=step)

    def close(self, files: Sequence[Path]) -> None:
        for file in files:
            kind = "metrics" if file.suffix == ".json" else "plot"
            self.run.log_artifact(file, name=f"{self.run.name}-{file.stem}", type=kind)
        self.trackio.finish()


TOOLS: dict[ToolName, tuple[Callable[[str, Path], Tool], str]] = {
    "trackio": (Trackio, "see `track_project` and Trackio's variables TRACKIO_…"),
    "mlflow": (MlFlow, "set MLFLOW_TRACKING_URI to a server, or pip install mlflow for a store without one"),
    "tensorboard": (TensorBoard, "check that the run folder can be written"),
}


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a nested configuration to dotted names, list items by index; without None."""
    result: dict[str, Any] = {}
    for key, value in config.items():
        listed = isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)
        nested = {str(i): one for i, one in enumerate(value)} if listed else value
        if isinstance(nested, Mapping):
            result |= {f"{key}.{name}": one for name, one in flat(nested).items()}
        elif nested is not None:
            result[key] = nested
    return result


def _figures(epoch: "Epoch") -> dict[str, float]:
    return {
        "train/loss": epoch.train_loss,
        "valid/loss": epoch.valid_loss,
        "valid/accuracy": epoch.valid_accuracy,
        "valid/weighted_f1": epoch.valid_weighted_f1,
        "valid/macro_f1": epoch.valid_macro_f1,
        "seconds": epoch.seconds,
    }
