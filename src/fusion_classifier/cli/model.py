"""`fec predict`, `explain`, `serve`, `optimize`, `distill`, `push`: what a trained model is used for."""

# ruff: noqa: PLC0415 - imported where used: --help must not wait for torch

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fusion_classifier.classifier.models import DEFAULT_MODEL
from fusion_classifier.cli.command import Commands
from fusion_classifier.cli.fields import Given, Options
from fusion_classifier.cli.messages import answer, progress
from fusion_classifier.cli.options import (
    MODEL_HELP,
    DataOptions,
    DeviceName,
    EncoderPaths,
    EngineOptions,
    Json,
    ModelName,
    PlaceOptions,
    encoder_paths,
    option,
)
from fusion_classifier.config import MAX_SEED, Precision
from fusion_classifier.errors import UsageError
from fusion_classifier.serving.settings import ServerSettings
from fusion_classifier.support.extras import require
from fusion_classifier.support.hub import COMMIT_MESSAGE
from fusion_classifier.support.text import counted
from fusion_classifier.support.validation import checked

commands = Commands(panel="Use a model")
MODEL_FIRST = f"{MODEL_HELP} Default: {DEFAULT_MODEL}, which is built in."
ModelAndTexts = Annotated[
    list[str] | None,
    typer.Argument(metavar="[MODEL] [TEXT]...", help=f"MODEL: {MODEL_FIRST} TEXT: texts to classify."),
]
ModelAndText = Annotated[
    list[str], typer.Argument(metavar="[MODEL] TEXT", help=f"MODEL: {MODEL_FIRST} TEXT: the text to explain.")
]
ModelOption = Annotated[
    str | None, option("The model; then all arguments are texts.", "--model", "-m", metavar="MODEL")
]


@commands.command("predict", example='fec predict "I can\'t believe she remembered my birthday"')
def predict_(
    *,
    words: ModelAndTexts = None,
    model: ModelOption = None,
    file: Annotated[
        Path | None,
        option(
            "Table (such as .csv, .xlsx or .parquet) or .txt file (one text per line); - reads lines from standard "
            "input.",
            "--file",
            "-f",
        ),
    ] = None,
    text_column: Annotated[
        list[str] | None,
        option(
            "Column with the texts of --file. May be repeated; the columns are then joined. Default: that of the "
            "training data.",
            metavar="NAME",
        ),
    ] = None,
    encoding: Annotated[
        str | None, option("Encoding of a text file, such as cp1252. Default: UTF-8 or UTF-16.")
    ] = None,
    top_k: Annotated[int | None, option("Return the K most probable labels instead of one.", min=1)] = None,
    abstain: Annotated[
        float | None,
        option(
            "Answer null if no label reaches this probability; see risk_coverage in a run's metrics.json.",
            min=0,
            max=1,
        ),
    ] = None,
    reject_unknown: Annotated[
        bool, option("Answer null, and unknown: true, for texts that seem to have none of the labels.")
    ] = False,
    false_alarm_rate: Annotated[
        float | None,
        option("Share of known texts that --reject-unknown may reject by mistake. Default: 0.05.", min=0, max=1),
    ] = None,
    out: Annotated[
        Path | None,
        option("Write the rows of --file and their answers to this .csv, .jsonl or .parquet file.", metavar="FILE"),
    ] = None,
    as_json: Annotated[bool, option("Print JSON lines even on a terminal.", "--json")] = False,
    encoder: EncoderPaths = None,
    device: DeviceName = "auto",
    engine: EngineOptions,
) -> None:
    """Classify texts.

    Prints bars on a terminal, otherwise one line of JSON per text; --out writes a file. Answers have all columns of
    --file, then label and score; with --top-k label_1, score_1, label_2, …; null where a text is missing.
    """
    paths, ray = encoder_paths(encoder), engine.ray(device)
    from fusion_classifier.cli.words import model_and_texts
    from fusion_classifier.commands.predict import Predictions

    found, texts = model_and_texts(words or [], model, has_file=file is not None)
    rate = _rate(reject_unknown, false_alarm_rate)
    columns = tuple(text_column) if text_column else None
    predictions = Predictions(found, paths, device, top_k, abstain, rate, encoding, columns, progress().console.print)
    if out is not None:
        if file is None or texts:
            raise UsageError("--out requires --file and no further texts")
        count = predictions.to_file(file, out, progress(), ray)
        typer.echo(f"{out}: {counted(count, 'row')}")
    elif ray is not None:
        raise UsageError("--engine ray requires --file and --out")
    elif texts and file is None and not as_json and sys.stdout.isatty():
        from fusion_classifier.cli import tables

        for text, row, unknown in predictions.rows(texts):
            tables.print_prediction(text, row, top_k, unknown=unknown)
    else:
        for line in predictions.lines(texts, file):
            typer.echo(line)


def _rate(reject_unknown: bool, false_alarm_rate: float | None) -> float | None:
    """The requested false-alarm rate; None if nothing is to be rejected."""
    if not reject_unknown:
        if false_alarm_rate is not None:
            raise UsageError("--false-alarm-rate requires --reject-unknown")
        return None
    from fusion_classifier.training.known import DEFAULT_RATE

    if false_alarm_rate in (0, 1):
        raise UsageError("--false-alarm-rate must be between 0 and 1, such as 0.05")
    return DEFAULT_RATE if false_alarm_rate is None else false_alarm_rate


@commands.command("explain", example='fec explain "I am so grateful to the driver" --label gratitude')
def explain_(
    *,
    words: ModelAndText,
    model: ModelOption = None,
    label: Annotated[str | None, option("Label to explain. Default: the most probable one.")] = None,
    spans: Annotated[
        int, option("Maximum number of parts; in longer texts, neighbouring words are grouped.", min=1, metavar="N")
    ] = 64,
    encoder: EncoderPaths = None,
    device: DeviceName = "auto",
    as_json: Json = False,
) -> None:
    """Print which words of a text support a label: each word is removed in turn.

    A weight is the decrease of the label's log-odds without the word; below 0 it is evidence against the label.
    """
    paths = encoder_paths(encoder)
    from fusion_classifier.classifier.text_classifier import load_classifier
    from fusion_classifier.cli import tables
    from fusion_classifier.cli.words import model_and_texts

    found, texts = model_and_texts(words, model, has_file=False)
    if len(texts) != 1:
        raise UsageError(f"{len(texts)} texts to explain: give one, in quotation marks")
    explained = load_classifier(found, device, paths).explain(texts[0], label, max_spans=spans)
    answer(asdict(explained), as_json, lambda: tables.print_explanation(explained))


@commands.command("serve", example="fec serve runs/demo-fusion --port 8080")
def serve_(
    *,
    model: ModelName = DEFAULT_MODEL,
    host: Annotated[str, option("Address to listen on; 0.0.0.0 means all interfaces.")] = "127.0.0.1",
    port: Annotated[int, option("Port; 0 means any free port.", min=0, max=65535)] = 8080,
    workers: Annotated[
        int, option("Number of processes, each with its own model; they share the cores and the port.", min=1)
    ] = 1,
    server: Annotated[Given, Options("Server", {"": ServerSettings})],
    encoder: EncoderPaths = None,
    device: DeviceName = "auto",
    json_output: Annotated[bool, option("Log as JSON lines.", "--json-output", hidden=True)] = False,
) -> None:
    """Serve a classifier over HTTP, with the interface of text-embeddings-inference and a web page at /."""
    paths, settings = encoder_paths(encoder), checked(ServerSettings, server)
    require("fec serve", "serve", "fastapi", "prometheus_client", "uvicorn")
    from fusion_classifier.serving.kernels import keep_few_kernels

    keep_few_kernels()
    from fusion_classifier.serving.server import serve

    serve(
        model,
        settings,
        host=host,
        port=port,
        device=device,
        encoder_paths=paths,
        json_output=json_output,
        workers=workers,
    )


@commands.command("optimize", example="fec optimize runs/demo-fusion --out demo-fast")
def optimize_(
    *,
    model: ModelName,
    out: Annotated[Path, option("Folder to write.", metavar="DIR")],
    task: Annotated[
        str | None,
        option("Task or file with labelled texts to measure on. Default: the validation split of the training data."),
    ] = None,
    max_loss: Annotated[float, option("Maximum loss of accuracy, in points.", min=0, max=100)] = 0.5,
    precision: Annotated[
        Precision | None, option("Precision of the encoders. Default: the fastest within --max-loss.")
    ] = None,
    texts: Annotated[int, option("Number of texts to measure on.", min=1, metavar="N")] = 1000,
    encoders: Annotated[bool, option("Whether to write the encoders in addition to the head.")] = True,
    encoder: EncoderPaths = None,
    data: DataOptions,
    as_json: Json = False,
) -> None:
    """Write a classifier in its fastest form, which needs no torch: ONNX graphs, measured in several precisions.

    fec predict and fec serve accept the folder like any other model. Needs the extra onnx.
    """
    paths = encoder_paths(encoder)
    from fusion_classifier.cli import tables
    from fusion_classifier.commands.optimize import optimize_model

    done = optimize_model(
        model,
        out,
        task=task,
        data=data,
        max_loss=max_loss,
        precisions=None if precision is None else (precision,),
        max_texts=texts,
        encoders=encoders,
        encoder_paths=paths,
        progress=progress(),
        say=progress().console.print,
    )
    described = {
        "folder": str(done.folder),
        "files": done.files,
        "precision": done.config.get("precision", "float32"),
        "measured": [asdict(one) for one in done.measured],
        "agreement": done.config["agreement"],
    }
    answer(described, as_json, lambda: tables.print_optimized(done))


@commands.command(
    "distill", example="fec distill runs/demo-ensemble --into minilm-l6 --texts more.txt --out demo-small"
)
def distill_(
    *,
    model: ModelName,
    into: Annotated[str, option("Encoder of the student, as with --encoder of fec run.", metavar="ENCODER")],
    out: Annotated[Path, option("Folder to write.", metavar="DIR")],
    texts: Annotated[
        Path | None, option("Further, unlabelled texts: a table, or a .txt file (one text per line).", metavar="FILE")
    ] = None,
    task: Annotated[
        str | None, option("Task or file with labelled texts. Default: the training data of the teacher.")
    ] = None,
    seed: Annotated[int, option("Random seed of the student.", min=0, max=MAX_SEED)] = 0,
    encoder: EncoderPaths = None,
    data: DataOptions,
    place: PlaceOptions,
    as_json: Json = False,
) -> None:
    """Train a small, fast model on the answers of a trained classifier, its teacher.

    The student is an ordinary model on one encoder, with the head fusion. It learns from the texts of the task
    and of --texts: the more there are, and the more they resemble later texts, the better.
    """
    paths = encoder_paths(encoder)
    from fusion_classifier.cli import tables
    from fusion_classifier.commands.distill import distill_model

    done = distill_model(
        model, into, out, place.workspace(), texts=texts, task=task, data=data, encoder_paths=paths, seed=seed
    )
    answer({"folder": str(done.folder)} | done.figures.model_dump(), as_json, lambda: tables.print_distilled(done))


@commands.command("push", example="fec push runs/reviews my-name/reviews-mood --private")
def push_(
    model: ModelName,
    repo_id: Annotated[str, typer.Argument(metavar="REPO_ID", help="owner/model on the Hub; created if missing.")],
    private: Annotated[bool | None, option("Visibility of a new repository.", "--private/--public")] = None,
    revision: Annotated[str | None, option("Branch. Default: main.")] = None,
    message: Annotated[str, option("Commit message.")] = COMMIT_MESSAGE,
    create_pr: Annotated[bool, option("Open a pull request instead.", "--create-pr")] = False,
) -> None:
    """Upload a trained classifier with its card to the Hub; log in by hf auth login first."""
    from fusion_classifier.classifier.models import find_model, is_optimized
    from fusion_classifier.classifier.prediction import TextPredictor

    folder = find_model(model)
    if is_optimized(folder):
        raise UsageError(f"{model} is optimized; upload its folder with `hf upload {repo_id} {folder}`")
    classifier = TextPredictor.from_pretrained(folder)
    url = classifier.push_to_hub(
        repo_id, private=private, revision=revision, commit_message=message, create_pr=create_pr
    )
    typer.echo(url)
