"""`fec tasks`, `encoders`, `models`, `doctor`: lists of what is available."""

# ruff: noqa: PLC0415 - imported where used: --help must not wait for it

from typing import Annotated

import typer

from fusion_classifier.cli.command import Commands
from fusion_classifier.cli.messages import answer
from fusion_classifier.cli.options import Json, StoreName

commands = Commands(panel="Lists")


@commands.command("tasks", example="fec tasks")
def tasks(as_json: Json = False) -> None:
    """List the tasks with a name."""
    from fusion_classifier.cli import tables
    from fusion_classifier.tasks.registry import describe_tasks

    described = describe_tasks()
    answer(described, as_json, lambda: tables.print_tasks(described))


@commands.command("encoders", example="fec encoders --language de --max-parameters 200")
def encoders(
    language: Annotated[
        str | None, typer.Option(help="Only encoders for this language, such as de. Default: all.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Only encoders whose licence starts with this, such as apache. Default: all.")
    ] = None,
    max_parameters: Annotated[
        float | None, typer.Option(help="Maximum number of parameters, in millions. Default: no limit.", min=0)
    ] = None,
    as_json: Json = False,
) -> None:
    """List the encoders with a name: size, languages, licence, what a text costs, and where their weights are."""
    from fusion_classifier.cli import tables
    from fusion_classifier.encoders.weights import describe_presets

    described = describe_presets(language, licence, max_parameters)
    answer(described, as_json, lambda: tables.print_encoders(described))


@commands.command("models", example="fec models")
def models(as_json: Json = False) -> None:
    """List the trained models that come with the package."""
    from fusion_classifier.classifier.models import describe_models
    from fusion_classifier.cli import tables

    described = describe_models()
    answer(described, as_json, lambda: tables.print_models(described))


@commands.command("doctor", example="fec doctor")
def doctor(store: StoreName = None, as_json: Json = False) -> None:
    """Print what a bug report needs: versions, machine, encoders, store."""
    from fusion_classifier.commands.doctor import examine

    found = examine(store)

    def show() -> None:
        for topic, figures in found.items():  # no table: it is pasted into a bug report
            if figures:
                typer.echo(topic)
            for name, value in figures.items():
                typer.echo(f"  {name:<20} {value}")

    answer(found, as_json, show)
