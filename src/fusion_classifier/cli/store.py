"""`fec store`: list, verify, clean and delete stored features."""

# ruff: noqa: PLC0415 - imported where used: --help must not wait for it

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from fusion_classifier.cli.command import Commands
from fusion_classifier.cli.messages import answer
from fusion_classifier.cli.options import Json, StoreName
from fusion_classifier.errors import FecError, UsageError
from fusion_classifier.support.text import size

if TYPE_CHECKING:
    from fusion_classifier.features.store import FeatureStore

commands = Commands(no_args_is_help=False, help="List, verify and delete stored features.")
AnyKey = Annotated[str | None, typer.Argument(metavar="KEY", help="Key, start of a key, or encoder. Default: all.")]


def _open(context: typer.Context, store: str | None) -> "FeatureStore":
    """The store of --store, which may be given before or after the command."""
    from fusion_classifier.features.store import FeatureStore

    return FeatureStore(store or context.obj)


def _keys(store: "FeatureStore", name: str | None) -> list[str]:
    """Keys that match a name. Default: all."""
    keys = store.keys() if name is None else store.find(name)
    if name is not None and not keys:
        raise UsageError(f"{store.root}: no features of {name!r}; `fec store` lists the keys")
    return keys


@commands.callback(invoke_without_command=True)
def store_(context: typer.Context, store: StoreName = None, as_json: Json = False) -> None:
    """List, verify and delete stored features. Without a command: list them."""
    context.obj = store
    if context.invoked_subcommand is not None:
        return
    from fusion_classifier.cli import tables

    here = _open(context, store)
    entries = here.entries()
    described = {"store": str(here.root), "encoders": [asdict(entry) for entry in entries]}
    answer(described, as_json, lambda: tables.print_store(str(here.root), entries))


@commands.command("verify", example="fec store verify")
def verify(context: typer.Context, key: AnyKey = None, store: StoreName = None, as_json: Json = False) -> None:
    """Read every feature and report damage; exit code 1 if there is any."""
    here = _open(context, store)
    problems = {one: list(here.verify(one)) for one in _keys(here, key)}

    def show() -> None:
        for one, found in problems.items():
            typer.echo(f"{one}  {'; '.join(found) if found else 'ok'}")

    answer({"store": str(here.root), "problems": problems}, as_json, show)
    broken = sum(map(bool, problems.values()))
    if broken:
        raise FecError(
            f"{here.root}: {broken} of {len(problems)} encoders have faulty features; "
            f"delete them with `fec store delete KEY --store {shlex.quote(str(here.root))}` and extract again"
        )


@commands.command("clean", example="fec store clean")
def clean(
    context: typer.Context,
    key: AnyKey = None,
    now: Annotated[
        bool,
        typer.Option(
            "--now", help="Delete files from the last week, too. Use it only while no other command uses the store."
        ),
    ] = False,
    store: StoreName = None,
) -> None:
    """Remove old versions and files of killed workers. No feature is lost."""
    here = _open(context, store)
    typer.echo(f"removed {size(sum(here.clean(one, now=now) for one in _keys(here, key)))}")


@commands.command("delete", example="fec store delete minilm-l6")
def delete(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Key, start of a key, or encoder.")],
    store: StoreName = None,
) -> None:
    """Delete an encoder's features."""
    here = _open(context, store)
    keys = _keys(here, key)
    if len(keys) > 1:
        raise UsageError(f"{here.root}: {len(keys)} encoders with features of {key!r}; `fec store` lists the keys")
    here.delete(keys[0])
    typer.echo(f"deleted {keys[0]}")
