"""`fec compare`, `report`, `audit`: a closer look at runs and data."""

# ruff: noqa: PLC0415 - imported where used: --help and faults in the data must not wait for torch

from pathlib import Path
from typing import Annotated

import typer

from fusion_classifier.cli.command import Commands
from fusion_classifier.cli.messages import answer, progress
from fusion_classifier.cli.options import Json, OptionalTaskName, PlaceOptions, SplitOptions, load, option
from fusion_classifier.support.text import size

commands = Commands(panel="Look closer")


@commands.command("compare", example="fec compare runs/demo-fusion runs/demo-llmembed")
def compare_(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="Run folder, written by fec run.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Run folder to compare it with, on the same texts.")],
    split: Annotated[str | None, option("test or valid. Default: test if both have it.")] = None,
    as_json: Json = False,
) -> None:
    """Test whether one run is better than another: intervals, tests and effect sizes, paired by text."""
    from fusion_classifier.cli import tables
    from fusion_classifier.commands.compare import compare_runs

    with progress().bar("drawing bootstrap samples", total=None):
        compared = compare_runs(run_a, run_b, split)
    answer(compared.figures(), as_json, lambda: tables.print_comparison(compared.figures(), compared.names))


@commands.command("report", example="fec report runs/demo-fusion --out demo.html")
def report_(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, written by fec run.")],
    out: Annotated[
        Path | None, option("Page to write. Default: report.html in the run folder.", metavar="FILE")
    ] = None,
    split: Annotated[str | None, option("test or valid. Default: test if the run has it.")] = None,
    texts: Annotated[bool, option("Whether the page shows texts of the data.")] = True,
) -> None:
    """Write one HTML page about a run: results, confusion, confidence, mistakes, a map of the texts, time and memory.

    Only the run folder and the data are read: no store, no model, no network.
    """
    from fusion_classifier.commands.report import write_report

    with progress().bar("writing the report", total=None):
        path = write_report(run_folder, out=out, split=split, texts=texts)
    typer.echo(f"{path}: {size(path.stat().st_size)}")


@commands.command("audit", example="fec audit go_emotion --data data/go_emotion -e minilm-l6 --out audits/go_emotion")
def audit_(
    *,
    task: OptionalTaskName = None,
    options: SplitOptions,
    label_errors: Annotated[
        bool, option("Search for doubtful labels with the encoders' features; needs the extra audit.")
    ] = True,
    out: Annotated[Path | None, option("Folder to write. Default: audits/TASK.", metavar="DIR")] = None,
    place: PlaceOptions,
    as_json: Json = False,
) -> None:
    """Search a task's data for duplicates, rare labels, long texts, label names in texts and doubtful labels.

    Rows without a text or label, or with a label that training does not have, are listed. Tables are printed; CSV
    files and audit.json are written.
    """
    loaded, _ = load(options.task(task).model_copy(update={"skip_empty": True, "unknown_labels": "skip"}))
    # Without features and without --encoder no model's files are needed.
    configs = options.encoders("pooled") if label_errors or options.encoder or options.preset else ()
    from fusion_classifier.cli import tables
    from fusion_classifier.commands.audit import audit

    folder = out or Path("audits") / loaded.name
    figures = audit(loaded, configs, folder, place.workspace(), label_errors=label_errors)
    answer(figures, as_json, lambda: tables.print_audit(figures, folder))
