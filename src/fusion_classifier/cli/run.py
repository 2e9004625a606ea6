"""`fec run`, `extract`, `train`, `evaluate`, `ablate`: from texts to a trained and measured classifier."""

# ruff: noqa: PLC0415 - imported where used: --help and faults in the data must not wait for torch

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusion_classifier.cli.command import Commands
from fusion_classifier.cli.messages import answer
from fusion_classifier.cli.options import (
    DataOptions,
    EncoderPaths,
    EngineOptions,
    FeatureOptions,
    Json,
    OptionalTaskName,
    PlaceOptions,
    RunOptions,
    SplitNames,
    TrackingOptions,
    as_words,
    encoder_paths,
    load,
    option,
    reads,
)
from fusion_classifier.config import DEFAULT_HEAD, HEAD_CONFIGS
from fusion_classifier.errors import UsageError
from fusion_classifier.support.text import counted

if TYPE_CHECKING:
    from fusion_classifier.config import RunConfig
    from fusion_classifier.features.extract import ExtractionReport
    from fusion_classifier.runs.context import RunContext
    from fusion_classifier.tasks.loaded import LoadedTask
    from fusion_classifier.training.result import TrainingResult

commands = Commands(panel="Train")


@commands.command("run", example="fec run go_emotion --data data/go_emotion -e minilm-l6 --head llmembed --seeds 5")
def run_(
    *,
    task: OptionalTaskName = None,
    options: RunOptions,
    tracking: TrackingOptions,
    place: PlaceOptions,
    unknown: Annotated[
        Path | None,
        option(
            "File of unknown texts (with none of the labels), to measure how well they are detected.", metavar="FILE"
        ),
    ] = None,
    tune: Annotated[
        str | None,
        option(
            "Encoder to fine-tune on the train split and add to the frozen ones, with head fusion.",
            metavar="ENCODER",
            hidden=True,
        ),
    ] = None,
    report: Annotated[bool, option("Whether to write report.html, the results on one page.", hidden=True)] = True,
    as_json: Json = False,
) -> None:
    """Extract, train and evaluate; the result is a folder with metrics, predictions, a report and the model.

    If stopped, the same command continues where it stopped.
    """
    if tune is not None:
        options = _beside_tuned(options)
    task_config = options.task(task)
    if task_config.cross_validate is None and unknown is not None:  # known texts that are not trained on are needed
        task_config = task_config.model_copy(update={"cross_validate": False})
    loaded, _ = load(task_config)
    config = options.run(task_config)
    from fusion_classifier.cli.run_tables import print_run
    from fusion_classifier.runs.context import say_gaps
    from fusion_classifier.runs.pipeline import run

    work, folder = place.workspace(loaded), options.folder(loaded.name)
    say_gaps(loaded, work)
    if tune is not None:
        settings = as_words(
            {name: value for name, value in options.settings.items() if name in ("max_length", "dtype")}
        )
        config = _with_tuned(config, tune, settings, loaded, folder, work, overwrite=options.overwrite)
    tracked = tracking.tracking(config, loaded.name, folder, work)
    result = run(config, loaded, folder, work, overwrite=options.overwrite, tracking=tracked, unknown=unknown)
    answer(result.metrics, as_json, lambda: print_run(result.metrics, result.out))
    if report:
        # Last, so that a disk that is full by now does not keep the metrics from being shown.
        from fusion_classifier.commands.report import write_report

        with work.progress.bar("writing the report", total=None):
            path = write_report(result.out, task=loaded)
        work.say(f"Report: {path}")


def _beside_tuned(options: RunOptions) -> RunOptions:
    """The options with a head that a tuned encoder can be added to: `fusion` by default."""
    if options.head is None and options.file is None:
        return options.model_copy(update={"head": "fusion"})
    head = HEAD_CONFIGS.get(options.head_name)
    if head and head.cross_validated_rows:
        raise UsageError(
            f"--tune can't be combined with --head {options.head_name}, which would evaluate the tuned encoder on "
            "texts that it was tuned on; give --head fusion"
        )
    return options


def _with_tuned(
    config: "RunConfig",
    encoder: str,
    settings: Mapping[str, str | None],
    task: "LoadedTask",
    folder: Path,
    work: "RunContext",
    *,
    overwrite: bool,
) -> "RunConfig":
    """The configuration with an encoder tuned on the task, in a folder next to the run's."""
    from fusion_classifier.commands.tune import tune_once
    from fusion_classifier.encoders.spec import parse_encoder, parse_encoders

    named = folder if folder.name.strip(".") else folder.resolve()  # of --out .
    tuned = tune_once(
        parse_encoder(encoder, settings),
        task,
        named.with_name(f"{named.name}-tuned"),
        work,
        text_column=config.task.text_column,
        overwrite=overwrite,
    )
    added = parse_encoders([str(tuned)], settings, features=config.head.reads)
    return config.model_copy(update={"encoders": (*config.encoders, *added)})


@commands.command("extract", example="fec extract go_emotion --data data/go_emotion -e minilm-l6 -e smollm2-135m")
def extract_(
    *,
    task: OptionalTaskName = None,
    split: SplitNames = None,
    options: FeatureOptions,
    head: Annotated[
        str | None,
        option(
            "Head that will read the features: ensemble and fusion read token states, others pooled features. "
            f"Default: {DEFAULT_HEAD}."
        ),
    ] = None,
    place: PlaceOptions,
    engine: EngineOptions,
    as_json: Json = False,
) -> None:
    """Encode the texts of a task and keep the features in the store.

    If stopped, the same command continues where it stopped.
    """
    loaded, splits = load(options.task(task), split)
    configs = options.encoders(reads(head or DEFAULT_HEAD) if head or options.file is None else None)
    from fusion_classifier.runs.features import extract_task

    work = replace(place.workspace(loaded), ray=engine.ray(place.device))
    reports = extract_task(loaded, splits, configs, work)
    answer([asdict(report) for report in reports], as_json, lambda: _show_extracted(reports))


def _show_extracted(reports: "Sequence[ExtractionReport]") -> None:
    for report in reports:
        typer.echo(
            f"{report.encoder}: {counted(report.texts, 'text')}, {report.encoded:,} encoded now, "
            f"{report.texts - report.encoded:,} already stored ({report.seconds:.1f} s)"
        )


@commands.command(
    "train", example="fec train demo --head llmembed --seeds 5 --out runs/demo  (after fec extract demo)"
)
def train_(
    *,
    task: OptionalTaskName = None,
    options: RunOptions,
    tracking: TrackingOptions,
    place: PlaceOptions,
    as_json: Json = False,
) -> None:
    """Train on features that are in the store; no encoder is loaded."""
    task_config = options.task(task)
    loaded, _ = load(task_config, ["train", "valid"])
    config = options.run(task_config)
    from fusion_classifier.runs.context import say_gaps
    from fusion_classifier.runs.pipeline import train_task

    work, folder = place.workspace(loaded), options.folder(loaded.name)
    say_gaps(loaded, work)
    tracked = tracking.tracking(config, loaded.name, folder, work)
    trained = train_task(config, loaded, folder, work, overwrite=options.overwrite, tracking=tracked)
    metrics = ("valid_accuracy", "valid_weighted_f1")
    scores = {
        str(seed): {"best_epoch": one.best_epoch} | {name: getattr(one.best, name) for name in metrics}
        for seed, one in trained.items()
    }
    answer(scores, as_json, lambda: _show_trained(trained, folder, cross_validated=loaded.cross_validated))


def _show_trained(trained: "Mapping[int, TrainingResult]", folder: Path, *, cross_validated: bool) -> None:
    for seed, one in trained.items():
        typer.echo(
            f"seed {seed}: validation accuracy {100 * one.best.valid_accuracy:.2f}, "
            f"weighted F1 {100 * one.best.valid_weighted_f1:.2f} at epoch {one.best_epoch} of {len(one.history)}"
        )
    following = f'fec predict {folder} "your text"' if cross_validated else f"fec evaluate {folder}"
    typer.echo(f"Written to {folder}. Next: {following}")


RunOrModelName = Annotated[
    str,
    typer.Argument(
        metavar="RUN_OR_MODEL", help="Run folder (all its seeds), model folder, built-in model, or Hub id."
    ),
]


@commands.command("evaluate", example="fec evaluate runs/demo-fusion --split test")
def evaluate_(
    *,
    run_or_model: RunOrModelName,
    task: Annotated[str | None, option("Task or path with the texts. Default: the training data.")] = None,
    split: Annotated[str, option("train, valid or test.")] = "test",
    data: DataOptions,
    encoder: EncoderPaths = None,
    place: PlaceOptions,
    as_json: Json = False,
) -> None:
    """Measure a trained run or model on a split, or on all rows of a file given by --task.

    The file may have only some of the labels. Its columns default to those of the run's data.
    """
    paths = encoder_paths(encoder)
    from fusion_classifier.classifier.models import find_run_or_model
    from fusion_classifier.cli import tables
    from fusion_classifier.runs.evaluate import evaluate_saved, evaluated_task

    folder = find_run_or_model(run_or_model)
    figures = evaluate_saved(folder, split, evaluated_task(folder, task, data), paths, place.workspace())
    answer(figures, as_json, lambda: tables.print_evaluation(figures))


@commands.command(
    "ablate", example="fec ablate go_emotion --data data/go_emotion -e minilm-l6 -e smollm2-135m --head fusion,linear"
)
def ablate_(
    *,
    task: OptionalTaskName = None,
    split: Annotated[
        str,
        option(
            "Split to evaluate on: valid for choices (it also chose epochs and calibration, so its scores are "
            "optimistic), test for the final report."
        ),
    ] = "valid",
    options: RunOptions,
    place: PlaceOptions,
    as_json: Json = False,
) -> None:
    """Train every subset of encoders under each head (--head A,B) and print what each encoder adds.

    Features that the store lacks are extracted first.
    """
    task_config = options.task(task)
    if task_config.cross_validate:
        raise UsageError("--cross-validate: fec ablate evaluates on a split; leave it out")
    task_config = task_config.model_copy(update={"cross_validate": False})
    loaded, _ = load(task_config, list(dict.fromkeys(["train", "valid", split])))
    heads = [None] if options.head is None else dict.fromkeys(name.strip() for name in options.head.split(","))
    configs = [options.model_copy(update={"head": head}).run(task_config) for head in heads]
    from fusion_classifier.cli import tables
    from fusion_classifier.commands.ablate import ablate

    folder = options.out or Path("ablations") / loaded.name
    result = ablate(configs, loaded, split, folder, place.workspace(loaded))
    answer(result, as_json, lambda: tables.print_ablation(result, folder))
