"""The commands of the original LLM-FusionClassifier, with its own flags, over this package.

    python llama2_rep_extract.py -device cuda -task ED -mode train
    python bert_rep_extract.py   -device cuda -task ED -mode train
    python roberta_rep_extract.py -device cuda -task ED -mode train
    python main.py -dataset ED -epochs 200 -SIGMA 1 -batch_size 10 -early-stop 10 -lr 1e-4

They read `data/<task>/<mode>.csv` as published. Features go to the feature store instead of a file each, so
nothing is encoded twice, and `main.py` finds them there.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from fusion_classifier.cli.main import main as fec
from fusion_classifier.errors import UsageError

TRIO = ("llama2-7b-chat", "bert-large", "roberta-large")
DATA = Path("data")


def _data(task: str) -> list[str]:
    folder = DATA / task
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; put the published train.csv, valid.csv and test.csv there")
    return ["--data", str(folder)]


def rep_extract(encoder: str, arguments: Sequence[str] | None = None) -> NoReturn:
    """`<encoder>_rep_extract.py`: the features of one split."""

    def command(
        device: Annotated[str, typer.Option("-device", help="cuda, cpu, mps or auto.")] = "auto",
        task: Annotated[str, typer.Option("-task", help="ED or go_emotion.")] = "ED",
        mode: Annotated[str, typer.Option("-mode", help="train, valid or test.")] = "train",
    ) -> None:
        """Extract the features of one split into the feature store."""
        device = device.partition(":")[0]  # cuda:0
        wanted = ["--split", mode, "--encoder", encoder, "--head", "llmembed", "--device", device]
        fec(["extract", task, *_data(task), *wanted])

    _run(command, arguments)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """`main.py`: train and evaluate the published classifier, with the published hyper-parameters."""

    def command(
        dataset: Annotated[str, typer.Option("-dataset", help="ED or go_emotion.")] = "ED",
        epochs: Annotated[int | None, typer.Option("-epochs", help="Most epochs.")] = None,
        sigma: Annotated[float | None, typer.Option("-SIGMA", help="Slope of power normalization.")] = None,
        batch_size: Annotated[int | None, typer.Option("-batch_size", help="Texts a training step.")] = None,
        early_stop: Annotated[int | None, typer.Option("-early-stop", help="Epochs without progress.")] = None,
        lr: Annotated[float | None, typer.Option("-lr", help="Learning rate.")] = None,
        device: Annotated[str, typer.Option("-device", help="cuda, cpu, mps or auto.")] = "auto",
        seeds: Annotated[int, typer.Option("-seeds", help="Number of runs.")] = 5,
    ) -> None:
        """Train the published classifier and report its scores."""
        changes = {
            "--epochs": epochs,
            "--sigma": sigma,
            "--batch-size": batch_size,
            "--patience": early_stop,
            "--lr": lr,
        }
        given = [word for flag, value in changes.items() if value is not None for word in (flag, str(value))]
        encoders = [word for name in TRIO for word in ("--encoder", name)]
        device = device.partition(":")[0]
        run = ["run", dataset, *_data(dataset), *encoders, "--head", "llmembed", "--recipe", "published"]
        fec([*run, "--seeds", str(seeds), "--device", device, *given])

    _run(command, arguments)


def _run(command: object, arguments: Sequence[str] | None) -> NoReturn:
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(context_settings={"help_option_names": ["-h", "--help"]})(command)  # type: ignore[type-var]
    try:
        app(args=None if arguments is None else list(arguments))
    except UsageError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(error.exit_code) from error
    raise SystemExit(0)
