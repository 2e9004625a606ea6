"""Options made of the fields of configurations."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

from fusion_classifier.cli.command import MAX_SHOWN, Commands
from fusion_classifier.cli.fields import Given, Options
from fusion_classifier.cli.messages import in_options
from fusion_classifier.config import FrozenModel, TaskConfig
from fusion_classifier.errors import UsageError


class Small(FrozenModel):
    """A configuration."""

    width: Annotated[int, Field(ge=1)] = 8
    """Width of `small_rate`."""
    small_rate: Annotated[float, Field(gt=0)] | None = None
    """Rate."""
    kind: Literal["plain", "fancy"] = "plain"
    """Kind."""
    loud: bool = False
    """Whether it is loud."""
    columns: tuple[str, ...] = ()
    """Columns."""


class Large(FrozenModel):
    """Another with a field of the same name."""

    width: int = 1000
    """Width of the large one."""
    rate: float
    """Rate of the large one."""


class Group(FrozenModel, title="Group"):
    """A group of options."""

    name: Annotated[str, Field(min_length=1)] = "x"
    """Name of the group."""
    words: tuple[str, ...] = ()
    """Words."""
    values: Annotated[Given, Options("", {"": Small}, only=("width",))]


def ran(command: object, *arguments: str) -> str:
    """What a command of this function prints."""
    commands = Commands()
    commands.command("it", example="fec it")(command)  # type: ignore[arg-type]
    done = CliRunner().invoke(commands, [*arguments], env={"COLUMNS": "200", "TERM": "dumb"})
    assert done.exit_code == 0, done.output + repr(done.exception)
    return done.output


def show(*, values: Annotated[Given, Options("Panel", {"": Small})]) -> None:
    typer.echo(values)


def test_only_what_is_given_arrives() -> None:
    assert ran(show) == "{}\n"
    given = ran(show, "--width", "8", "--no-loud", "--columns", "a, b", "--columns", "c", "--kind", "plain")
    assert eval(given) == {"width": 8, "kind": "plain", "loud": False, "columns": ("a", "b", "c")}  # noqa: S307


def test_help_and_default_are_those_of_the_field() -> None:
    help_ = ran(show, "--help")
    assert "Width of --small-rate." in help_
    assert "[default: 8]" in help_
    assert "<plain|fancy>" in help_ or "[plain|fancy]" in help_
    assert "--no-loud" in help_
    assert "Panel" in help_


def test_fields_of_one_name_are_one_option() -> None:
    def both(*, values: Annotated[Given, Options("", {"small": Small, "large": Large})]) -> None:
        typer.echo(values)

    help_ = " ".join(ran(both, "--help").replace("│", " ").split())
    assert "small: Width of --small-rate. large: Width of the large one. [default: (small 8, large 1000)]" in help_
    assert "large: Rate of the large one." in help_
    assert ran(both, "--rate", "2") == "{'rate': 2.0}\n"


def test_defaults_may_come_from_elsewhere() -> None:
    def recipes(*, values: Annotated[Given, Options("", {"": Large}, {"a": {"rate": 1}, "b": {"rate": 2}})]) -> None:
        typer.echo(values)

    assert "[default: (a 1, b 2)]" in ran(recipes, "--help")
    assert ran(recipes) == "{}\n"


def test_a_group_is_filled_from_its_options() -> None:
    def grouped(*, group: Group) -> None:
        typer.echo(f"{group.name} {group.words} {group.values}")

    assert ran(grouped, "--width", "3") == "x () {'width': 3}\n"
    assert ran(grouped, "--name", "y", "--words", "a,b", "--words", "c") == "y ('a,b', 'c') {}\n"
    assert "Name of the group." in ran(grouped, "--help")


def test_a_value_that_a_group_refuses_names_its_option() -> None:
    def grouped(*, group: Group) -> None:
        typer.echo(group.name)

    commands = Commands()
    commands.command("it", example="fec it")(grouped)
    error = CliRunner().invoke(commands, ["--name", ""]).exception
    assert isinstance(error, UsageError)
    assert in_options(str(error)).startswith("--name: ")


def test_many_options_are_shown_by_help_all_only() -> None:
    many: dict[str, object] = {f"option_{i}": (int, i) for i in range(MAX_SHOWN + 1)}
    from pydantic import create_model

    model = create_model("Many", **many)  # type: ignore[call-overload]

    def long(*, first: Annotated[int, typer.Option("--first")] = 1, values: Given) -> None:
        typer.echo(values)

    long.__annotations__["values"] = Annotated[Given, Options("", {"": model})]
    short = ran(long, "--help")
    assert "--first" in short
    assert "--option-3" not in short
    assert "--help-all" in short
    assert all(f"--option-{i}" in ran(long, "--help-all") for i in range(MAX_SHOWN + 1))
    assert ran(long, "--option-3", "5") == "{'option_3': 5}\n"


def test_a_value_of_the_wrong_type_is_refused() -> None:
    commands = Commands()
    commands.command("it", example="fec it")(show)
    done = CliRunner().invoke(commands, ["--width", "wide"])
    assert done.exit_code == 2
    assert "--width" in done.output


@pytest.mark.parametrize("secret", ["from the environment"])
def test_a_value_of_the_environment_is_given(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Server(FrozenModel):
        api_key: str | None = None
        """Key."""

    def serve(*, values: Given) -> None:
        typer.echo(values)

    serve.__annotations__["values"] = Annotated[Given, Options("", {"": Server})]
    monkeypatch.setenv("FEC_API_KEY", secret)
    assert secret in ran(serve)


def test_names_of_columns_are_taken_whole() -> None:
    """A column may have a comma in its name; other lists are split there."""

    def read(*, data: Given) -> None:
        typer.echo(data)

    read.__annotations__["data"] = Annotated[Given, Options("Data", {"": TaskConfig})]
    said = ran(read, "--text-column", "Subject, short", "--text-column", "body", "--label-columns", "joy,anger")
    assert said == "{'text_column': ('Subject, short', 'body'), 'label_columns': ('joy', 'anger')}\n"
    assert TaskConfig(name="a", text_column=("body",)) == TaskConfig(name="a", text_column="body")


def test_a_path_after_an_equals_sign_may_begin_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shells expand `--out ~/runs`, not `--out=~/runs`."""
    monkeypatch.setenv("HOME", str(tmp_path))

    def show_out(*, out: Annotated[Path, typer.Option("--out", help="Folder.")]) -> None:
        typer.echo(out)

    assert ran(show_out, "--out=~/runs") == f"{tmp_path / 'runs'}\n"
