"""`fec predict`, `explain`, `serve`, `export-onnx`, `push`: what a trained model is used for."""

# ruff: noqa: PLC0415 - imported where used: --help must not wait for torch

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fusion_classifier.cli.fields import Commands
from fusion_classifier.cli.messages import answer, in_options, progress
from fusion_classifier.cli.options import (
    DATA,
    ENCODERS,
    MODEL_HELP,
    WHERE,
    DeviceName,
    EncoderPaths,
    EngineOptions,
    Json,
    ModelName,
    ServerAccess,
    ServerLimits,
    encoder_paths,
    option,
)
from fusion_classifier.config import DEFAULT_MODEL, ServerSettings
from fusion_classifier.errors import UsageError
from fusion_classifier.support.extras import require
from fusion_classifier.support.validation import checked

commands = Commands(panel="Use a model")
COMMIT_MESSAGE = "A classifier of LLM-FusionClassifier"
MODEL_FIRST = f"{MODEL_HELP} Default: {DEFAULT_MODEL}, of the package."


@commands.command("predict", example='fec predict "I can\'t believe she remembered my birthday"')
def predict_(
    *,
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL] [TEXT]...", help=f"MODEL: {MODEL_FIRST} TEXT: texts to classify."),
    ] = None,
    model: Annotated[
        str | None, option("--model", "-m", metavar="MODEL", help="The model; then every argument is a text.")
    ] = None,
    file: Annotated[
        Path | None,
        option("--file", "-f", help="CSV, TSV, JSONL, Parquet or .txt file (one text per line); - reads lines."),
    ] = None,
    text_column: Annotated[str, option("--text-column", help="Column with the texts.")] = "text",
    top_k: Annotated[
        int | None, option("--top-k", min=1, help="List the K most probable labels instead of the best.")
    ] = None,
    abstain: Annotated[
        float | None,
        option(
            "--abstain",
            min=0.0,
            max=1.0,
            metavar="P",
            help="Answer null where the best label's probability is below P; risk_coverage in a run's metrics.json "
            "has the accuracy and coverage for each P.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        option("--out", metavar="FILE", help="Write texts and answers of --file to a .csv, .jsonl or .parquet."),
    ] = None,
    as_json: Annotated[bool, option("--json", help="Lines of JSON on a terminal, too, as anywhere else.")] = False,
    encoder: EncoderPaths = None,
    device: DeviceName = "auto",
    engine: EngineOptions,
) -> None:
    """Classify texts.

    Answers are bars on a terminal, else a line of JSON per text as transformers' pipeline gives it, or a file.
    """
    paths, ray = encoder_paths(encoder), engine.ray(device)
    from fusion_classifier.cli.words import model_and_texts
    from fusion_classifier.commands.predict import predict_lines, predict_rows, predict_to_file

    found, texts = model_and_texts(words or [], model, has_file=file is not None)
    if out is not None:
        if file is None or texts:
            raise UsageError("--out: goes with --file and without further texts")
        count = predict_to_file(found, file, out, text_column, top_k, abstain, paths, device, progress(), ray)
        typer.echo(f"{out}: {count:,} texts")
    elif ray is not None:
        raise UsageError("--engine ray: goes with --file and --out")
    elif texts and file is None and not as_json and sys.stdout.isatty():
        from fusion_classifier.cli import tables

        for text, row in predict_rows(found, texts, abstain, paths, device):
            tables.print_prediction(text, row, top_k)
    else:
        for line in predict_lines(found, texts, file, text_column, top_k, abstain, paths, device):
            typer.echo(line)


@commands.command("explain", example='fec explain "I am so grateful to the driver" --label gratitude')
def explain_(
    *,
    words: Annotated[
        list[str], typer.Argument(metavar="[MODEL] TEXT", help=f"MODEL: {MODEL_FIRST} TEXT: the text to explain.")
    ],
    model: Annotated[
        str | None, option("--model", "-m", metavar="MODEL", help="The model; then the argument is the text.")
    ] = None,
    label: Annotated[str | None, option("--label", help="The label to explain. Default: the most probable.")] = None,
    spans: Annotated[
        int,
        option(
            "--spans",
            min=1,
            metavar="N",
            help="Number of parts; words of longer texts are joined.",
        ),
    ] = 64,
    encoder: EncoderPaths = None,
    device: DeviceName = "auto",
    as_json: Json = False,
) -> None:
    """Print which words of a text speak for a label: each is left out in turn.

    A weight is what the label's log-odds lose without the word; below 0 it speaks against the label.
    """
    paths = encoder_paths(encoder)
    from fusion_classifier.cli import tables
    from fusion_classifier.cli.words import model_and_texts
    from fusion_classifier.commands.predict import explain_text

    found, texts = model_and_texts(words, model, has_file=False)
    explained = explain_text(found, texts, label, spans, paths, device)
    answer(asdict(explained), as_json, lambda: tables.print_explanation(explained))


@commands.command("serve", example="fec serve runs/demo-fusion --port 8080")
def serve_(
    *,
    model: ModelName = DEFAULT_MODEL,
    host: Annotated[str, option("--host", help="Address to listen at; 0.0.0.0: all.")] = "127.0.0.1",
    port: Annotated[int, option("--port", min=0, max=65535, help="Port; 0: a free one.")] = 8080,
    access: ServerAccess,
    limits: ServerLimits,
    encoder: EncoderPaths = None,
    device: DeviceName = "auto",
    json_output: Annotated[bool, option("--json-output", hidden=True, help="Logs as lines of JSON.")] = False,
) -> None:
    """Serve a classifier over HTTP, as text-embeddings-inference does, with a web page at /."""
    paths, settings = encoder_paths(encoder), checked(ServerSettings, access | limits)
    require("fec serve", "serve", "fastapi", "prometheus_client", "uvicorn")
    from fusion_classifier.serving.kernels import keep_few_kernels

    keep_few_kernels()
    from fusion_classifier.serving.server import serve

    serve(model, settings, host=host, port=port, device=device, encoder_paths=paths, json_output=json_output)


@commands.command("export-onnx", example="fec export-onnx runs/demo-fusion --out demo-onnx")
def export_onnx_(
    *,
    model: ModelName,
    out: Annotated[Path, option("--out", panel=WHERE, metavar="DIR", help="Folder for graphs and tokenizers.")],
    encoders: Annotated[
        bool, option("--encoders/--no-encoders", panel=ENCODERS, help="Whether to export the encoders, too.")
    ] = True,
    encoder: EncoderPaths = None,
    check: Annotated[
        int, option("--check", panel=DATA, metavar="N", min=1, help="Number of texts on which agreement is measured.")
    ] = 64,
    as_json: Json = False,
) -> None:
    """Write a classifier as ONNX graphs, and measure that they answer as it does; needs the extra onnx.

    An encoder that can't be exported is named with the reason, and the rest is written.
    """
    paths = encoder_paths(encoder)
    from fusion_classifier.cli import tables
    from fusion_classifier.onnx_export.write import export_onnx

    done = export_onnx(model, out, encoders=encoders, check=check, encoder_paths=paths, progress=progress())
    for name, reason in done.missing.items() if encoders else ():
        typer.echo(f"warning: encoder {name} was not exported: {in_options(reason)}", err=True)
    agreement = done.config["agreement"]
    described = {"folder": str(done.folder), "files": done.files, "agreement": agreement}
    answer(described, as_json, lambda: tables.print_export(agreement, done.files, done.folder))


@commands.command("push", example="fec push runs/reviews my-name/reviews-mood --private")
def push_(
    model: ModelName,
    repo_id: Annotated[str, typer.Argument(metavar="REPO_ID", help="owner/model on the Hub; made if not there.")],
    private: Annotated[bool | None, option("--private/--public", help="Visibility of a new repository.")] = None,
    revision: Annotated[str | None, option("--revision", help="Branch. Default: main.")] = None,
    message: Annotated[str, option("--message", help="Message of the commit.")] = COMMIT_MESSAGE,
    create_pr: Annotated[bool, option("--create-pr", help="Open a pull request instead.")] = False,
) -> None:
    """Upload a trained classifier with its card to the Hub; log in by hf auth login first."""
    from fusion_classifier.classifier.estimator import FusionClassifier

    classifier = FusionClassifier.from_pretrained(model)
    typer.echo(
        classifier.push_to_hub(
            repo_id, private=private, revision=revision, commit_message=message, create_pr=create_pr
        )
    )
