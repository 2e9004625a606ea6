"""Options that several commands share, as groups.

A group is a frozen dataclass of typer options with a method that turns them into a configuration. A command
takes a group as one parameter; `grouped` spreads its fields into the command's signature, where typer reads
them.
"""

import inspect
import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

import typer
from pydantic import BaseModel, ByteSize, TypeAdapter, ValidationError

from fusion_classifier.config import (
    DEFAULT_ENCODERS,
    DEFAULT_HEAD,
    HEAD_CONFIGS,
    Device,
    Dtype,
    EncoderConfig,
    FeatureKind,
    FusionConfig,
    LlmEmbedConfig,
    Quantization,
    RunConfig,
    ServerSettings,
    TaskConfig,
    TrainingConfig,
    TuneConfig,
    field_help,
)
from fusion_classifier.errors import UsageError
from fusion_classifier.version import __version__, source_commit

if TYPE_CHECKING:
    from fusion_classifier.cluster.pool import RayEngine
    from fusion_classifier.runs.context import Workspace
    from fusion_classifier.tasks.loaded import LoadedTask
    from fusion_classifier.training.tracking import Tracking

# torch and transformers take seconds to import: what needs them is imported where it is used, so that --help
# and usage errors answer at once.
# ruff: noqa: PLC0415

logger = logging.getLogger(__name__)

C = TypeVar("C", bound=BaseModel)
R = TypeVar("R")

DATA, ENCODER, HEAD, TRAINING, PLACE, ENGINE = "Data", "Encoders", "Head", "Training", "Where", "Engine"
LIMITS, ACCESS, LOG = "Limits", "Access", "Log"
SECRETS = ("api_key",)  # no message repeats them


def option(*names: str, panel: str, help: str, **more: Any) -> Any:  # noqa: A002
    """A typer option in a panel of the help."""
    return typer.Option(*names, rich_help_panel=panel, help=help, **more)


def _checked(model: type[C], given: Mapping[str, Any]) -> C:
    """The configuration of these values.

    Raises:
        UsageError: a value that can't be; the message names its option.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        problem = error.errors()[0]
        field = str(problem["loc"][0])
        shown = {"name": "TASK", "learning_rate": "--lr"}.get(field, f"--{field.replace('_', '-')}")
        message = "is no text (half of a surrogate pair)" if problem["type"] == "string_unicode" else problem["msg"]
        given_value = "" if field in SECRETS else f", not {problem['input']!r}"
        raise UsageError(f"{shown}: {message}{given_value}") from None


@dataclass(frozen=True)
class DataOptions:
    """Where texts come from and how they are read."""

    data: Annotated[Path | None, option("--data", panel=DATA, metavar="DIR", help=field_help(TaskConfig, "data"))] = (
        None
    )
    text_column: Annotated[str, option("--text-column", panel=DATA, help=field_help(TaskConfig, "text_column"))] = (
        "text"
    )
    label_column: Annotated[
        str, option("--label-column", panel=DATA, help=field_help(TaskConfig, "label_column"))
    ] = "label"
    multilabel: Annotated[bool, option("--multilabel", panel=DATA, help=field_help(TaskConfig, "multilabel"))] = False
    label_separator: Annotated[
        str, option("--label-separator", panel=DATA, help=field_help(TaskConfig, "label_separator"))
    ] = ","
    label_columns: Annotated[
        str | None,
        option(
            "--label-columns",
            panel=DATA,
            metavar="A,B,…",
            help=field_help(TaskConfig, "label_columns"),
        ),
    ] = None
    augment_column: Annotated[
        str | None, option("--augment-column", panel=DATA, help=field_help(TaskConfig, "augment_column"))
    ] = None
    split_seed: Annotated[int, option("--split-seed", panel=DATA, help=field_help(TaskConfig, "split_seed"))] = 0
    limit: Annotated[
        int | None, option("--limit", panel=DATA, metavar="N", min=1, help=field_help(TaskConfig, "limit"))
    ] = None

    def config(self, task: str) -> TaskConfig:
        """The configuration of this task.

        Raises:
            UsageError: options that don't go together.
        """
        indicators = tuple(name.strip() for name in self.label_columns.split(",")) if self.label_columns else ()
        if self.label_columns is not None and (len(set(indicators)) < 2 or not all(indicators)):
            raise UsageError(f"--label-columns {self.label_columns!r}: name two or more columns, with commas between")
        if indicators and self.multilabel:
            raise UsageError("--multilabel reads one column with several labels, --label-columns a column a label")
        given = {
            "name": task,
            "data": None if self.data is None else str(self.data),
            "text_column": self.text_column,
            "label_column": self.label_column,
            "multilabel": self.multilabel,
            "label_separator": self.label_separator,
            "label_columns": indicators,
            "augment_column": self.augment_column,
            "split_seed": self.split_seed,
            "limit": self.limit,
        }
        return _checked(TaskConfig, given)

    def load(self, task: str, splits: Sequence[str] | None = None) -> "tuple[LoadedTask, list[str]]":
        """The texts of this task, and the splits to work on: read before torch is imported, which takes seconds.

        Raises:
            UsageError, DataError: see the messages.
        """
        from fusion_classifier.tasks.registry import load_splits

        return load_splits(self.config(task), splits)


@dataclass(frozen=True)
class EncoderOptions:
    """Which encoders, and what is taken from them."""

    encoder: Annotated[
        list[str] | None,
        option(
            "--encoder",
            "-e",
            panel=ENCODER,
            metavar="NAME",
            help="A preset (fec encoders), Hub id, local folder or GGUF file; may be repeated. NAME=PATH takes "
            "the weights from PATH; NAME?layers=2,4,6&pooling=tokens sets what holds for this encoder only. "
            f"Unless given: {' and '.join(DEFAULT_ENCODERS)}.",
        ),
    ] = None
    layers: Annotated[
        str | None,
        option("--layers", panel=ENCODER, help="Such as -5:-1 or 2,4,6. " + field_help(EncoderConfig, "layers")),
    ] = None
    pooling: Annotated[str | None, option("--pooling", panel=ENCODER, help=field_help(EncoderConfig, "pooling"))] = (
        None
    )
    template: Annotated[
        str | None, option("--template", panel=ENCODER, help=field_help(EncoderConfig, "template"))
    ] = None
    max_length: Annotated[
        int | None, option("--max-length", panel=ENCODER, help=field_help(EncoderConfig, "max_length"))
    ] = None
    dtype: Annotated[Dtype | None, option("--dtype", panel=ENCODER, help=field_help(EncoderConfig, "dtype"))] = None
    quantization: Annotated[
        Quantization | None, option("--quantization", panel=ENCODER, help=field_help(EncoderConfig, "quantization"))
    ] = None
    projection: Annotated[
        str | None,
        option("--projection", panel=ENCODER, metavar="FILE", help=field_help(EncoderConfig, "projection")),
    ] = None
    pool_special_tokens: Annotated[
        bool | None,
        option(
            "--pool-special-tokens/--no-pool-special-tokens",
            panel=ENCODER,
            help=field_help(EncoderConfig, "pool_special_tokens"),
        ),
    ] = None

    def configs(self, features: FeatureKind = "pooled") -> tuple[EncoderConfig, ...]:
        """The encoders' configurations; `features` where no pooling is given."""
        from fusion_classifier.encoders.spec import parse_encoders

        special = self.pool_special_tokens
        settings = {
            "layers": self.layers,
            "pooling": self.pooling,
            "template": self.template,
            "max_length": None if self.max_length is None else str(self.max_length),
            "dtype": self.dtype,
            "quantization": self.quantization,
            "projection": self.projection,
            "pool_special_tokens": None if special is None else str(special).lower(),
        }
        return parse_encoders(self.encoder or list(DEFAULT_ENCODERS), settings, features=features)


def reads(head: str) -> FeatureKind:
    """Which features a head reads unless told otherwise.

    Raises:
        UsageError: no such head.
    """
    if head not in HEAD_CONFIGS:
        raise UsageError(f"no head {head!r}; there are {', '.join(HEAD_CONFIGS)}")
    return HEAD_CONFIGS[head].reads


@dataclass(frozen=True)
class TrainingOptions:
    """Head, hyper-parameters, seeds, and where the run is written."""

    head: Annotated[str, option("--head", panel=HEAD, help=f"{' or '.join(HEAD_CONFIGS)}.")] = DEFAULT_HEAD
    sigma: Annotated[
        float | None, option("--sigma", panel=HEAD, help="llmembed: " + field_help(LlmEmbedConfig, "sigma"))
    ] = None
    width: Annotated[
        int | None,
        option(
            "--width",
            panel=HEAD,
            help=f"fusion: {field_help(FusionConfig, 'width')} llmembed: {field_help(LlmEmbedConfig, 'width')}",
        ),
    ] = None
    cooccurrence: Annotated[
        int | None, option("--cooccurrence", panel=HEAD, help="fusion: " + field_help(FusionConfig, "cooccurrence"))
    ] = None
    dropout: Annotated[
        float | None,
        option("--dropout", panel=HEAD, help="fusion, llmembed: " + field_help(LlmEmbedConfig, "dropout")),
    ] = None
    recipe: Annotated[
        str,
        option("--recipe", panel=TRAINING, help="default: chosen on validation; published: Adam 1e-4, batch 10."),
    ] = "default"
    lr: Annotated[float | None, option("--lr", panel=TRAINING, help=field_help(TrainingConfig, "learning_rate"))] = (
        None
    )
    batch_size: Annotated[
        int | None, option("--batch-size", panel=TRAINING, help=field_help(TrainingConfig, "batch_size"))
    ] = None
    epochs: Annotated[
        int | None, option("--epochs", panel=TRAINING, help=field_help(TrainingConfig, "max_epochs"))
    ] = None
    min_steps: Annotated[
        int | None, option("--min-steps", panel=TRAINING, help=field_help(TrainingConfig, "min_steps"))
    ] = None
    patience: Annotated[
        int | None, option("--patience", panel=TRAINING, help=field_help(TrainingConfig, "patience"))
    ] = None
    weight_decay: Annotated[
        float | None,
        option("--weight-decay", panel=TRAINING, help=field_help(TrainingConfig, "weight_decay")),
    ] = None
    calibrate: Annotated[
        bool,
        option("--calibrate/--no-calibrate", panel=TRAINING, help=field_help(TrainingConfig, "calibrate")),
    ] = True
    seeds: Annotated[
        int,
        option(
            "--seeds", panel=TRAINING, metavar="N", min=1, max=1000, help="Train N times, with the seeds 0 to N − 1."
        ),
    ] = 1
    out: Annotated[
        Path | None,
        option("--out", panel=PLACE, metavar="DIR", help="Run folder; runs/TASK-HEAD unless given."),
    ] = None
    overwrite: Annotated[
        bool,
        option("--overwrite", panel=PLACE, help="Replace a run with another configuration in the same folder."),
    ] = False

    def config(self, task: TaskConfig, encoders: tuple[EncoderConfig, ...]) -> RunConfig:
        """The configuration of the run."""
        from fusion_classifier.fusion.registry import parse_head
        from fusion_classifier.training.defaults import recipe

        return RunConfig(
            task=task,
            encoders=encoders,
            head=parse_head(
                self.head,
                sigma=self.sigma,
                width=self.width,
                cooccurrence=self.cooccurrence,
                dropout=self.dropout,
            ),
            training=recipe(
                self.recipe,
                self.head,
                learning_rate=self.lr,
                batch_size=self.batch_size,
                max_epochs=self.epochs,
                min_steps=self.min_steps,
                patience=self.patience,
                weight_decay=self.weight_decay,
                calibrate=self.calibrate,
            ),
            seeds=tuple(range(self.seeds)),
        )

    def folder(self, task: str) -> Path:
        """The run folder."""
        return self.out or Path("runs") / f"{task}-{self.head}"


@dataclass(frozen=True)
class TrackingOptions:
    """To which experiment tracker training reports. Not part of a run's configuration: it decides no result."""

    track: Annotated[
        Literal["trackio", "mlflow", "tensorboard"] | None,
        option(
            "--track",
            panel=TRAINING,
            help="Report parameters, epochs and final metrics to an experiment tracker; an extra each.",
        ),
    ] = None
    track_project: Annotated[
        str | None,
        option("--track-project", panel=TRAINING, help="What it is filed under there; the task unless given."),
    ] = None

    def tracking(self, config: RunConfig, task: str, out: Path, work: "Workspace") -> "Tracking":
        """What training reports to.

        Raises:
            UsageError: a project without a tracker, or a package that is not installed.
            FecError: the tracker can't be reached.
        """
        from fusion_classifier.training.tracking import NOT_TRACKED, track

        if self.track is None:
            if self.track_project is not None:
                raise UsageError("--track-project: goes with --track")
            return NOT_TRACKED
        return track(self.track, self.track_project, config, task, out, work.say)


DEFAULT_LORA_RANK = 8


@dataclass(frozen=True)
class TuneOptions:
    """How an encoder is fine-tuned, and where it is written."""

    out: Annotated[
        Path, option("--out", panel=PLACE, metavar="DIR", help="Folder for the tuned encoder.", show_default=False)
    ]
    epochs: Annotated[int, option("--epochs", panel=TRAINING, help=field_help(TuneConfig, "epochs"))] = 3
    lr: Annotated[float | None, option("--lr", panel=TRAINING, help=field_help(TuneConfig, "learning_rate"))] = None
    batch_size: Annotated[int, option("--batch-size", panel=TRAINING, help=field_help(TuneConfig, "batch_size"))] = 32
    weight_decay: Annotated[
        float, option("--weight-decay", panel=TRAINING, help=field_help(TuneConfig, "weight_decay"))
    ] = 0.01
    warmup: Annotated[float, option("--warmup", panel=TRAINING, help=field_help(TuneConfig, "warmup"))] = 0.1
    seed: Annotated[int, option("--seed", panel=TRAINING, help=field_help(TuneConfig, "seed"))] = 0
    lora: Annotated[
        bool,
        option("--lora", panel=TRAINING, help="Train LoRA adapters instead of all weights; needs the extra tune."),
    ] = False
    lora_rank: Annotated[
        int | None,
        option("--lora-rank", panel=TRAINING, help=f"Their rank; {DEFAULT_LORA_RANK} unless given, with --lora."),
    ] = None
    max_length: Annotated[
        int | None, option("--max-length", panel=ENCODER, help=field_help(EncoderConfig, "max_length"))
    ] = None
    dtype: Annotated[Dtype | None, option("--dtype", panel=ENCODER, help=field_help(EncoderConfig, "dtype"))] = None
    overwrite: Annotated[bool, option("--overwrite", panel=PLACE, help="Replace a tuned encoder in that folder.")] = (
        False
    )

    def config(self) -> TuneConfig:
        """How to train.

        Raises:
            UsageError: a value that can't be.
        """
        if self.lora_rank is not None and not self.lora:
            raise UsageError("--lora-rank goes with --lora")
        rank = DEFAULT_LORA_RANK if self.lora and self.lora_rank is None else self.lora_rank
        given = {
            "epochs": self.epochs,
            "learning_rate": self.lr,
            "batch_size": self.batch_size,
            "weight_decay": self.weight_decay,
            "warmup": self.warmup,
            "seed": self.seed,
            "lora_rank": rank,
        }
        return _checked(TuneConfig, given)

    def encoder(self, spec: str) -> EncoderConfig:
        """Which encoder to start from, as on the other commands."""
        from fusion_classifier.encoders.spec import parse_encoder

        length = None if self.max_length is None else str(self.max_length)
        return parse_encoder(spec, {"max_length": length, "dtype": self.dtype})


@dataclass(frozen=True)
class PlaceOptions:
    """Store, device and memory."""

    store: Annotated[
        str | None,
        option(
            "--store",
            panel=PLACE,
            envvar="FEC_STORE",
            metavar="DIR",
            help="Feature store, a folder or s3://BUCKET/PREFIX; your cache unless given.",
        ),
    ] = None
    device: Annotated[Device, option("--device", panel=PLACE, help="auto takes CUDA, then MPS, then the CPU.")] = (
        "auto"
    )
    memory: Annotated[
        str | None,
        option(
            "--memory",
            panel=PLACE,
            metavar="SIZE",
            help="What features may take of the memory, 4GB say, before they are read in blocks; half of what is "
            "free unless given.",
        ),
    ] = None

    def workspace(self) -> "Workspace":
        """Store, device, progress and memory."""
        from fusion_classifier.encoders.device import resolve_device
        from fusion_classifier.features.extract import memory_for_features
        from fusion_classifier.features.store import FeatureStore
        from fusion_classifier.runs.context import Workspace
        from fusion_classifier.support.progress import Progress

        memory = memory_for_features() if self.memory is None else _bytes_of(self.memory)
        return Workspace(FeatureStore(self.store), resolve_device(self.device), Progress(lines=True), memory)


def _bytes_of(size: str) -> int:
    try:
        found = int(TypeAdapter(ByteSize).validate_python(size))
    except ValidationError:
        found = 0
    if found <= 0:
        raise UsageError(f"--memory {size!r}: write a size like 500MB or 4GB")
    return found


@dataclass(frozen=True)
class EngineOptions:
    """Who encodes: this process, or workers of Ray."""

    engine: Annotated[
        Literal["local", "ray"],
        option("--engine", panel=ENGINE, help="ray spreads the work over workers, here or on a cluster."),
    ] = "local"
    address: Annotated[
        str | None,
        option("--address", panel=ENGINE, help="Of a Ray cluster, auto for the one of this machine; else here."),
    ] = None
    workers: Annotated[
        int | None, option("--workers", panel=ENGINE, min=1, help="Of Ray; one a GPU, or else a core, unless given.")
    ] = None

    def ray(self, device: Device) -> "RayEngine | None":
        """Ray, if it is asked for.

        Raises:
            UsageError: its options without it.
        """
        if self.engine == "ray":
            from fusion_classifier.cluster.pool import RayEngine

            return RayEngine(self.address, self.workers, device)
        for name, value in (("--address", self.address), ("--workers", self.workers)):
            if value is not None:
                raise UsageError(f"{name}: goes with --engine ray")
        return None


def _setting(name: str, panel: str, **more: Any) -> Any:
    """The option of a server's setting."""
    return option(f"--{name.replace('_', '-')}", panel=panel, help=field_help(ServerSettings, name), **more)


@dataclass(frozen=True)
class ServerOptions:
    """Limits and access of a server."""

    max_concurrent_requests: Annotated[int, _setting("max_concurrent_requests", LIMITS)] = 512
    max_client_batch_size: Annotated[int, _setting("max_client_batch_size", LIMITS)] = 32
    max_batch_tokens: Annotated[int, _setting("max_batch_tokens", LIMITS)] = 2048
    max_wait_ms: Annotated[float, _setting("max_wait_ms", LIMITS)] = 2.0
    payload_limit: Annotated[int, _setting("payload_limit", LIMITS, metavar="BYTES")] = 2_000_000
    max_text_characters: Annotated[int, _setting("max_text_characters", LIMITS)] = 100_000
    auto_truncate: Annotated[bool, _setting("auto_truncate", LIMITS)] = False
    api_key: Annotated[str | None, _setting("api_key", ACCESS, metavar="KEY", envvar="FEC_API_KEY")] = None
    cors_allow_origin: Annotated[list[str] | None, _setting("cors_allow_origin", ACCESS, metavar="ORIGIN")] = None
    page: Annotated[bool, option("--page/--no-page", panel=ACCESS, help=field_help(ServerSettings, "page"))] = True

    def settings(self) -> ServerSettings:
        """The settings.

        Raises:
            UsageError: a value that can't be.
        """
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        given["cors_allow_origin"] = tuple(self.cors_allow_origin or ())
        return _checked(ServerSettings, given)


def encoder_paths(specs: list[str] | None) -> dict[str, str]:
    """Places of encoders' weights from NAME=PATH, for commands where the model says which encoders it has.

    Raises:
        UsageError: not of that form.
    """
    paths = {}
    for spec in specs or []:
        name, sign, path = spec.partition("=")
        if not sign or not name or not path:
            raise UsageError(f"--encoder {spec!r}: write NAME=PATH; the model itself says which encoders it has")
        paths[name] = path
    return paths


@dataclass(frozen=True)
class LogOptions:
    """Whether and where a command says what it does."""

    verbose: Annotated[
        bool, option("--verbose", "-v", panel=LOG, help="Say what happens, step by step, on standard error.")
    ] = False
    log_file: Annotated[
        Path | None,
        option("--log-file", panel=LOG, metavar="FILE", help="Add the same to a file, a line of JSON each."),
    ] = None

    def start(self, command: str) -> None:
        """Begin to log, first of all what runs here.

        Raises:
            UsageError: the file can't be written.
        """
        if not self.verbose and self.log_file is None:
            return
        from fusion_classifier.support import logs

        if self.verbose:
            logs.to_console()
        if self.log_file is not None:
            logs.to_file(self.log_file)
        python = platform.python_version()
        # Not the arguments: texts may be among them.
        logger.info("fec %s", command, extra={"version": __version__, "commit": source_commit(), "python": python})


class Commands(typer.Typer):
    """Commands that all have the options of `LogOptions`, last in the help."""

    def command(  # type: ignore[override]  # typer lists a dozen options
        self, name: str | None = None, **more: Any
    ) -> Callable[[Callable[..., R]], Callable[..., R]]:
        """As typer's."""
        register = super().command(name, **more)
        return lambda function: register(_logged(function, name or function.__name__))


def _logged(command: Callable[..., R], name: str) -> Callable[..., R]:
    """The command with the options of `LogOptions`."""
    types = get_type_hints(LogOptions, include_extras=True)
    before = inspect.signature(command, eval_str=True)

    @wraps(command)
    def logging_first(**given: Any) -> R:
        LogOptions(**{field.name: given.pop(field.name) for field in fields(LogOptions)}).start(name)
        return command(**given)

    more = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name]
        )
        for field in fields(LogOptions)
    ]
    parameters = [*before.parameters.values(), *more]
    logging_first.__signature__ = before.replace(parameters=parameters)  # type: ignore[attr-defined]
    logging_first.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return logging_first


def grouped(command: Callable[..., R]) -> Callable[..., R]:
    """The command with every parameter that is a group spread into the group's options."""
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type[Any]] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        annotation = hints[name]
        if not is_dataclass(annotation):
            parameters.append(parameter.replace(annotation=annotation, kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        assert isinstance(annotation, type)
        groups[name] = annotation
        types = get_type_hints(annotation, include_extras=True)
        parameters += [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=types[field.name],
            )
            for field in fields(annotation)
        ]

    @wraps(command)
    def spread(**given: Any) -> R:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        return command(**given)

    spread.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    spread.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return spread
