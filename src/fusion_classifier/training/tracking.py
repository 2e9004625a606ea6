"""Training followed by an experiment tracker: Trackio, MLflow or TensorBoard, each an extra.

A run of the tracker is a seed. It gets the configuration, each epoch's figures as they come, at the end the metrics
of all splits and, where the tool keeps files, `metrics.json` and the pictures. No text is ever sent, so the report
and the predictions are not. Where it goes to, the tool's own settings say.

Which seeds were logged stands in `tracking.json` in the run folder: a run that is taken up logs nothing twice.
"""

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from fusion_classifier.config import RunConfig
from fusion_classifier.errors import FecError
from fusion_classifier.support.extras import require
from fusion_classifier.support.files import write_atomic
from fusion_classifier.training.loop import Epoch, Trained

# Each is imported where it is used: an extra that hardly anyone has all of.
# ruff: noqa: PLC0415

Tool = Literal["trackio", "mlflow", "tensorboard"]
STATE_FILE = "tracking.json"
TENSORBOARD_FOLDER = "tensorboard"
FILES = ("metrics.json", "training_curves.png", "confusion_matrix.png", "risk_coverage.png", "f1_by_label.png")
# MLflow would try a server that is gone seven times, for minutes; who wants that sets them.
MLFLOW_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
MOST_PARAMETER_LETTERS = 500  # MLflow's limit for a value


@dataclass(frozen=True)
class Description:
    """Of a run of the tracker: project, run folder's name, seed and configuration."""

    project: str
    group: str
    seed: int
    config: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What the run is called."""
        return f"{self.group}-seed-{self.seed}"


class Tracker(Protocol):
    """What an experiment tracker has to do; any of it may raise."""

    def start(self, run: Description) -> str:
        """Make a new run; its id."""

    def log(self, run: Description, key: str, figures: Mapping[str, float], step: int) -> None:
        """Add figures to a run."""

    def finish(self, run: Description, key: str, files: Sequence[Path]) -> None:
        """Add files to a run and close it. It may be logged to again."""

    def discard(self, run: Description, key: str) -> None:
        """Remove a run that was interrupted, of which the seed is trained anew."""


@dataclass
class Tracking:
    """What training reports to; without a tracker, to nobody.

    A fault of the tracker is said once, and then training goes on without it.
    """

    tracker: Tracker | None = None
    tool: str = ""
    project: str = ""
    out: Path = Path()
    config: Mapping[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = print

    def seed(self, seed: int) -> Callable[[Epoch], None]:
        """A seed's training begins; what its epochs are told to."""

        def begin(tracker: Tracker) -> None:
            entry = self._state().get(str(seed))
            if entry is not None:
                tracker.discard(self._described(seed), entry["run"])
            self._start(tracker, seed)

        self._safely(begin)
        return lambda epoch: self._safely(lambda tracker: self._log(tracker, epoch, seed))

    def trained(self, one: Trained) -> None:
        """A seed is trained, now or by an earlier call; if that did not track it, it is logged now."""

        def end(tracker: Tracker) -> None:
            entry = self._state().get(str(one.seed))
            if entry is None:
                entry = self._start(tracker, one.seed)
                for epoch in one.history:
                    self._log(tracker, epoch, one.seed)
            if entry["state"] != "started":
                return
            run, key = self._described(one.seed), entry["run"]
            best = {f"best/{name}": value for name, value in _figures(one.best).items()}
            tracker.log(run, key, {"best/epoch": one.best_epoch} | best, len(one.history))
            tracker.finish(run, key, [])
            self._note(one.seed, key, "trained", len(one.history))

        self._safely(end)

    def evaluated(self, seeds: Mapping[int, Mapping[str, float]]) -> None:
        """The final metrics of each seed, and the run folder's files."""

        def end(tracker: Tracker) -> None:
            files = [self.out / name for name in FILES if (self.out / name).is_file()]
            for seed, figures in seeds.items():
                entry = self._state()[str(seed)]
                if entry["state"] == "trained":
                    final = {f"final/{name}": value for name, value in figures.items()}
                    tracker.log(self._described(seed), entry["run"], final, entry["epochs"])
                    tracker.finish(self._described(seed), entry["run"], files)
                    self._note(seed, entry["run"], "evaluated", entry["epochs"])

        self._safely(end)

    def _safely(self, call: Callable[[Tracker], None]) -> None:
        """Call the tracker, whose faults end nothing but the tracking."""
        if self.tracker is None:
            return
        try:
            with _own_output():
                call(self.tracker)
        except Exception as error:
            self.say(f"{self.tool} takes no more figures ({_reason(error)}); the run goes on without it")
            self.tracker = None

    def _log(self, tracker: Tracker, epoch: Epoch, seed: int) -> None:
        tracker.log(self._described(seed), self._state()[str(seed)]["run"], _figures(epoch), epoch.epoch)

    def _start(self, tracker: Tracker, seed: int) -> dict[str, Any]:
        return self._note(seed, tracker.start(self._described(seed)), "started", 0)

    def _described(self, seed: int) -> Description:
        return Description(self.project, self.out.resolve().name, seed, self.config)

    def _state(self) -> dict[str, dict[str, Any]]:
        """What was logged, by seed: run, state, epochs."""
        state: dict[str, dict[str, Any]] = _read(self.out / STATE_FILE).get(self.tool, {})
        return state

    def _note(self, seed: int, key: str, state: str, epochs: int) -> dict[str, Any]:
        entry = {"run": key, "state": state, "epochs": epochs}
        everything = _read(self.out / STATE_FILE) | {self.tool: self._state() | {str(seed): entry}}
        write_atomic(self.out / STATE_FILE, json.dumps(everything, indent=1) + "\n")
        return entry


NOT_TRACKED = Tracking()


def track(
    tool: Tool, project: str | None, config: RunConfig, task: str, out: Path, say: Callable[[str], None]
) -> Tracking:
    """A tracker to report a run to.

    Args:
        tool: trackio, mlflow or tensorboard.
        project: what the tracker files it under; the task unless given.
        config: of the run.
        task: its task's name.
        out: the run folder.
        say: takes a line for the user.

    Raises:
        UsageError: its package is not installed.
        FecError: it can't be reached.
    """
    package, make = TOOLS[tool]
    require(f"--track {tool}", tool, package)
    name = project or task
    try:
        with _own_output():
            tracker = make(name, out)
    except Exception as error:  # a tool's own, of any kind
        raise FecError(f"--track {tool}: can't be used ({_reason(error)}); {ADVICE[tool]}") from error
    return Tracking(tracker, tool, name, out, config.model_dump(mode="json"), say)


# --- the tools ---------------------------------------------------------------------------------------------


class TensorBoard:
    """Event files in the run folder, a folder a seed. Files are not kept: it has no place for them."""

    def __init__(self, _project: str, out: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer, self.folder, self.open = SummaryWriter, out / TENSORBOARD_FOLDER, dict[str, Any]()

    def _of(self, key: str) -> Any:
        if key not in self.open:
            self.open[key] = self.writer(str(self.folder / key))
        return self.open[key]

    def start(self, run: Description) -> str:
        """A folder of event files."""
        key = f"seed-{run.seed}"
        text = "\n".join(f"    {name}: {value}" for name, value in flat(run.config).items())
        self._of(key).add_text("config", text)
        return key

    def log(self, _run: Description, key: str, figures: Mapping[str, float], step: int) -> None:
        """Scalars, on disk at once."""
        for name, value in figures.items():
            self._of(key).add_scalar(name, value, step)
        self._of(key).flush()

    def finish(self, _run: Description, key: str, _files: Sequence[Path]) -> None:
        """Close the files."""
        self.open.pop(key).close()

    def discard(self, _run: Description, key: str) -> None:
        """Remove the seed's folder: two curves in one would be drawn as one."""
        shutil.rmtree(self.folder / key, ignore_errors=True)


class MlFlow:
    """Runs of an experiment on the tracking server or store that MLFLOW_TRACKING_URI names."""

    def __init__(self, project: str, _out: Path) -> None:
        for name, value in MLFLOW_PATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient

        self.client = MlflowClient()
        found = self.client.get_experiment_by_name(project)
        self.experiment = found.experiment_id if found else self.client.create_experiment(project)

    def start(self, run: Description) -> str:
        """A run with the configuration as its parameters."""
        from mlflow.entities import Param

        tags = {"fec.run": run.group, "fec.seed": str(run.seed)}
        key: str = self.client.create_run(self.experiment, run_name=run.name, tags=tags).info.run_id
        parameters = {"seed": run.seed} | flat(run.config)
        self.client.log_batch(
            key, params=[Param(name, str(value)[:MOST_PARAMETER_LETTERS]) for name, value in parameters.items()]
        )
        return key

    def log(self, _run: Description, key: str, figures: Mapping[str, float], step: int) -> None:
        """Metrics, in one request."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self.client.log_batch(key, metrics=[Metric(name, value, now, step) for name, value in figures.items()])

    def finish(self, _run: Description, key: str, files: Sequence[Path]) -> None:
        """Files as artifacts; the run is finished."""
        for file in files:
            self.client.log_artifact(key, str(file))
        self.client.set_terminated(key)

    def discard(self, _run: Description, key: str) -> None:
        """Into MLflow's bin."""
        self.client.delete_run(key)


class Trackio:
    """Runs of a project in Trackio's folder, or where its own variables say."""

    def __init__(self, project: str, _out: Path) -> None:
        import trackio
        from trackio.sqlite_storage import SQLiteStorage

        SQLiteStorage.validate_project_name(project)
        self.module: Any = trackio
        self.run: Any = None

    def _of(self, run: Description, resume: str) -> Any:
        """The run, open; there is one at a time."""
        if self.run is None or self.run.name != run.name:
            self.run = self.module.init(
                project=run.project,
                name=run.name,
                group=run.group,
                config={"seed": run.seed, **run.config},
                resume=resume,
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )
        return self.run

    def start(self, run: Description) -> str:
        """A new run with the configuration."""
        key: str = self._of(run, "never").id
        return key

    def log(self, run: Description, _key: str, figures: Mapping[str, float], step: int) -> None:
        """Metrics; Trackio writes them in the background."""
        self._of(run, "must").log(dict(figures), step=step)

    def finish(self, run: Description, _key: str, files: Sequence[Path]) -> None:
        """Files as artifacts; all is written."""
        opened = self._of(run, "must")
        for file in files:
            opened.log_artifact(
                file, name=f"{run.name}-{file.stem}", type="metrics" if file.suffix == ".json" else "plot"
            )
        self.module.finish()
        self.run = None

    def discard(self, run: Description, key: str) -> None:
        """Remove it, if it is on this machine."""
        with contextlib.suppress(RuntimeError):  # none is open in this process
            self.module.finish()
        with contextlib.suppress(ValueError):  # no such project here
            for one in self.module.Api().runs(run.project):
                if one.id == key:
                    one.delete()


TOOLS: dict[Tool, tuple[str, Callable[[str, Path], Tracker]]] = {
    "trackio": ("trackio", Trackio),
    "mlflow": ("mlflow", MlFlow),
    "tensorboard": ("tensorboard", TensorBoard),
}
ADVICE: dict[Tool, str] = {
    "trackio": "see --track-project and Trackio's variables TRACKIO_…",
    "mlflow": "set MLFLOW_TRACKING_URI to a server, or pip install mlflow for a store without one",
    "tensorboard": "see that the run folder can be written",
}


# --- helpers -----------------------------------------------------------------------------------------------


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration by dotted names; list items by number. Unset values are left out."""
    result: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            result |= flat({str(i): one for i, one in enumerate(value)}, f"{prefix}{key}.")
        elif isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        elif value is not None:
            result[prefix + key] = value
    return result


def _figures(epoch: Epoch) -> dict[str, float]:
    return {
        "train/loss": epoch.train_loss,
        "valid/loss": epoch.valid_loss,
        "valid/accuracy": epoch.valid_accuracy,
        "valid/weighted_f1": epoch.valid_weighted_f1,
        "seconds": epoch.seconds,
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    return found


@contextlib.contextmanager
def _own_output() -> Iterator[None]:
    """Standard output is for results; what a tracker prints goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip()[:300] if lines else type(error).__name__
