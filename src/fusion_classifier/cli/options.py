"""Options that several commands share.

A configuration has three layers: the defaults, the file of --config, and the options of the command line.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import ByteSize, Field

from fusion_classifier.cli.fields import Given, Options
from fusion_classifier.cli.messages import progress
from fusion_classifier.config import (
    DEFAULT_HEAD,
    HEAD_CONFIGS,
    ClassWeights,
    Device,
    EncoderConfig,
    FeatureKind,
    FrozenModel,
    RunConfig,
    TaskConfig,
    TrainingConfig,
)
from fusion_classifier.encoders.presets import DEFAULT_ENCODERS, RUN_PRESETS
from fusion_classifier.errors import UsageError
from fusion_classifier.support.validation import checked
from fusion_classifier.training.defaults import DEFAULTS

if TYPE_CHECKING:
    from fusion_classifier.cluster.pool import RayEngine
    from fusion_classifier.runs.context import RunContext
    from fusion_classifier.tasks.loaded import LoadedTask
    from fusion_classifier.training.tracking import Tracking

# torch and transformers take seconds to import: what needs them is imported where it is used.
# ruff: noqa: PLC0415


def option(help: str, *names: str, **more: Any) -> Any:  # noqa: A002
    """An option of one command. Default name: that of the parameter."""
    return typer.Option(*names, help=help, **more)


# --- single arguments and options --------------------------------------------------------------------------

TASK_HELP = (
    "Task with a name (fec tasks lists them), such as go_emotion or demo, or the path of your own file or folder."
)
ENCODER_HELP = (
    "Preset (fec encoders), Hub id, local folder or GGUF file; may be repeated. NAME=PATH reads the weights from "
    "PATH; NAME?layers=2,4,6&pooling=tokens sets options of this encoder alone. "
    f"Default: {' and '.join(DEFAULT_ENCODERS)}."
)
MODEL_HELP = "Model folder, run folder, built-in model, or Hub id."
TaskName = Annotated[str, typer.Argument(metavar="TASK", help=TASK_HELP)]
OptionalTaskName = Annotated[
    str | None, typer.Argument(metavar="TASK", help=f"{TASK_HELP} Optional with --config.", show_default=False)
]
EncoderName = Annotated[str, typer.Argument(metavar="ENCODER", help="Encoder, as with --encoder of fec run.")]
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
SplitNames = Annotated[list[str] | None, option("Split: train, valid or test; may be repeated. Default: all.")]
EncoderPaths = Annotated[
    list[str] | None, option("Path to an encoder's weights.", "--encoder", "-e", metavar="NAME=PATH")
]
StoreName = Annotated[
    str | None,
    option(
        "Feature store: a folder or s3://BUCKET/PREFIX. Default: a folder in your cache.",
        envvar="FEC_STORE",
        metavar="DIR",
    ),
]
DeviceName = Annotated[Device, option("Device; auto selects CUDA if available, then MPS, then the CPU.")]
Json = Annotated[bool, option("Print the result as JSON.", "--json")]

# Only commands that train can cross-validate: others would evaluate a model on its own training rows. An audit checks
# the rows that would be trained on.
DataOptions = Annotated[Given, Options("Data", {"": TaskConfig}, without=("name", "cross_validate"))]
TrainingDataOptions = Annotated[Given, Options("Data", {"": TaskConfig})]
# The pooling of an encoder given by name follows from the head.
OWN_SETTINGS = ("name", "model", "revision", "path", "dense")  # given with the encoder, or not at all
ENCODER_DEFAULTS = {"": EncoderConfig(name="", model="").model_dump(exclude={"pooling"})}
EncoderSettings = Annotated[
    Given,
    Options("Encoders", {"": EncoderConfig}, ENCODER_DEFAULTS, without=OWN_SETTINGS),
]
HeadSettings = Annotated[Given, Options("Head", HEAD_CONFIGS, without=("name", "attention", "upper"))]
HyperParameters = Annotated[
    Given, Options("Training", {"": TrainingConfig}, {head: values.model_dump() for head, values in DEFAULTS.items()})
]


def encoder_paths(specs: Sequence[str] | None) -> dict[str, str]:
    """Paths of encoders' weights from NAME=PATH, by encoder."""
    paths = {}
    for spec in specs or []:
        name, _, path = spec.partition("=")
        if not name or not path:
            raise UsageError(f"--encoder {spec!r}: write NAME=PATH; the model determines which encoders are used")
        paths[name] = path
    return paths


def as_words(settings: Given) -> dict[str, str]:
    """Settings of an encoder as written after its name: NAME?pool_special_tokens=true."""
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in settings.items()}


def reads(head: str) -> FeatureKind:
    """Kind of features that a head reads if no pooling is given."""
    if head not in HEAD_CONFIGS:
        raise UsageError(f"unknown head {head!r}; choose from {', '.join(HEAD_CONFIGS)}")
    return HEAD_CONFIGS[head].reads


def load(config: TaskConfig, splits: Sequence[str] | None = None) -> "tuple[LoadedTask, list[str]]":
    """A task and the splits to work on. Called before torch is imported, so that errors in the data show at once."""
    from fusion_classifier.tasks.registry import load_splits

    return load_splits(config, splits)


# --- groups ------------------------------------------------------------------------------------------------


class FeatureOptions(FrozenModel):
    """Texts and encoders."""

    config: Path | None = None
    """config.yaml of a run, or its folder, to start from. Other options override it; --head and --recipe also its
    hyper-parameters."""
    data: DataOptions
    preset: Literal["fast", "balanced", "best"] | None = None
    """Set of encoders, instead of --encoder. fast: minilm-l6; balanced (default): minilm-l6, mpnet-base; best:
    minilm-l6, smollm2-135m, mpnet-base."""
    encoder: Annotated[tuple[str, ...], Field(description=ENCODER_HELP)] = ()
    settings: EncoderSettings

    @cached_property
    def file(self) -> RunConfig | None:
        """The configuration of --config."""
        from fusion_classifier.runs.config_file import read_run_config

        return None if self.config is None else read_run_config(self.config)

    def task(self, name: str | None) -> TaskConfig:
        """Texts and labels. For a task other than the file's, the file's other settings are kept."""
        if self.file is None and name is None:
            raise UsageError("give a TASK (fec tasks lists them), the path of your data, or --config FILE")
        base = {} if self.file is None else self.file.task.model_dump() | {"cross_validate": False}
        if name is not None and name != base.get("name"):
            base |= {"name": name, "data": None}  # that folder is the other task's
        return checked(TaskConfig, base | self.data)

    def encoders(self, features: FeatureKind | None = None) -> tuple[EncoderConfig, ...]:
        """Encoders.

        Args:
            features: Kind of features for encoders without a given pooling. Default: what the file's head reads,
                or pooled features.
        """
        from fusion_classifier.encoders.spec import changed_encoders, parse_encoders

        if self.preset and self.encoder:
            raise UsageError("--preset can't be combined with --encoder; leave one of them out")
        settings = as_words(self.settings)
        given = RUN_PRESETS[self.preset] if self.preset else self.encoder
        if given or self.file is None:
            return parse_encoders(list(given or DEFAULT_ENCODERS), settings, features=features or "pooled")
        reads = self.file.head.reads
        return changed_encoders(self.file.encoders, settings, old_features=reads, new_features=features or reads)


class SplitOptions(FeatureOptions):
    """Texts, encoders, and how the texts are split to train on."""

    data: TrainingDataOptions

    def task(self, name: str | None) -> TaskConfig:
        """See `FeatureOptions`. Few rows are cross-validated by default."""
        cross_validate = None if self.file is None else self.file.task.cross_validate
        return checked(TaskConfig, super().task(name).model_dump() | {"cross_validate": cross_validate} | self.data)


class RunOptions(SplitOptions):
    """All settings that determine the result of a run, and its folder."""

    head: Annotated[str | None, Field(description=f"{' or '.join(HEAD_CONFIGS)}. Default: {DEFAULT_HEAD}.")] = None
    head_settings: HeadSettings
    recipe: Literal["default", "published"] | None = None
    """default: hyper-parameters chosen on validation; published: Adam 1e-4, batch 10."""
    training: HyperParameters
    seeds: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Train N times, with the seeds 0 to N − 1. Default: 1."""
    class_weight: ClassWeights | None = None
    """balanced: texts are weighted inversely to their label's frequency. Default: none."""
    out: Path | None = None
    """Folder to write. Default: runs/TASK-HEAD."""
    overwrite: bool = False
    """Replace an existing run with a different configuration in this folder."""

    def task(self, name: str | None) -> TaskConfig:
        """See `SplitOptions`, where the head can."""
        task = super().task(name)
        head = HEAD_CONFIGS.get(self.head_name)
        if task.cross_validate is None and not (head and head.cross_validated_rows):
            return task.model_copy(update={"cross_validate": False})
        return task

    @property
    def head_name(self) -> str:
        """Name of the head."""
        return self.head or (self.file.head.name if self.file else DEFAULT_HEAD)

    def run(self, task: TaskConfig) -> RunConfig:
        """The configuration of a run on this task."""
        file = self.file
        encoders = self.encoders(reads(self.head_name) if self.head or file is None else None)
        from fusion_classifier.fusion.registry import parse_head
        from fusion_classifier.training.defaults import changed_for, recipe

        head, training = self.head_settings, None
        if file is not None and self.head is None:
            head = file.head.model_dump(exclude={"name"}) | head
            training = file.training if self.recipe is None else None
        parsed = parse_head(self.head_name, **head)
        base = training or recipe(self.recipe or "default", self.head_name)
        return RunConfig(
            task=task,
            encoders=encoders,
            head=parsed,
            training=changed_for(parsed, base, self.training, progress().say),
            seeds=tuple(range(self.seeds)) if self.seeds else file.seeds if file else (0,),
            class_weight=self.class_weight or (file.class_weight if file else "none"),
        )

    def folder(self, task: str) -> Path:
        """The run folder."""
        return self.out or Path("runs") / f"{task}-{self.head_name}"


class TrackingOptions(FrozenModel, title="Training"):
    """Experiment tracker. Not part of a run's configuration: it does not affect the result."""

    track: Literal["trackio", "mlflow", "tensorboard"] | None = None
    """Report parameters, epochs and final metrics to this experiment tracker. Each tracker needs its extra."""
    track_project: str | None = None
    """Project of the tracker. Default: the task's name."""

    def tracking(self, config: RunConfig, task: str, out: Path, work: "RunContext") -> "Tracking":
        """What training reports to."""
        from fusion_classifier.training.tracking import NOT_TRACKED, track

        if self.track is None:
            if self.track_project is not None:
                raise UsageError("--track-project requires --track")
            return NOT_TRACKED
        return track(self.track, self.track_project, config, task, out, work.say)


class PlaceOptions(FrozenModel, title="Where"):
    """Store, device and memory."""

    store: str | None = None
    """Feature store: a folder or s3://BUCKET/PREFIX. Default: a folder in your cache."""
    device: Device = "auto"
    """Device; auto selects CUDA if available, then MPS, then the CPU."""
    memory: Annotated[ByteSize, Field(gt=0)] | None = None
    """Memory for features, such as 4GB; larger ones are read from the store in blocks. Default: half of the free
    memory."""

    def workspace(self, task: "LoadedTask | None" = None) -> "RunContext":
        """Store, device, progress and memory; the notes on a task are printed."""
        from fusion_classifier.encoders.device import resolve_device
        from fusion_classifier.features.extract import memory_for_features
        from fusion_classifier.features.store import FeatureStore
        from fusion_classifier.runs.context import RunContext, say_notes

        memory = self.memory or memory_for_features()
        work = RunContext(FeatureStore(self.store), resolve_device(self.device), progress(), memory)
        if task is not None:
            say_notes(task, work)
        return work


class EngineOptions(FrozenModel, title="Engine"):
    """Engine that encodes texts: this process, or Ray workers."""

    engine: Literal["local", "ray"] = "local"
    """ray: workers on this machine or on a cluster."""
    address: str | None = None
    """Ray cluster; auto: the one running here. Default: a new one."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Number of Ray's workers. Default: one per GPU or core."""

    def ray(self, device: Device) -> "RayEngine | None":
        """Ray, if requested."""
        if self.engine == "ray":
            from fusion_classifier.cluster.pool import RayEngine

            return RayEngine(self.address, self.workers, device)
        for name, value in (("--address", self.address), ("--workers", self.workers)):
            if value is not None:
                raise UsageError(f"{name} requires --engine ray")
        return None
