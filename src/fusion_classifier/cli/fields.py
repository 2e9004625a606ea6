"""Options made of configurations: a field is the option, its docstring the help, its default the default.

A parameter of a command is one of these:
- annotated with typer's own `Option` or `Argument`;
- `Annotated[Given, Options(…)]`: an option for each field of a configuration. The command receives the values that
  stand on the command line, by field, to put them over those of a file or the defaults;
- a dataclass of such fields: a group of options that several commands share.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from copy import copy
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import typer
from pydantic import BaseModel
from typer.models import OptionInfo, ParameterInfo

from fusion_classifier.cli.logs import LogOptions
from fusion_classifier.cli.messages import in_options, use_names

R = TypeVar("R")
Given = dict[str, Any]

NAMES = {"learning_rate": "--lr", "max_epochs": "--epochs"}  # options that are not called as their field
DETAILS: dict[str, dict[str, Any]] = {
    "api_key": {"metavar": "KEY", "envvar": "FEC_API_KEY"},
    "cors_allow_origin": {"metavar": "ORIGIN"},
    "data": {"metavar": "DIR"},
    "label_columns": {"metavar": "A,B,…"},
    "limit": {"metavar": "N"},
    "payload_limit": {"metavar": "BYTES"},
    "projection": {"metavar": "FILE"},
}
MANY = 16  # a command with more options shows only by --help-all those that are hidden
# Fields that are not hidden.
FIRST = {
    "data",
    "text_column",
    "label_column",
    "multilabel",
    "learning_rate",
    "max_epochs",
    "epochs",
    "api_key",
    "page",
}


@dataclass(frozen=True)
class Options:
    """An option for each field of some configurations.

    Attributes:
        panel: Panel of the help.
        models: Configurations by name. Fields with the same name are one option; its help names the configurations.
        defaults: Values by name. Default: the defaults of the fields.
        only: Fields. Default: all.
        without: Fields to leave out.
    """

    panel: str
    models: Mapping[str, type[BaseModel]]
    defaults: Mapping[str, Mapping[str, Any]] | None = None
    only: Collection[str] = ()
    without: Collection[str] = ("name",)

    def fields(self) -> list[str]:
        """Names of the fields."""
        names = self.only or dict.fromkeys(name for model in self.models.values() for name in model.model_fields)
        return [name for name in names if name not in self.without]

    def parameter(self, name: str) -> inspect.Parameter:
        """The option of a field."""
        by_model = {label: model.model_fields.get(name) for label, model in self.models.items()}
        owners = {label: owner for label, owner in by_model.items() if owner is not None}
        kind = _plain(next(iter(owners.values())).annotation)
        flag = NAMES.get(name, f"--{name.replace('_', '-')}")
        if kind is bool:
            flag += f"/--no-{flag[2:]}"
        by_text: dict[str, list[str]] = {}
        for label, owner in owners.items():
            by_text.setdefault(" ".join((owner.description or "").split()), []).append(label)
        alike = len(by_text) == 1 and len(owners) == len(self.models)
        text = " ".join(text if alike else f"{', '.join(labels)}: {text}" for text, labels in by_text.items())
        if self.defaults is None:
            values = {label: owner.default for label, owner in owners.items() if not owner.is_required()}
        else:
            values = {label: given[name] for label, given in self.defaults.items() if name in given}
        default, shown = _default(values)
        option = typer.Option(
            flag,
            help=text,
            show_default=shown,
            hidden=name not in FIRST,
            rich_help_panel=self.panel,
            **DETAILS.get(name, {}),
        )
        return inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind | None, option]
        )


def _default(values: Mapping[str, Any]) -> tuple[Any, bool | str]:
    """The default of an option and how it is shown: with names where there are several."""
    distinct = {repr(value) for value in values.values()}
    if len(distinct) == 1:
        default = next(iter(values.values()))
        return None if default == () else default, default is not False
    return None, ", ".join(f"{label} {value}" for label, value in values.items()) or False


def _plain(annotation: Any) -> Any:
    """The type of an option: without constraints and None; what typer does not read is a string."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _plain(parts[0])
    if origin in (Union, UnionType):
        return _plain(next(part for part in parts if part is not NoneType))
    if origin is tuple and parts[0] is str:
        return list[str]
    return annotation if origin is Literal or annotation in (bool, int, float, Path) else str


class Commands(typer.Typer):
    """Commands whose parameters are as the module's docstring says; all have the options of `LogOptions`.

    `panel` is their panel in the help of `fec`.
    """

    def __init__(self, *, panel: str | None = None, **more: Any) -> None:
        super().__init__(**more)
        self.panel = panel

    def command(  # type: ignore[override]  # typer's has a dozen parameters
        self, name: str, *, example: str
    ) -> Callable[[Callable[..., R]], Callable[..., R]]:
        """A command of this name, with an example in its help."""
        register = super().command(name, epilog=f"Example:  {example}", rich_help_panel=self.panel)
        return lambda function: register(_prepared(function, name))

    def callback(self, **more: Any) -> Callable[[Callable[..., R]], Callable[..., R]]:  # type: ignore[override]
        """As typer's."""
        register = super().callback(**more)
        return lambda function: register(_prepared(function, None))


def _prepared(function: Callable[..., R], name: str | None) -> Callable[..., R]:
    """The function with a parameter for each option, as typer takes it; a command if it has a `name`."""
    hints = get_type_hints(function, include_extras=True)
    parts = {key: (hints[key], given.default) for key, given in inspect.signature(function).parameters.items()}
    leaves = [leaf for key, part in parts.items() if key != "context" for leaf in _leaves(key, *part)]
    if name:
        leaves += _leaves("logs", LogOptions, inspect.Parameter.empty)
    many = len(leaves) > MANY
    if many:
        leaves += _leaves("help_all", HelpAll, False)
    names = {leaf.name: shown for leaf in leaves if (shown := _shown(_info(leaf)))}
    leaves = [_finished(leaf, names, may_hide=many) for leaf in leaves]

    @wraps(function)
    def call(context: typer.Context, **values: Any) -> R:
        use_names(names)
        given = {key: value for key, value in values.items() if _is_given(context, key)}
        if name:
            _collected("logs", LogOptions, values, given).start(name)
        values["context"] = context
        return function(**{key: _collected(key, annotation, values, given) for key, (annotation, _) in parts.items()})

    first = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    call.__signature__ = inspect.Signature([first, *leaves])  # type: ignore[attr-defined]
    call.__annotations__ = {leaf.name: leaf.annotation for leaf in (first, *leaves)}
    return call


def _leaves(name: str, annotation: Any, default: Any) -> Iterator[inspect.Parameter]:
    """The options of a parameter."""
    if isinstance(annotation, type) and is_dataclass(annotation):
        hints = get_type_hints(annotation, include_extras=True)
        for field in fields(annotation):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            yield from _leaves(field.name, hints[field.name], default)
    elif (options := _options(annotation)) is not None:
        yield from map(options.parameter, options.fields())
    else:
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _collected(name: str, annotation: Any, values: Given, given: Given) -> Any:
    """A parameter's value from those of its options."""
    if isinstance(annotation, type) and is_dataclass(annotation):
        hints = get_type_hints(annotation, include_extras=True)
        return annotation(**{f.name: _collected(f.name, hints[f.name], values, given) for f in fields(annotation)})
    if (options := _options(annotation)) is not None:
        return {key: _split(given[key]) for key in options.fields() if key in given}
    return values[name]


def _split(value: Any) -> Any:
    """Several values: an option that is repeated, or commas between them."""
    return tuple(word.strip() for part in value for word in part.split(",")) if isinstance(value, list) else value


def _options(annotation: Any) -> Options | None:
    return next((part for part in getattr(annotation, "__metadata__", ()) if isinstance(part, Options)), None)


def _info(leaf: inspect.Parameter) -> ParameterInfo | None:
    """What typer knows of an option or argument."""
    metadata = getattr(leaf.annotation, "__metadata__", ())
    return next((part for part in metadata if isinstance(part, ParameterInfo)), None)


def _shown(info: ParameterInfo | None) -> str | None:
    """What the option or argument is called on the command line."""
    if isinstance(info, OptionInfo):
        words = map(
            str, (info.default, *(info.param_decls or ()))
        )  # typer.Option keeps the first word as the default
        return next(word.partition("/")[0] for word in words if word.startswith("--"))
    return info.metavar if info else None


def _finished(leaf: inspect.Parameter, names: Mapping[str, str], *, may_hide: bool) -> inspect.Parameter:
    """The option with options named in its help; not hidden unless it `may_hide`."""
    info = copy(_info(leaf))
    if info is None:
        return leaf
    info.help, info.hidden = in_options(info.help or "", names), may_hide and info.hidden
    return leaf.replace(annotation=Annotated[get_args(leaf.annotation)[0], info])


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")


def show_all(command: Any) -> None:
    """Let the help of a command, or of all commands of a group, show all options."""
    for parameter in command.params:
        parameter.hidden = False
    for subcommand in getattr(command, "commands", {}).values():
        show_all(subcommand)


def _help_all(context: typer.Context, wanted: bool) -> None:
    if wanted:
        show_all(context.command)
        typer.echo(context.get_help())
        raise typer.Exit


HelpAll = Annotated[
    bool, typer.Option("--help-all", callback=_help_all, is_eager=True, help="Show all options and exit.")
]
