"""The command line `fec`: one function a command, each a few lines over the package.

Results go to standard output, progress and messages to standard error. Exit code 0: done; 1: failed, with a
message that says how to go on; 2: used wrongly; 128 + signal number: stopped, what is committed is kept.
"""

import json
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from fusion_classifier.cli.options import (
    DATA,
    ENCODER,
    PLACE,
    Commands,
    DataOptions,
    EncoderOptions,
    EngineOptions,
    PlaceOptions,
    ServerOptions,
    TrackingOptions,
    TrainingOptions,
    TuneOptions,
    encoder_paths,
    grouped,
    option,
    reads,
)
from fusion_classifier.config import DEFAULT_HEAD, DEFAULT_MODEL, Device, ProjectionKind
from fusion_classifier.errors import FecError, UsageError, reason
from fusion_classifier.evaluation.formats import size
from fusion_classifier.support.extras import require
from fusion_classifier.version import __version__

if TYPE_CHECKING:
    from fusion_classifier.features.store import FeatureStore

# torch and transformers take seconds to import: every command imports what it needs itself, so that --help
# and usage errors answer at once.
# ruff: noqa: PLC0415

app = Commands(
    name="fec",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Classify texts with frozen language models: extract features once, fuse them, train in minutes.\n\n"
    "Start with [bold]fec run demo[/], then [bold]fec run yours.csv --text-column … --label-column …[/].",
)
store_app = Commands(no_args_is_help=False, help="List, verify and delete stored features.")
app.add_typer(store_app, name="store")

TaskName = Annotated[
    str, typer.Argument(metavar="TASK", help="ED, go_emotion, demo, or the path of your own file or folder.")
]
SplitNames = Annotated[
    list[str] | None,
    option("--split", panel=DATA, help="train, valid or test; may be repeated. All there are unless given."),
]
EncoderPaths = Annotated[
    list[str] | None,
    option("--encoder", "-e", panel=ENCODER, metavar="NAME=PATH", help="Where an encoder's weights are."),
]
StoreDir = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="FEC_STORE",
        metavar="DIR",
        help="Feature store, a folder or s3://BUCKET/PREFIX; your cache unless given.",
    ),
]
MODEL_HELP = "Model folder, run folder, model of the package, or Hub id."
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fec {__version__}")
        raise typer.Exit


@app.callback()
def _fec(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def _print(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


# --- what there is -----------------------------------------------------------------------------------------


@app.command(epilog="Example:  fec tasks")
def tasks(as_json: Json = False) -> None:
    """List the tasks with a name."""
    from fusion_classifier.cli import tables
    from fusion_classifier.tasks.registry import describe_tasks

    described = describe_tasks()
    if as_json:
        _print(described)
        return
    rows = [[d["name"], d["title"], str(d["labels"]), d["source"], d["licence"]] for d in described]
    tables.console().print(tables.table(None, ["task", "what", "labels", "source without --data", "licence"], rows))
    typer.echo("Your own data: fec run FILE_OR_FOLDER (CSV, TSV, JSONL, Parquet) --text-column … --label-column …")


@app.command(epilog="Example:  fec encoders")
def encoders(as_json: Json = False) -> None:
    """List the encoders with a name, and where their weights are."""
    from fusion_classifier.cli import tables
    from fusion_classifier.encoders.weights import describe_presets

    described = describe_presets()
    if as_json:
        _print(described)
        return
    rows = [[d["name"], d["model"], d["layers"], d["pooling"], d["feature"], d["weights"]] for d in described]
    columns = ["encoder", "model", "layers", "pooling", "feature", "weights"]
    tables.console().print(tables.table(None, columns, rows))
    typer.echo(
        "Any other Hub id, local folder or GGUF file works the same way: --encoder PATH --layers … --pooling …"
    )


@app.command(epilog="Example:  fec doctor")
def doctor(store: StoreDir = None, as_json: Json = False) -> None:
    """Say what a bug report needs: versions, machine, encoders, store."""
    from fusion_classifier.commands.doctor import examine

    found = examine(store)
    if as_json:
        _print(found)
        return
    for topic, figures in found.items():  # no table: it is pasted into a bug report
        if figures:
            typer.echo(topic)
        for name, value in figures.items():
            typer.echo(f"  {name:<20} {value}")


@app.command(epilog="Example:  fec models")
def models(as_json: Json = False) -> None:
    """List the trained models that come with the package."""
    from fusion_classifier.classifier.folder import describe_models
    from fusion_classifier.cli import tables

    described = describe_models()
    if as_json:
        _print(described)
        return
    rows = [
        [
            *(d["name"], d["task"], str(len(d["labels"])), d["head"], ", ".join(d["encoders"])),
            *(size(d["bytes"]), *(f"{100 * d['test'][metric]:.1f}" for metric in ("accuracy", "weighted_f1"))),
        ]
        for d in described
    ]
    columns = ["model", "task", "labels", "head", "encoders", "size", "accuracy", "weighted F1"]
    tables.console().print(tables.table(None, columns, rows))
    typer.echo("Scores on test, in %, mean over seeds. Any run or model folder and any Hub id works the same way.")


@store_app.callback(invoke_without_command=True)
def store_list(context: typer.Context, store: StoreDir = None, as_json: Json = False) -> None:
    """List, verify and delete stored features. Without a command: list them."""
    context.obj = store
    if context.invoked_subcommand is not None:
        return
    from dataclasses import asdict

    from fusion_classifier.cli import tables
    from fusion_classifier.features.store import FeatureStore

    here = FeatureStore(store)
    entries = here.entries()
    if as_json:
        _print({"store": str(here.root), "encoders": [asdict(entry) for entry in entries]})
        return
    rows = []
    for entry in entries:
        shape = ("L, " if entry.ragged else "") + ", ".join(map(str, entry.shape))
        rows.append([entry.encoder, f"({shape})", entry.dtype, f"{entry.rows:,}", size(entry.bytes), entry.key])
    columns = ["encoder", "feature", "computed in", "texts", "size", "key"]
    tables.console().print(tables.table(str(here.root), columns, rows))


@store_app.command("verify", epilog="Example:  fec store verify")
def store_verify(
    context: typer.Context,
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="Key or encoder; all unless given.")] = None,
    store: StoreDir = None,
    as_json: Json = False,
) -> None:
    """Read every feature and report what is wrong with it; exit code 1 if anything is."""
    from fusion_classifier.features.store import FeatureStore

    here = FeatureStore(store or context.obj)
    keys = _keys(here, key)
    problems = {one: list(here.verify(one)) for one in keys}
    if as_json:
        _print({"store": str(here.root), "problems": problems})
    else:
        for one, found in problems.items():
            typer.echo(f"{one}  {'; '.join(found) if found else 'ok'}")
    broken = [one for one, found in problems.items() if found]
    if broken:
        raise FecError(
            f"{here.root}: {len(broken)} of {len(keys)} encoders have faulty features; "
            f"delete them with `fec store delete KEY --store {shlex.quote(str(here.root))}` and extract again"
        )


@store_app.command("clean", epilog="Example:  fec store clean")
def store_clean(
    context: typer.Context,
    key: Annotated[str | None, typer.Argument(metavar="KEY", help="Key or encoder; all unless given.")] = None,
    now: Annotated[
        bool,
        typer.Option("--now", help="Also what is not a week old: only while nothing extracts, trains or evaluates."),
    ] = False,
    store: StoreDir = None,
) -> None:
    """Make room: remove old versions and what killed workers have left. No feature is lost."""
    from fusion_classifier.features.store import FeatureStore

    here = FeatureStore(store or context.obj)
    typer.echo(f"removed {size(sum(here.clean(one, now=now) for one in _keys(here, key)))}")


@store_app.command("delete", epilog="Example:  fec store delete minilm-l6")
def store_delete(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Key, beginning of a key, or encoder.")],
    store: StoreDir = None,
) -> None:
    """Delete an encoder's features."""
    from fusion_classifier.features.store import FeatureStore

    here = FeatureStore(store or context.obj)
    keys = here.find(key)
    if len(keys) != 1:
        what = "no features" if not keys else f"{len(keys)} encoders with features"
        raise UsageError(f"{here.root}: {what} of {key!r}; `fec store` lists the keys")
    here.delete(keys[0])
    typer.echo(f"deleted {keys[0]}")


def _keys(store: "FeatureStore", name: str | None) -> list[str]:
    """Those of a key, a beginning of one, or an encoder; all unless given."""
    keys = store.keys() if name is None else store.find(name)
    if name is not None and not keys:
        raise UsageError(f"{store.root}: no features of {name!r}; `fec store` lists what there is")
    return keys


# --- the stations of the main job --------------------------------------------------------------------------


@app.command(
    "extract",
    epilog="Example:  fec extract go_emotion --data data/go_emotion --encoder minilm-l6 --encoder smollm2-135m",
)
@grouped
def extract_(
    *,
    task: TaskName,
    split: SplitNames = None,
    data: DataOptions,
    encoders: EncoderOptions,
    head: Annotated[
        str,
        option(
            "--head",
            panel=ENCODER,
            help="The head that will read the features: fusion reads token states, the others pooled ones.",
        ),
    ] = DEFAULT_HEAD,
    place: PlaceOptions,
    engine: EngineOptions,
    as_json: Json = False,
) -> None:
    """Encode the texts of a task and keep the features in the store.

    Stopped at any moment, the same command goes on where it was.
    """
    loaded, splits = data.load(task, split)
    configs = encoders.configs(reads(head))
    from dataclasses import asdict

    from fusion_classifier.runs.context import say_notes
    from fusion_classifier.runs.features import extract_task

    work = replace(place.workspace(), ray=engine.ray(place.device))
    say_notes(loaded, work)
    reports = extract_task(loaded, splits, configs, work)
    if as_json:
        _print([asdict(report) for report in reports])
        return
    for report in reports:
        typer.echo(
            f"{report.encoder}: {report.texts:,} texts, {report.encoded:,} encoded now, "
            f"{report.texts - report.encoded:,} were there ({report.seconds:.1f} s)"
        )


@app.command(
    "train",
    epilog="Example:  fec train demo --head llmembed --seeds 5 --out runs/demo  (after fec extract demo)",
)
@grouped
def train_(
    *,
    task: TaskName,
    data: DataOptions,
    encoders: EncoderOptions,
    training: TrainingOptions,
    tracking: TrackingOptions,
    place: PlaceOptions,
    as_json: Json = False,
) -> None:
    """Train on features that are in the store; no model is loaded."""
    loaded, _ = data.load(task, ["train", "valid"])
    config = training.config(data.config(task), encoders.configs(reads(training.head)))
    from fusion_classifier.runs.context import say_gaps, say_notes
    from fusion_classifier.runs.pipeline import train_task

    work = place.workspace()
    say_notes(loaded, work)
    say_gaps(loaded, work)
    folder = training.folder(loaded.name)
    told = tracking.tracking(config, loaded.name, folder, work)
    trained = train_task(config, loaded, folder, work, overwrite=training.overwrite, tracking=told)
    if as_json:
        _print(
            {
                str(seed): {
                    "best_epoch": one.best_epoch,
                    "valid_accuracy": one.best.valid_accuracy,
                    "valid_weighted_f1": one.best.valid_weighted_f1,
                }
                for seed, one in trained.items()
            }
        )
        return
    for seed, one in trained.items():
        typer.echo(
            f"seed {seed}: validation accuracy {100 * one.best.valid_accuracy:.2f}, "
            f"weighted F1 {100 * one.best.valid_weighted_f1:.2f} at epoch {one.best_epoch} of {len(one.history)}"
        )
    typer.echo(f"Written to {folder}. Next: fec evaluate {folder}")


@app.command(
    "run",
    epilog="Example:  fec run go_emotion --data data/go_emotion -e minilm-l6 --head llmembed --seeds 5",
)
@grouped
def run_(
    *,
    task: TaskName,
    data: DataOptions,
    encoders: EncoderOptions,
    training: TrainingOptions,
    tracking: TrackingOptions,
    place: PlaceOptions,
    report: Annotated[
        bool, option("--report/--no-report", panel=PLACE, help="Whether to write report.html, the run as a page.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Extract, train and evaluate; the result is a folder with metrics, predictions, a report and the model.

    Stopped at any moment, the same command goes on where it was.
    """
    loaded, _ = data.load(task)
    config = training.config(data.config(task), encoders.configs(reads(training.head)))
    from fusion_classifier.cli import tables
    from fusion_classifier.runs.context import say_gaps, say_notes
    from fusion_classifier.runs.pipeline import run

    work = place.workspace()
    say_notes(loaded, work)
    say_gaps(loaded, work)
    folder = training.folder(loaded.name)
    told = tracking.tracking(config, loaded.name, folder, work)
    result = run(config, loaded, folder, work, overwrite=training.overwrite, tracking=told)
    if as_json:
        _print(result.metrics)
    else:
        tables.print_run(result.metrics, result.out)
    if report:
        # Last: hours of work have their figures shown before a full disk spoils the page.
        from fusion_classifier.commands.report import write_report

        with work.progress.bar("writing the report", total=None):
            path = write_report(result.out, task=loaded)
        work.say(f"Report: {path}")


@app.command("evaluate", epilog="Example:  fec evaluate runs/demo-fusion --split test")
@grouped
def evaluate_(
    *,
    run_or_model: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_MODEL", help="Run folder (all its seeds), model folder, model of the package, or Hub id."
        ),
    ],
    task: Annotated[
        str | None,
        typer.Option("--task", help="Task or path with the texts; those it was trained on unless given."),
    ] = None,
    split: Annotated[str, option("--split", panel=DATA, help="train, valid or test.")] = "test",
    data: DataOptions,
    encoder: EncoderPaths = None,
    place: PlaceOptions,
    as_json: Json = False,
) -> None:
    """Measure a trained run or model on a split."""
    paths = encoder_paths(encoder)
    from fusion_classifier.classifier.folder import find_run_or_model
    from fusion_classifier.cli import tables
    from fusion_classifier.runs.evaluate import evaluate_saved, saved_task

    folder = find_run_or_model(run_or_model)
    if task is not None:
        config = data.config(task)
    else:
        trained_on = saved_task(folder)
        config = trained_on.model_copy(update={"limit": data.limit or trained_on.limit})
        if data.data is not None:
            config = data.config(trained_on.name)
    figures = evaluate_saved(folder, split, config, paths, place.workspace())
    if as_json:
        _print(figures)
        return
    tables.print_evaluation(figures)


@app.command("predict", epilog='Example:  fec predict "I can\'t believe she remembered my birthday"')
@grouped
def predict_(
    *,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL] [TEXT]...",
            help=f"Model or run folder, model of the package ({DEFAULT_MODEL} unless given), or Hub id; "
            "texts to classify.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="MODEL", help="The model; then every argument is a text."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            help="Texts from a CSV, TSV, JSONL, Parquet or .txt file (one a line); - reads lines.",
        ),
    ] = None,
    text_column: Annotated[str, typer.Option("--text-column", help="Column with the texts.")] = "text",
    top_k: Annotated[
        int | None,
        typer.Option("--top-k", min=1, help="A list of the K most probable labels instead of the best."),
    ] = None,
    abstain: Annotated[
        float | None,
        typer.Option(
            "--abstain",
            min=0.0,
            max=1.0,
            metavar="P",
            help="Answer null where the best label's probability is below P; risk_coverage in a run's metrics.json "
            "says which accuracy and coverage a P gives.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Write texts and answers of --file to a .csv, .jsonl or .parquet."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Lines of JSON on a terminal, too, as anywhere else.")
    ] = False,
    encoder: EncoderPaths = None,
    device: Annotated[Device, typer.Option("--device", help="auto takes CUDA, then MPS, then the CPU.")] = "auto",
    engine: EngineOptions,
) -> None:
    """Classify texts.

    Answers are bars on a terminal, else a line of JSON a text as transformers' pipeline gives it, or a file.
    """
    paths, ray = encoder_paths(encoder), engine.ray(device)
    from fusion_classifier.commands.predict import model_and_texts, predict_lines, predict_rows, predict_to_file

    found, texts = model_and_texts(words or [], model, has_file=file is not None)
    if out is not None:
        if file is None or texts:
            raise UsageError("--out: goes with --file and without further texts")
        from fusion_classifier.support.progress import Progress

        count = predict_to_file(
            found, file, out, text_column, top_k, abstain, paths, device, Progress(lines=True), ray
        )
        typer.echo(f"{out}: {count:,} texts")
        return
    if ray is not None:
        raise UsageError("--engine ray: goes with --file and --out")
    if texts and file is None and not as_json and sys.stdout.isatty():
        from fusion_classifier.cli import tables

        for text, row in predict_rows(found, texts, abstain, paths, device):
            tables.print_prediction(text, row, top_k)
        return
    for line in predict_lines(found, texts, file, text_column, top_k, abstain, paths, device):
        typer.echo(line)


@app.command("serve", epilog="Example:  fec serve runs/demo-fusion --port 8080")
@grouped
def serve_(
    *,
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)] = DEFAULT_MODEL,
    host: Annotated[str, typer.Option("--host", help="Address to listen at; 0.0.0.0: every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8080,
    server: ServerOptions,
    encoder: EncoderPaths = None,
    device: Annotated[Device, typer.Option("--device", help="auto takes CUDA, then MPS, then the CPU.")] = "auto",
    json_output: Annotated[bool, typer.Option("--json-output", help="Logs as lines of JSON.")] = False,
) -> None:
    """Serve a classifier over HTTP, as text-embeddings-inference does, with a web page at /."""
    paths, settings = encoder_paths(encoder), server.settings()
    require("fec serve", "serve", "fastapi", "prometheus_client", "uvicorn")
    from fusion_classifier.serving.kernels import keep_few_kernels

    keep_few_kernels()
    from fusion_classifier.serving.server import serve

    serve(model, settings, host=host, port=port, device=device, encoder_paths=paths, json_output=json_output)


@app.command(
    "project",
    epilog="Example:  fec project mpnet-base go_emotion --data data/go_emotion --width 128 --int8 --out "
    "mpnet-128.safetensors  then  --encoder 'mpnet-base?projection=mpnet-128.safetensors'",
)
@grouped
def project_(
    *,
    encoder: Annotated[str, typer.Argument(metavar="ENCODER", help="As with --encoder elsewhere.")],
    task: TaskName,
    out: Annotated[Path, option("--out", panel=PLACE, metavar="FILE", help="The .safetensors file to write.")],
    width: Annotated[
        int | None, option("--width", panel=ENCODER, min=1, help="Numbers kept of each token and layer.")
    ] = None,
    kind: Annotated[
        ProjectionKind,
        option("--kind", panel=ENCODER, help="pca, random, or none: all numbers, with --int8."),
    ] = "pca",
    int8: Annotated[bool, option("--int8", panel=ENCODER, help="Keep them in 8 bits instead of 16.")] = False,
    texts: Annotated[int, option("--texts", panel=DATA, min=1, help="Training texts to fit on.")] = 2000,
    seed: Annotated[int, option("--seed", panel=DATA, min=0, max=2**32 - 1, help="Seed of their choice.")] = 0,
    data: DataOptions,
    place: PlaceOptions,
) -> None:
    """Fit a projection that makes an encoder's token states small: principal components, 8 bits, or both."""
    loaded, _ = data.load(task, ["train"])
    from fusion_classifier.encoders.spec import parse_encoder

    config = parse_encoder(encoder, features="tokens")
    from fusion_classifier.commands.project import project
    from fusion_classifier.runs.context import say_notes

    work = place.workspace()
    say_notes(loaded, work)
    found = project(config, loaded, out, work, kind=kind, width=width, int8=int8, texts=texts, seed=seed)
    layers, hidden = found.mean.shape
    size = layers * (hidden * 2), layers * (found.width * (1 if int8 else 2))
    typer.echo(f"{out}: {layers} x {hidden} to {layers} x {found.width}, {size[0]:,} to {size[1]:,} bytes a token")
    typer.echo(f"Next: --encoder '{encoder}{'&' if '?' in encoder else '?'}projection={out}'")


@app.command("tune", epilog="Example:  fec tune minilm-l6 demo --out models/minilm-demo")
@grouped
def tune_(
    *,
    encoder: Annotated[str, typer.Argument(metavar="ENCODER", help="As with --encoder elsewhere.")],
    task: TaskName,
    data: DataOptions,
    tuning: TuneOptions,
    place: PlaceOptions,
    as_json: Json = False,
) -> None:
    """Fine-tune a small encoder on a task's train split, into a folder that works as any other --encoder.

    Validation chooses the epoch; the test split is never read.
    """
    config = tuning.config()
    loaded, _ = data.load(task, ["train", "valid"])
    start = tuning.encoder(encoder)
    from fusion_classifier.commands.tune import tune_encoder
    from fusion_classifier.runs.context import say_notes

    work = place.workspace()
    say_notes(loaded, work)
    tuned = tune_encoder(config, start, loaded, tuning.out, work, overwrite=tuning.overwrite)
    if as_json:
        _print(tuned.record)
        return
    for epoch in tuned.history:
        kept = "  (kept)" if epoch.epoch == tuned.best_epoch else ""
        typer.echo(
            f"epoch {epoch.epoch}: loss {epoch.train_loss:.3f}, validation accuracy "
            f"{100 * epoch.valid_accuracy:.2f}, weighted F1 {100 * epoch.valid_weighted_f1:.2f} "
            f"({epoch.seconds:.0f} s){kept}"
        )
    typer.echo(f"Written to {tuned.folder}. Next: fec run {task} --encoder {tuned.folder}")


@app.command("explain", epilog='Example:  fec explain "I am so grateful to the driver" --label gratitude')
@grouped
def explain_(
    *,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] TEXT",
            help=f"Model or run folder, model of the package ({DEFAULT_MODEL} unless given), or Hub id; the text.",
        ),
    ],
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help="The model; then the argument is the text.")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="Which label's words; the most probable unless given.")
    ] = None,
    spans: Annotated[
        int,
        typer.Option("--spans", min=1, metavar="N", help="Of a text with more words neighbours are taken together."),
    ] = 64,
    encoder: EncoderPaths = None,
    device: Annotated[Device, typer.Option("--device", help="auto takes CUDA, then MPS, then the CPU.")] = "auto",
    as_json: Json = False,
) -> None:
    """Say which words of a text carry a label: each is left out in turn.

    A weight is what the label's log-odds lose without the word; below 0 it speaks against the label.
    """
    paths = encoder_paths(encoder)
    from fusion_classifier.commands.predict import explain_text, model_and_texts

    found, texts = model_and_texts(words, model, has_file=False)
    explained = explain_text(found, texts, label, spans, paths, device)
    if as_json:
        from dataclasses import asdict

        _print(asdict(explained))
        return
    from fusion_classifier.cli import tables

    tables.print_explanation(explained)


@app.command(
    "ablate",
    epilog="Example:  fec ablate go_emotion --data data/go_emotion -e minilm-l6 -e smollm2-135m --head fusion,linear",
)
@grouped
def ablate_(
    *,
    task: TaskName,
    split: Annotated[
        str, option("--split", panel=DATA, help="What is evaluated: valid, to choose; test, to report.")
    ] = "valid",
    data: DataOptions,
    encoders: EncoderOptions,
    training: TrainingOptions,
    place: PlaceOptions,
    as_json: Json = False,
) -> None:
    """Train every subset of encoders under each head (--head A,B) and say what each encoder adds.

    Works on the store alone: first fec extract with the same encoders.
    """
    heads = list(dict.fromkeys(name.strip() for name in training.head.split(",")))
    loaded, _ = data.load(task, list(dict.fromkeys(["train", "valid", split])))
    task_config = data.config(task)
    configs = [replace(training, head=head).config(task_config, encoders.configs(reads(head))) for head in heads]
    from fusion_classifier.cli import tables
    from fusion_classifier.commands.ablate import ablate
    from fusion_classifier.runs.context import say_notes

    work = place.workspace()
    say_notes(loaded, work)
    folder = training.out or Path("ablations") / loaded.name
    result = ablate(configs, loaded, split, folder, work)
    if as_json:
        _print(result)
        return
    tables.print_ablation(result, folder)


@app.command("export", epilog="Example:  fec export ED --data data/ED --encoder llama2-7b-chat --out features/ED")
@grouped
def export_(
    *,
    task: TaskName,
    out: Annotated[
        Path, option("--out", panel=PLACE, metavar="DIR", help="Folder for one safetensors file a split.")
    ],
    split: SplitNames = None,
    data: DataOptions,
    encoders: EncoderOptions,
    place: PlaceOptions,
    as_json: Json = False,
) -> None:
    """Write features and labels as safetensors, for those who bring their own classifier."""
    loaded, splits = data.load(task, split)
    configs = encoders.configs()
    from fusion_classifier.runs.context import say_notes
    from fusion_classifier.runs.features import export_task

    work = place.workspace()
    say_notes(loaded, work)
    paths = export_task(loaded, splits, configs, out, work)
    if as_json:
        _print([str(path) for path in paths])
        return
    for path in paths:
        typer.echo(f"written: {path}")


@app.command("export-onnx", epilog="Example:  fec export-onnx runs/demo-fusion --out demo-onnx")
@grouped
def export_onnx_(
    *,
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    out: Annotated[Path, option("--out", panel=PLACE, metavar="DIR", help="Folder for graphs and tokenizers.")],
    encoders: Annotated[
        bool,
        option("--encoders/--no-encoders", panel=ENCODER, help="Export the encoders too, not the head alone."),
    ] = True,
    encoder: EncoderPaths = None,
    check: Annotated[
        int, option("--check", panel=DATA, metavar="N", min=1, help="Texts on which agreement is measured.")
    ] = 64,
    as_json: Json = False,
) -> None:
    """Write a classifier as ONNX graphs, and measure that they answer as it does; needs the extra onnx.

    An encoder that can't be exported is named with the reason, and the rest is written.
    """
    paths = encoder_paths(encoder)
    from fusion_classifier.cli import tables
    from fusion_classifier.onnx_export.graph_files import export_onnx
    from fusion_classifier.support.progress import Progress

    done = export_onnx(model, out, encoders=encoders, check=check, encoder_paths=paths, progress=Progress(lines=True))
    if encoders:
        for name, reason in done.missing.items():
            typer.echo(f"warning: encoder {name} was not exported: {reason}", err=True)
    if as_json:
        _print({"folder": str(done.folder), "files": done.files, "agreement": done.config["agreement"]})
        return
    tables.print_export(done.config["agreement"], done.files, done.folder)


# --- looking at runs and data ------------------------------------------------------------------------------


@app.command("compare", epilog="Example:  fec compare runs/demo-fusion runs/demo-llmembed")
def compare_(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="Folder that fec run has written.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another, on the same texts.")],
    split: Annotated[
        str | None, option("--split", panel=DATA, help="test or valid; test where both have it unless given.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say whether one run is better than another: intervals, tests and effect sizes, paired by text."""
    from fusion_classifier.cli import tables
    from fusion_classifier.commands.compare import compare_runs
    from fusion_classifier.support.progress import Progress

    with Progress(lines=True).bar("drawing texts again and again", total=None):
        compared = compare_runs(run_a, run_b, split)
    if as_json:
        _print(compared.figures())
        return
    tables.print_comparison(compared.figures(), compared.names)


@app.command("report", epilog="Example:  fec report runs/demo-fusion --out demo.html")
@grouped
def report_(
    *,
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that fec run has written.")],
    out: Annotated[
        Path | None, option("--out", panel=PLACE, metavar="FILE", help="report.html in the folder unless given.")
    ] = None,
    split: Annotated[
        str | None, option("--split", panel=DATA, help="test or valid; test where the run has it unless given.")
    ] = None,
    texts: Annotated[
        bool, option("--texts/--no-texts", panel=DATA, help="Whether texts of the data stand in the page.")
    ] = True,
) -> None:
    """Write a run as one HTML page: results, confusion, confidence, mistakes, a map of the texts, time and memory.

    Only the run folder and the data are read: no store, no model, no network.
    """
    from fusion_classifier.commands.report import write_report
    from fusion_classifier.support.progress import Progress

    with Progress(lines=True).bar("writing the report", total=None):
        path = write_report(run_folder, out=out, split=split, texts=texts)
    typer.echo(f"{path}: {size(path.stat().st_size)}")


@app.command(
    "audit", epilog="Example:  fec audit go_emotion --data data/go_emotion -e minilm-l6 --out audits/go_emotion"
)
@grouped
def audit_(
    *,
    task: TaskName,
    data: DataOptions,
    encoders: EncoderOptions,
    label_errors: Annotated[
        bool,
        option(
            "--label-errors/--no-label-errors",
            panel=DATA,
            help="Look for doubtful labels in train and valid, with the encoders' features; needs the extra audit.",
        ),
    ] = True,
    out: Annotated[
        Path | None, option("--out", panel=PLACE, metavar="DIR", help="Audit folder; audits/TASK unless given.")
    ] = None,
    place: PlaceOptions,
    as_json: Json = False,
) -> None:
    """Look through a task's data: duplicates, label counts, lengths, label names in texts, doubtful labels.

    Tables are printed; CSV files and audit.json are written.
    """
    loaded, _ = data.load(task)
    # Asked for no features and no encoder, it loads no model's files.
    configs = encoders.configs() if label_errors or encoders.encoder else ()
    from fusion_classifier.cli import tables
    from fusion_classifier.commands.audit import audit
    from fusion_classifier.runs.context import say_notes

    work = place.workspace()
    say_notes(loaded, work)
    folder = out or Path("audits") / loaded.name
    figures = audit(loaded, configs, folder, work, label_errors=label_errors)
    if as_json:
        _print(figures)
        return
    tables.print_audit(figures, folder)


# --- taking a model elsewhere ------------------------------------------------------------------------------


@app.command("push", epilog="Example:  fec push runs/reviews my-name/reviews-mood --private")
def push_(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    repo_id: Annotated[str, typer.Argument(metavar="REPO_ID", help="owner/model on the Hub; made if not there.")],
    private: Annotated[
        bool | None,
        typer.Option("--private/--public", help="Of a new repository."),
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="Branch; main unless given.")] = None,
    message: Annotated[
        str, typer.Option("--message", help="Of the commit.")
    ] = "A classifier of LLM-FusionClassifier",
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead.")] = False,
) -> None:
    """Upload a trained classifier with its card to the Hub; log in by hf auth login first."""
    from fusion_classifier.classifier.estimator import FusionClassifier

    classifier = FusionClassifier.from_pretrained(model)
    typer.echo(
        classifier.push_to_hub(
            repo_id, private=private, revision=revision, commit_message=message, create_pr=create_pr
        )
    )


# --- exit codes --------------------------------------------------------------------------------------------


class _Stopped(BaseException):
    """A signal asks the program to end. Not an Exception: nobody may take it for an error and go on."""

    def __init__(self, number: int) -> None:
        self.number = number


def _stop(number: int, _frame: object) -> NoReturn:
    raise _Stopped(number)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run `fec` and exit."""
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    if sys.stdout is None:  # a service may be started without
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    try:
        try:
            app(args=None if arguments is None else list(arguments), prog_name="fec")
        finally:
            sys.stdout.flush()  # here, where it can be said that it fails
    except FecError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except _Stopped as stopped:
        typer.echo("\nstopped; what was committed is kept: run the same command again to go on", err=True)
        sys.exit(128 + stopped.number)
    except MemoryError as error:
        typer.echo(f"error: the memory does not suffice ({reason(error)}); give fewer or shorter texts", err=True)
        sys.exit(1)
    except BrokenPipeError:
        # The reader of our output is gone (`| head`); nothing more can be said.
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        typer.echo(f"error: {error.filename or 'standard output'}: {error.strerror or error}", err=True)
        # What is left in the buffer would fail again when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(0)
