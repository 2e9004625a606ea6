"""Commands for typer whose options are those of `cli/fields.py`."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from fusion_classifier.cli.fields import Given, Option, is_group, options_of, options_of_parameter
from fusion_classifier.cli.logs import LogOptions
from fusion_classifier.cli.messages import in_options, use_names
from fusion_classifier.support.files import user_path
from fusion_classifier.support.validation import checked

R = TypeVar("R")
MAX_SHOWN = 16  # of the options of a command with more, --help shows some and --help-all all


class Commands(typer.Typer):
    """Commands with parameters as in `cli/fields.py`; all have the options of `LogOptions`.

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
    parameters = inspect.signature(function).parameters
    groups = {key: kind for key, kind in get_type_hints(function).items() if key in parameters and is_group(kind)}
    options = options_of(function)
    if name:
        options += options_of_parameter("logs", LogOptions)
    many = len(options) > MAX_SHOWN
    if many:
        options += options_of_parameter("help_all", HelpAll, default=False)
    names = {option.name: shown for option in options if (shown := option.shown)}

    @wraps(function)
    def call(context: typer.Context, **values: Any) -> R:
        use_names(names)
        given = {key for key in values if _is_given(context, key)}
        arguments = _arguments(options, values, given) | {"context": context}
        if name:
            checked(LogOptions, arguments["logs"]).start(name)
        arguments = {key: arguments[key] for key in parameters}
        return function(**arguments | {key: checked(group, arguments[key]) for key, group in groups.items()})

    signature = _signature(options, names, may_hide=many)
    call.__signature__ = signature  # type: ignore[attr-defined]
    call.__annotations__ = {key: parameter.annotation for key, parameter in signature.parameters.items()}
    return call


def _signature(options: Sequence[Option], names: Mapping[str, str], *, may_hide: bool) -> inspect.Signature:
    """A parameter for each option, as typer reads them; help texts name options by `names`."""
    keyword = partial(inspect.Parameter, kind=inspect.Parameter.KEYWORD_ONLY)
    parameters = [keyword("context", annotation=typer.Context)]
    for option in options:
        info = copy(option.info)  # commands share those of plain options
        info.help, info.hidden = in_options(info.help or "", names), may_hide and info.hidden
        parameters.append(keyword(option.name, default=option.default, annotation=Annotated[option.kind, info]))
    return inspect.Signature(parameters)


def _arguments(options: Sequence[Option], values: Given, given: Collection[str]) -> Given:
    """Values by parameter: of a plain option its value; of a layer or group a dictionary of those `given`."""
    arguments: Given = {}
    for option in options:
        *owners, name = option.target
        fields = arguments
        for owner in owners:
            fields = fields.setdefault(owner, {})
        value = values[name]
        if isinstance(value, Path):
            value = user_path(str(value), name)  # shells leave the ~ of --out=~/runs
        if not owners:
            fields[name] = value
        elif name in given:
            fields[name] = option.value(value)
    return arguments


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
