"""Command-line options built from the fields of configurations: docstrings are help texts, defaults are defaults.

A parameter of a command is one of these:
- annotated with typer's own `Option` or `Argument`;
- `Annotated[Given, Options(…)]`: an option for each field of a configuration. The command receives the values given
  on the command line, by field, which override a file and the defaults;
- a pydantic model with options that several commands share; its fields may be `Annotated[Given, Options(…)]`, too.
"""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.models import OptionInfo, ParameterInfo

from fusion_classifier.cli.logs import LogOptions
from fusion_classifier.cli.messages import in_options, use_names
from fusion_classifier.support.validation import checked

R = TypeVar("R")
T = TypeVar("T")
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
# The help of a command with more options than MAX_SHOWN shows these fields only, and --help-all the others.
MAX_SHOWN = 16
FIRST = {
    "data", "text_column", "label_column", "multilabel", "encoder", "head", "learning_rate",
    "max_epochs", "metric", "class_weight", "preset", "objective", "epochs", "seeds", "config", "out",
    "overwrite", "device", "engine", "api_key", "page",
}  # fmt: skip


@dataclass(frozen=True)
class Options:
    """An option for each field of some configurations.

    Attributes:
        panel: Panel of the help.
        models: Configurations by name. Fields with the same name are one option; its help names the configurations.
        defaults: Values by name. Default: the defaults of the fields.
        only: Fields. Default: all.
        without: Fields to leave out.
        layered: Whether values override others: then bools can also be switched off, and lists have commas.
    """

    panel: str | None
    models: Mapping[str, type[BaseModel]]
    defaults: Mapping[str, Mapping[str, Any]] | None = None
    only: Collection[str] = ()
    without: Collection[str] = ("name",)
    layered: bool = True

    def names(self) -> list[str]:
        """Names of the fields."""
        names = self.only or dict.fromkeys(name for model in self.models.values() for name in model.model_fields)
        return [name for name in names if name not in self.without]

    def owners(self, name: str) -> dict[str, FieldInfo]:
        """The fields of this name, by configuration."""
        return {label: model.model_fields[name] for label, model in self.models.items() if name in model.model_fields}

    def parameters(self) -> Iterator[inspect.Parameter]:
        """The options."""
        for name in self.names():
            owners = self.owners(name)
            if inner := _inner(owners):
                yield from inner.parameters()
                continue
            values = {label: owner.default for label, owner in owners.items() if not owner.is_required()}
            if self.defaults is not None:
                values = {label: given[name] for label, given in self.defaults.items() if name in given}
            by_text: dict[str, list[str]] = {}
            for label, owner in owners.items():
                by_text.setdefault(" ".join((owner.description or "").split()), []).append(label)
            alike = len(by_text) == 1 and len(owners) == len(self.models)
            text = " ".join(text if alike else f"{', '.join(labels)}: {text}" for text, labels in by_text.items())
            kind = _plain(next(iter(owners.values())).annotation)
            yield _parameter(name, kind, text, values, self.panel, pair=self.layered)

    def given(self, given: Given) -> Given:
        """The fields given on the command line."""
        found: Given = {}
        for name in self.names():
            if inner := _inner(self.owners(name)):
                found[name] = inner.given(given)
            elif name in given:
                found[name] = given[name]
                if isinstance(given[name], list) and name in WHOLE:
                    found[name] = tuple(given[name])
                elif self.layered and isinstance(given[name], list):
                    found[name] = tuple(word.strip() for part in given[name] for word in part.split(","))
        return found


def _inner(owners: Mapping[str, FieldInfo]) -> Options | None:
    """The options of a field of a group, if it is not a single one."""
    return next((part for owner in owners.values() for part in owner.metadata if isinstance(part, Options)), None)


def _of(annotation: Any) -> Options | None:
    """The options of a parameter, if it is not a single one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return Options(annotation.model_config.get("title"), {"": annotation}, without=(), layered=False)
    return _found(Options, annotation)


def _parameter(
    name: str, kind: Any, text: str, values: Mapping[str, Any], panel: str | None, *, pair: bool
) -> inspect.Parameter:
    """An option with these defaults; if it is a bool, a `pair` of options."""
    default, shown = None, ", ".join(f"{label} {value}" for label, value in values.items()) or False
    if len({repr(value) for value in values.values()}) == 1:
        default = next(iter(values.values()))
        shown = default is not False
    flag = NAMES.get(name, f"--{name.replace('_', '-')}")
    option = typer.Option(
        flag + f"/--no-{flag[2:]}" if kind is bool and (pair or default) else flag,
        *LETTERS.get(name, ()),
        help=text,
        show_default=shown,
        hidden=name not in FIRST,
        **{"rich_help_panel": panel} | DETAILS.get(name, {}),
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None if default == () else [default] if isinstance(default, str) and kind == list[str] else default,
        annotation=Annotated[kind | None, option],
    )


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


class Commands(typer.Typer):
    """Commands with parameters as in the module's docstring; all have the options of `LogOptions`.

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
        leaves += _leaves("logs", LogOptions)
    many = len(leaves) > MAX_SHOWN
    if many:
        leaves += _leaves("help_all", HelpAll, False)
    names = {leaf.name: shown for leaf in leaves if (shown := _shown(leaf))}
    leaves = [_finished(leaf, names, may_hide=many) for leaf in leaves]

    @wraps(function)
    def call(context: typer.Context, **values: Any) -> R:
        use_names(names)
        given = {key: value for key, value in values.items() if _is_given(context, key)}
        if name:
            _value("logs", LogOptions, values, given).start(name)
        values["context"] = context
        return function(**{key: _value(key, annotation, values, given) for key, (annotation, _) in parts.items()})

    first = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    call.__signature__ = inspect.Signature([first, *leaves])  # type: ignore[attr-defined]
    call.__annotations__ = {leaf.name: leaf.annotation for leaf in (first, *leaves)}
    return call


def _leaves(name: str, annotation: Any, default: Any = None) -> Iterator[inspect.Parameter]:
    """The options of a parameter."""
    if options := _of(annotation):
        yield from options.parameters()
    else:
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _value(name: str, annotation: Any, values: Given, given: Given) -> Any:
    """A parameter's value from those of its options."""
    if options := _of(annotation):
        return options.given(given) if options.layered else checked(annotation, options.given(given))
    return values[name]


def _found(kind: type[T], annotation: Any) -> T | None:
    """The object of this kind in an `Annotated`, if there is one."""
    return next((part for part in getattr(annotation, "__metadata__", ()) if isinstance(part, kind)), None)


def _shown(leaf: inspect.Parameter) -> str | None:
    """Name of an option or argument on the command line."""
    info = _found(ParameterInfo, leaf.annotation)
    if isinstance(info, OptionInfo):
        # typer.Option keeps the first word as the default.
        words = map(str, (info.default, *(info.param_decls or ())))
        named = (word.partition("/")[0] for word in words if word.startswith("--"))
        return next(named, f"--{leaf.name.replace('_', '-')}")
    return info.metavar if info else None


def _finished(leaf: inspect.Parameter, names: Mapping[str, str], *, may_hide: bool) -> inspect.Parameter:
    """The option with options named in its help; not hidden unless it `may_hide`."""
    info = copy(_found(ParameterInfo, leaf.annotation))
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
