"""The command line `fec`: one function per command, in the modules next to this one.

Results go to standard output, progress and messages to standard error. Exit code 0: done; 1: failed, with a
message about what to do; 2: wrong usage; 128 + signal number: stopped, saved work is kept.
"""

import gc
import io
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from fusion_classifier.cli import analysis, encoders, lists, model, run, store
from fusion_classifier.cli.command import Commands
from fusion_classifier.cli.messages import in_options
from fusion_classifier.errors import FecError, reason
from fusion_classifier.version import __version__

app = Commands(
    name="fec",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Classify texts with frozen language models: extract features once, fuse them, train in minutes.\n\n"
    "Start with fec run demo, then fec run yours.csv --text-column … --label-column ….",
)
for module in (run, model, analysis, encoders, lists):
    app.add_typer(module.commands)
app.add_typer(store.commands, name="store", rich_help_panel=lists.commands.panel)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fec {__version__}")
        raise typer.Exit


@app.callback()
def _fec(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


# Number of new objects after which garbage is collected. With Python's default of 700, a fifth of the time of a cold
# prediction is spent on the objects that torch and transformers create when imported, none of which are garbage.
COLLECT_AFTER = 100_000


class _Stopped(BaseException):
    """A signal. Not an Exception, so that no code catches it as an error and continues."""

    def __init__(self, number: int) -> None:
        self.number = number


def _stop(number: int, _frame: object) -> NoReturn:
    raise _Stopped(number)


def _use_utf8() -> None:
    """Use UTF-8 for redirected output and input on every system; Windows would use its own code page."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() != "utf-8":
            stream.reconfigure(encoding="utf-8", errors=stream.errors)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run `fec` and exit."""
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    for name in ("torchao", "torch.utils._pytree"):  # it warns of every kernel that this machine can't use
        logging.getLogger(name).setLevel(logging.ERROR)
    if sys.stdout is None:  # a service may be started without
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    _use_utf8()
    try:
        try:
            app(args=None if arguments is None else list(arguments), prog_name="fec")
        finally:
            sys.stdout.flush()  # here, where a failure can be reported
    except FecError as error:
        typer.echo(f"error: {in_options(str(error))}", err=True)
        sys.exit(error.exit_code)
    except _Stopped as stopped:
        typer.echo("\nstopped; saved work is kept: run the same command again", err=True)
        sys.exit(128 + stopped.number)
    except MemoryError as error:
        typer.echo(f"error: out of memory ({reason(error)}); give fewer or shorter texts", err=True)
        sys.exit(1)
    except BrokenPipeError:
        # The reader has closed our output (`| head`); nothing more can be printed.
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        typer.echo(f"error: {error.filename or 'standard output'}: {error.strerror or error}", err=True)
        # What is left in the buffer would fail again when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(0)
