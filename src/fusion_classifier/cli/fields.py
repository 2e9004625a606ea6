"""Command-line options built from the fields of configurations: docstrings are help texts, defaults are defaults.

A parameter of a command is one of these:
- plain: annotated with typer's own `Option` or `Argument`;
- a layer, `Annotated[Given, Options(…)]`: an option for each field of a configuration. The command receives a
  dictionary of the values given on the command line, which override a file and the defaults;
- a group, a pydantic model with options that several commands share; its fields may be layers, too.

An example with one of each:

    class PlaceOptions(FrozenModel, title="Where"):
        device: Literal["auto", "cpu", "cuda"] = "auto"
        \"""Where to compute.\"""

    @commands.command("fit", example="fec fit --epochs 3")
    def fit(
        *,
        json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
        training: Annotated[Given, Options("Training", {"": TrainingConfig}, only=("max_epochs",))],
        place: PlaceOptions,
    ) -> None: ...

`options_of(fit)` makes this list of it:

    target                      flags      help                        default
    ("json",)                   --json     Print JSON.                 False
    ("training", "max_epochs")  --epochs   Docstring of `max_epochs`.  None: it has none
    ("place", "device")         --device   Where to compute.           auto

From the list, `cli/command.py` makes the signature that typer reads, and the arguments of a call: for
`fec fit --epochs 3`, `fit(json=False, training={"max_epochs": 3}, place=PlaceOptions())`.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.models import OptionInfo, ParameterInfo

Given = dict[str, Any]

NAMES = {"learning_rate": "--lr", "max_epochs": "--epochs"}  # options that are not called as their field
DETAILS: dict[str, dict[str, Any]] = {
    "api_key": {"metavar": "KEY", "envvar": "FEC_API_KEY"},
    "config": {"metavar": "FILE"},
    "cors_allow_origin": {"metavar": "ORIGIN"},
    "data": {"metavar": "DIR"},
    "example": {"metavar": "TEXT"},
    "encoder": {"metavar": "NAME", "rich_help_panel": "Encoders"},
    "head": {"rich_help_panel": "Head"},
    "label_columns": {"metavar": "A,B,…"},
    "limit": {"metavar": "N"},
    "log_file": {"metavar": "FILE"},
    "memory": {"metavar": "SIZE"},
    "out": {"metavar": "DIR", "rich_help_panel": "Where"},
    "overwrite": {"rich_help_panel": "Where"},
    "payload_limit": {"metavar": "BYTES"},
    "projection": {"metavar": "FILE"},
    "recipe": {"rich_help_panel": "Training"},
    "seeds": {"metavar": "N", "rich_help_panel": "Training"},
    "text_column": {"metavar": "NAME"},
    "store": {"metavar": "DIR", "envvar": "FEC_STORE"},
}
WHOLE = {"text_column"}  # a list whose values may contain commas
LETTERS = {"encoder": ("-e",), "verbose": ("-v",)}
# The help of a command with many options shows these fields only, and --help-all the others.
FIRST = {
    "data", "text_column", "label_column", "multilabel", "encoder", "head", "learning_rate",
    "max_epochs", "metric", "class_weight", "preset", "objective", "epochs", "seeds", "config", "out",
    "overwrite", "device", "engine", "api_key", "page",
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """A layer: an option for each field of some configurations.

    Attributes:
        panel: Panel of the help.
        models: Configurations by name. Fields with the same name are one option; its help names the configurations.
        defaults: Values by name. Default: the defaults of the fields.
        only: Fields. Default: all.
        without: Fields to leave out.
    """

    panel: str | None
    models: Mapping[str, type[BaseModel]]
    defaults: Mapping[str, Mapping[str, Any]] | None = None
    only: Collection[str] = ()
    without: Collection[str] = ("name",)


@dataclass(frozen=True)
class Option:
    """An option or argument of a command: where its value goes, and what typer needs to know."""

    target: tuple[str, ...]  # a parameter of the command, and the fields in it
    kind: Any
    info: ParameterInfo
    default: Any = None
    commas: bool = False  # whether its values are lists with commas

    @property
    def name(self) -> str:
        """Its Python name."""
        return self.target[-1]

    @property
    def shown(self) -> str | None:
        """Its name on the command line."""
        if not isinstance(self.info, OptionInfo):
            return self.info.metavar
        # typer.Option keeps the first word as the default.
        words = map(str, (self.info.default, *(self.info.param_decls or ())))
        flags = (word.partition("/")[0] for word in words if word.startswith("--"))
        return next(flags, f"--{self.name.replace('_', '-')}")

    def value(self, given: Any) -> Any:
        """The value of its field."""
        if isinstance(given, list):
            return tuple(word.strip() for part in given for word in part.split(",")) if self.commas else tuple(given)
        return given


def options_of(function: Callable[..., Any]) -> list[Option]:
    """All options and arguments of a command."""
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters.items()
    return [
        option
        for name, given in parameters
        if name != "context"
        for option in options_of_parameter(name, hints[name], given.default)
    ]


def options_of_parameter(name: str, annotation: Any, default: Any = None) -> Iterator[Option]:
    """The options of a parameter."""
    if is_group(annotation):
        yield from _of_fields((name,), Options(annotation.model_config.get("title"), {"": annotation}, without=()))
        return
    kind, info = get_args(annotation)
    if isinstance(info, Options):
        yield from _of_fields((name,), info, in_layer=True)
    else:
        yield Option((name,), kind, info, default)


def _of_fields(target: tuple[str, ...], options: Options, *, in_layer: bool = False) -> Iterator[Option]:
    """The options of the fields of configurations, which `target` will hold.

    In a layer, whose values override others, bools can also be switched off, and lists have commas.
    """
    names = options.only or dict.fromkeys(name for model in options.models.values() for name in model.model_fields)
    for name in (name for name in names if name not in options.without):
        models = {label: model for label, model in options.models.items() if name in model.model_fields}
        fields = {label: model.model_fields[name] for label, model in models.items()}
        first = next(iter(fields.values()))
        if inner := next((part for part in first.metadata if isinstance(part, Options)), None):
            yield from _of_fields((*target, name), inner, in_layer=True)
            continue
        values = {label: field.default for label, field in fields.items() if not field.is_required()}
        if options.defaults is not None:
            values = {label: defaults[name] for label, defaults in options.defaults.items() if name in defaults}
        default, shown = None, ", ".join(f"{label} {value}" for label, value in values.items()) or False
        if len({repr(value) for value in values.values()}) == 1:
            default = next(iter(values.values()))
            shown = default is not False
        kind, flag = _plain(first.annotation), NAMES.get(name, f"--{name.replace('_', '-')}")
        info = typer.Option(
            flag + f"/--no-{flag[2:]}" if kind is bool and (in_layer or default) else flag,
            *LETTERS.get(name, ()),
            help=_help(fields, of_all=len(fields) == len(options.models)),
            show_default=shown,
            hidden=name not in FIRST,
            **{"rich_help_panel": options.panel} | DETAILS.get(name, {}),
        )
        if kind == list[str]:
            default = [default] if isinstance(default, str) else default or None
        yield Option((*target, name), kind | None, info, default, commas=in_layer and name not in WHOLE)


def _help(fields: Mapping[str, FieldInfo], *, of_all: bool) -> str:
    """The docstrings of fields with the same name; with the names of their configurations where they differ."""
    labels: dict[str, list[str]] = {}
    for label, field in fields.items():
        labels.setdefault(" ".join((field.description or "").split()), []).append(label)
    if len(labels) == 1 and of_all:
        return next(iter(labels))
    return " ".join(f"{', '.join(named)}: {text}" for text, named in labels.items())


def is_group(annotation: Any) -> bool:
    """Whether a parameter is a group of options."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _plain(annotation: Any) -> Any:
    """The type of an option: without constraints and None; types that typer does not support become strings."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _plain(parts[0])
    if origin in (Union, UnionType):
        return _plain(next(part for part in parts if part is not NoneType))
    if origin is tuple and parts[0] is str:
        return list[str]
    return annotation if origin is Literal or annotation in (bool, int, float, Path) else str
