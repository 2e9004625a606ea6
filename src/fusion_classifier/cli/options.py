"""Options that several commands share.

A configuration has three layers: the defaults, the file of --config, and the options of the command line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError

from fusion_classifier.cli.fields import Given, Options
from fusion_classifier.cli.messages import progress
from fusion_classifier.config import (
    DEFAULT_ENCODERS,
    DEFAULT_HEAD,
    HEAD_CONFIGS,
    Device,
    EncoderConfig,
    FeatureKind,
    RunConfig,
    ServerSettings,
    TaskConfig,
    TrainingConfig,
    TuneConfig,
)
from fusion_classifier.errors import UsageError
from fusion_classifier.support.validation import checked
from fusion_classifier.training.defaults import DEFAULTS

if TYPE_CHECKING:
    from fusion_classifier.cluster.pool import RayEngine
    from fusion_classifier.runs.context import Workspace
    from fusion_classifier.tasks.loaded import LoadedTask
    from fusion_classifier.training.tracking import Tracking

# torch and transformers take seconds to import: what needs them is imported where it is used.
# ruff: noqa: PLC0415

DATA, ENCODERS, HEAD, TRAINING, WHERE, ENGINE = "Data", "Encoders", "Head", "Training", "Where", "Engine"
LIMITS, ACCESS = "Limits", "Access"


def option(*names: str, panel: str | None = None, help: str, **more: Any) -> Any:  # noqa: A002
    """An option of typer in a panel of the help."""
    return typer.Option(*names, rich_help_panel=panel, help=help, **more)


# --- arguments and options by themselves -------------------------------------------------------------------

TASK_HELP = "ED, go_emotion, go_emotion_multilabel, demo, or the path of your own file or folder."
MODEL_HELP = "Model folder, run folder, model of the package, or Hub id."
TaskName = Annotated[str, typer.Argument(metavar="TASK", help=TASK_HELP)]
OptionalTaskName = Annotated[
    str | None, typer.Argument(metavar="TASK", help=f"{TASK_HELP} Optional with --config.", show_default=False)
]
EncoderName = Annotated[str, typer.Argument(metavar="ENCODER", help="Encoder, as with --encoder of fec run.")]
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
SplitNames = Annotated[
    list[str] | None,
    option("--split", panel=DATA, help="train, valid or test; may be repeated. Default: all there are."),
]
EncoderPaths = Annotated[
    list[str] | None,
    option("--encoder", "-e", panel=ENCODERS, metavar="NAME=PATH", help="Folder or file of an encoder's weights."),
]
StoreName = Annotated[
    str | None,
    option(
        "--store",
        hidden=True,
        panel=WHERE,
        envvar="FEC_STORE",
        metavar="DIR",
        help="Feature store: a folder or s3://BUCKET/PREFIX. Default: in your cache folder.",
    ),
]
DeviceName = Annotated[
    Device, option("--device", panel=WHERE, help="auto: CUDA where there is one, then MPS, then the CPU.")
]
Json = Annotated[bool, option("--json", help="Print the result as JSON.")]

DataOptions = Annotated[Given, Options(DATA, {"": TaskConfig})]
# Without the pooling: that of an encoder given by name follows from the head.
ENCODER_DEFAULTS = {"": EncoderConfig(name="", model="").model_dump(exclude={"pooling"})}
EncoderSettings = Annotated[
    Given,
    Options(
        ENCODERS,
        {"": EncoderConfig},
        ENCODER_DEFAULTS,
        without=("name", "model", "revision", "path"),
    ),
]
TrainingOptions = Annotated[
    Given, Options(TRAINING, {"": TrainingConfig}, {head: values.model_dump() for head, values in DEFAULTS.items()})
]
TuneOptions = Annotated[Given, Options(TRAINING, {"": TuneConfig})]
ServerLimits = Annotated[
    Given, Options(LIMITS, {"": ServerSettings}, without=("api_key", "cors_allow_origin", "page"))
]
ServerAccess = Annotated[Given, Options(ACCESS, {"": ServerSettings}, only=("api_key", "cors_allow_origin", "page"))]


def encoder_paths(specs: Sequence[str] | None) -> dict[str, str]:
    """Places of encoders' weights from NAME=PATH, by encoder.

    Raises:
        UsageError: Not of that form.
    """
    paths = {}
    for spec in specs or []:
        name, _, path = spec.partition("=")
        if not name or not path:
            raise UsageError(f"--encoder {spec!r}: write NAME=PATH; the model itself says which encoders it has")
        paths[name] = path
    return paths


def task_config(name: str, data: Given) -> TaskConfig:
    """The configuration of a task.

    Raises:
        UsageError: A value that can't be.
    """
    return checked(TaskConfig, data | {"name": name})


def as_words(settings: Given) -> dict[str, str]:
    """Settings of an encoder as they stand behind its name: NAME?pool_special_tokens=true."""
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in settings.items()}


def load(config: TaskConfig, splits: Sequence[str] | None = None) -> "tuple[LoadedTask, list[str]]":
    """A task and the splits to work on. Called before torch is imported, so that faults in the data show at once.

    Raises:
        UsageError, DataError: See the messages.
    """
    from fusion_classifier.tasks.registry import load_splits

    return load_splits(config, splits)


# --- groups ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """Which texts and encoders."""

    config: Annotated[
        Path | None,
        option(
            "--config",
            metavar="FILE",
            exists=True,
            help="config.yaml of a run, or its folder, to start from. Other options override it; --head and --recipe "
            "also its hyper-parameters.",
        ),
    ] = None
    data: DataOptions
    encoder: Annotated[
        list[str] | None,
        option(
            "--encoder",
            "-e",
            panel=ENCODERS,
            metavar="NAME",
            help="Preset (fec encoders), Hub id, local folder or GGUF file; may be repeated. NAME=PATH takes the "
            "weights from PATH; NAME?layers=2,4,6&pooling=tokens sets options of this encoder alone. "
            f"Default: {' and '.join(DEFAULT_ENCODERS)}.",
        ),
    ] = None
    settings: EncoderSettings

    @cached_property
    def file(self) -> RunConfig | None:
        """The configuration of --config.

        Raises:
            FecError: The file is not a run's configuration.
        """
        from fusion_classifier.runs.config_file import read_run_config

        return None if self.config is None else read_run_config(self.config)

    def task(self, name: str | None) -> TaskConfig:
        """Which texts.

        Args:
            name: The argument TASK. Default: that of the file, with its other settings.

        Raises:
            UsageError: No task, or values that can't be.
        """
        if self.file is None and name is None:
            raise UsageError("give a TASK (fec tasks lists them), the path of your data, or --config FILE")
        base = {} if self.file is None else self.file.task.model_dump()
        if name is not None and name != base.get("name"):
            base |= {"name": name, "data": None}  # the folder was another task's
        return checked(TaskConfig, base | self.data)

    def encoders(self, features: FeatureKind | None = None) -> tuple[EncoderConfig, ...]:
        """Which encoders.

        Args:
            features: What is taken from an encoder whose pooling is not given. Default: what the file's head reads,
                or pooled features.
        """
        from fusion_classifier.encoders.spec import changed_encoders, parse_encoders

        settings = as_words(self.settings)
        if self.encoder or self.file is None:
            names = self.encoder or list(DEFAULT_ENCODERS)
            return parse_encoders(names, settings, features=features or "pooled")
        read = self.file.head.reads
        return changed_encoders(self.file.encoders, settings, read=read, features=features or read)


def reads(head: str) -> FeatureKind:
    """Which features a head reads unless a pooling is given.

    Raises:
        UsageError: No such head.
    """
    if head not in HEAD_CONFIGS:
        raise UsageError(f"no head {head!r}; there are {', '.join(HEAD_CONFIGS)}")
    return HEAD_CONFIGS[head].reads


@dataclass(frozen=True, kw_only=True)
class RunOptions(FeatureOptions):
    """All that decides the result of a run, and where it is written."""

    head: Annotated[
        str | None,
        option("--head", panel=HEAD, help=f"{' or '.join(HEAD_CONFIGS)}. Default: {DEFAULT_HEAD}."),
    ] = None
    head_settings: Annotated[Given, Options(HEAD, HEAD_CONFIGS)]
    recipe: Annotated[
        str | None,
        option(
            "--recipe",
            hidden=True,
            panel=TRAINING,
            help="default: hyper-parameters chosen on validation; published: Adam 1e-4, batch 10. Default: default.",
        ),
    ] = None
    training: TrainingOptions
    seeds: Annotated[
        int | None,
        option(
            "--seeds",
            panel=TRAINING,
            metavar="N",
            min=1,
            max=1000,
            help="Train N times, with the seeds 0 to N − 1. Default: 1.",
        ),
    ] = None
    out: Annotated[
        Path | None,
        option("--out", panel=WHERE, metavar="DIR", help="Folder to write. Default: by task and head."),
    ] = None
    overwrite: Annotated[
        bool, option("--overwrite", panel=WHERE, help="Replace a run with another configuration in that folder.")
    ] = False

    @property
    def head_name(self) -> str:
        """Name of the head."""
        return self.head or (self.file.head.name if self.file else DEFAULT_HEAD)

    def run(self, task: TaskConfig) -> RunConfig:
        """The configuration of a run on this task.

        Raises:
            UsageError: A value that can't be.
        """
        features = reads(self.head_name) if self.head or self.file is None else None
        encoders = self.encoders(features)
        from fusion_classifier.fusion.registry import parse_head
        from fusion_classifier.training.defaults import changed, recipe

        head, training = self.head_settings, None
        if self.file is not None and self.head is None:
            head = self.file.head.model_dump(exclude={"name"}) | head
            training = self.file.training if self.recipe is None else None
        return RunConfig(
            task=task,
            encoders=encoders,
            head=parse_head(self.head_name, **head),
            training=changed(training or recipe(self.recipe or "default", self.head_name), self.training),
            seeds=tuple(range(self.seeds)) if self.seeds else self.file.seeds if self.file else (0,),
        )

    def folder(self, task: str) -> Path:
        """The run folder."""
        return self.out or Path("runs") / f"{task}-{self.head_name}"


@dataclass(frozen=True, kw_only=True)
class TrackingOptions:
    """Experiment tracker. Not part of a run's configuration: it decides no result."""

    track: Annotated[
        Literal["trackio", "mlflow", "tensorboard"] | None,
        option(
            "--track",
            hidden=True,
            panel=TRAINING,
            help="Report parameters, epochs and final metrics to this experiment tracker; an extra each.",
        ),
    ] = None
    track_project: Annotated[
        str | None,
        option(
            "--track-project", hidden=True, panel=TRAINING, help="Project of the tracker. Default: the task's name."
        ),
    ] = None

    def tracking(self, config: RunConfig, task: str, out: Path, work: "Workspace") -> "Tracking":
        """What training reports to.

        Raises:
            UsageError: A project without a tracker, or a package that is not installed.
            FecError: The tracker can't be reached.
        """
        from fusion_classifier.training.tracking import NOT_TRACKED, track

        if self.track is None:
            if self.track_project is not None:
                raise UsageError("--track-project: goes with --track")
            return NOT_TRACKED
        return track(self.track, self.track_project, config, task, out, work.say)


@dataclass(frozen=True, kw_only=True)
class PlaceOptions:
    """Store, device and memory."""

    store: StoreName = None
    device: DeviceName = "auto"
    memory: Annotated[
        str | None,
        option(
            "--memory",
            hidden=True,
            panel=WHERE,
            metavar="SIZE",
            help="Memory that features may take, such as 4GB; larger ones are read from the store in blocks. "
            "Default: half of what is free.",
        ),
    ] = None

    def workspace(self) -> "Workspace":
        """Store, device, progress and memory."""
        from fusion_classifier.encoders.device import resolve_device
        from fusion_classifier.features.extract import memory_for_features
        from fusion_classifier.features.store import FeatureStore
        from fusion_classifier.runs.context import Workspace

        memory = memory_for_features() if self.memory is None else _bytes(self.memory)
        return Workspace(FeatureStore(self.store), resolve_device(self.device), progress(), memory)


def _bytes(size: str) -> int:
    try:
        found = int(TypeAdapter(ByteSize).validate_python(size))
    except ValidationError:
        found = 0
    if found <= 0:
        raise UsageError(f"--memory {size!r}: write a size like 500MB or 4GB")
    return found


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """What encodes texts: this process, or workers of Ray."""

    engine: Annotated[
        Literal["local", "ray"],
        option("--engine", panel=ENGINE, help="ray: workers on this machine or on a cluster."),
    ] = "local"
    address: Annotated[
        str | None,
        option(
            "--address",
            hidden=True,
            panel=ENGINE,
            help="Ray cluster; auto: the one running here. Default: a new one.",
        ),
    ] = None
    workers: Annotated[
        int | None,
        option("--workers", hidden=True, panel=ENGINE, min=1, help="Workers of Ray. Default: one per GPU or core."),
    ] = None

    def ray(self, device: Device) -> "RayEngine | None":
        """Ray, if it is asked for.

        Raises:
            UsageError: Its options without it.
        """
        if self.engine == "ray":
            from fusion_classifier.cluster.pool import RayEngine

            return RayEngine(self.address, self.workers, device)
        for name, value in (("--address", self.address), ("--workers", self.workers)):
            if value is not None:
                raise UsageError(f"{name}: goes with --engine ray")
        return None
