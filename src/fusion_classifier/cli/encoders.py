"""`fec export`, `project`, `tune`: features as files, smaller token states, fine-tuned encoders."""

# ruff: noqa: PLC0415 - imported where used: --help and faults in the data must not wait for torch

from pathlib import Path
from typing import Annotated

import typer

from fusion_classifier.cli.command import Commands
from fusion_classifier.cli.fields import Given, Options
from fusion_classifier.cli.messages import answer
from fusion_classifier.cli.options import (
    ENCODER_DEFAULTS,
    DataOptions,
    EncoderName,
    FeatureOptions,
    Json,
    OptionalTaskName,
    PlaceOptions,
    SplitNames,
    TaskName,
    TrainingDataOptions,
    as_words,
    load,
    option,
)
from fusion_classifier.config import MAX_SEED, EncoderConfig, ProjectionKind, TaskConfig
from fusion_classifier.errors import UsageError
from fusion_classifier.support.validation import checked
from fusion_classifier.training.tune_config import DEFAULT_LORA_RANK, TuneConfig

commands = Commands(panel="Encoders and features")


@commands.command("export", example="fec export ED --data data/ED --encoder llama2-7b-chat --out features/ED")
def export_(
    *,
    task: OptionalTaskName = None,
    out: Annotated[Path, option("Output folder, with one .safetensors file per split.", metavar="DIR")],
    split: SplitNames = None,
    options: FeatureOptions,
    original: Annotated[
        bool,
        option(
            "Files of the original LLM-FusionClassifier, SPLIT_sents and SPLIT_labels, as .safetensors.", "--original"
        ),
    ] = False,
    place: PlaceOptions,
    as_json: Json = False,
) -> None:
    """Write features and labels as safetensors, for a classifier of your own."""
    loaded, splits = load(options.task(task), split)
    configs = options.encoders()
    from fusion_classifier.runs.features import export_task

    work = place.workspace(loaded)
    paths = [str(path) for path in export_task(loaded, splits, configs, out, work, original=original)]
    answer(paths, as_json, lambda: typer.echo("\n".join(f"written: {path}" for path in paths)))


@commands.command(
    "project",
    example="fec project mpnet-base go_emotion --data data/go_emotion --width 128 --int8 --out "
    "mpnet-128.safetensors  then  --encoder 'mpnet-base?projection=mpnet-128.safetensors'",
)
def project_(
    *,
    encoder: EncoderName,
    task: TaskName,
    out: Annotated[Path, option("The .safetensors file to write.", metavar="FILE")],
    width: Annotated[int | None, option("Numbers kept per token and layer.", min=1)] = None,
    kind: Annotated[ProjectionKind, option("pca, random, or none (keeps all numbers; for --int8).")] = "pca",
    int8: Annotated[bool, option("Store the projected numbers in 8 bits instead of 16.", "--int8")] = False,
    texts: Annotated[int, option("Number of training texts to fit on.", min=1)] = 2000,
    seed: Annotated[int, option("Random seed for choosing the texts.", min=0, max=MAX_SEED)] = 0,
    data: DataOptions,
    place: PlaceOptions,
) -> None:
    """Fit a projection that makes an encoder's token states smaller: principal components, 8 bits, or both."""
    loaded, _ = load(checked(TaskConfig, data | {"name": task}), ["train"])
    from fusion_classifier.encoders.spec import parse_encoder

    config = parse_encoder(encoder, features="tokens")
    from fusion_classifier.commands.project import project

    work = place.workspace(loaded)
    found = project(config, loaded, out, work, kind=kind, width=width, int8=int8, texts=texts, seed=seed)
    layers, hidden = found.mean.shape
    size = layers * (hidden * 2), layers * (found.width * (1 if int8 else 2))
    typer.echo(f"{out}: {layers} x {hidden} to {layers} x {found.width}, {size[0]:,} to {size[1]:,} bytes per token")
    typer.echo(f"Next: --encoder '{encoder}{'&' if '?' in encoder else '?'}projection={out}'")


@commands.command("tune", example="fec tune minilm-l6 demo --out models/minilm-demo")
def tune_(
    *,
    encoder: EncoderName,
    task: TaskName,
    out: Annotated[Path, option("Folder for the tuned encoder.", metavar="DIR")],
    overwrite: Annotated[bool, option("Replace a tuned encoder in that folder.", "--overwrite")] = False,
    data: TrainingDataOptions,
    training: Annotated[Given, Options("Training", {"": TuneConfig})],
    lora: Annotated[bool, option("Train LoRA adapters, not all weights; needs the extra tune.", "--lora")] = False,
    settings: Annotated[
        Given, Options("Encoders", {"": EncoderConfig}, ENCODER_DEFAULTS, only=("max_length", "dtype"))
    ],
    place: PlaceOptions,
    as_json: Json = False,
) -> None:
    """Fine-tune a small encoder on a task's train split, into a folder that is both a model and an encoder.

    Validation chooses the epoch; the test split is never read. With few rows per label: --objective contrastive,
    which needs no validation split; a file of up to 1,000 rows is cross-validated.
    """
    if "lora_rank" in training and not lora:
        raise UsageError("--lora-rank requires --lora")
    config = checked(TuneConfig, ({"lora_rank": DEFAULT_LORA_RANK} if lora else {}) | training)
    contrastive = config.objective == "contrastive"
    if not contrastive and data.get("cross_validate"):
        raise UsageError("--cross-validate requires --objective contrastive")
    by_folds = {"cross_validate": None if contrastive else False}
    task_config = checked(TaskConfig, by_folds | data | {"name": task})
    loaded, _ = load(task_config, ["train"] if contrastive else ["train", "valid"])
    from fusion_classifier.encoders.spec import parse_encoder

    start = parse_encoder(encoder, as_words(settings))
    from fusion_classifier.commands.tune import tune_encoder
    from fusion_classifier.training.result import Epoch

    tuned = tune_encoder(
        config,
        start,
        loaded,
        out,
        place.workspace(loaded),
        text_column=task_config.text_column,
        overwrite=overwrite,
    )

    def show() -> None:
        for epoch in tuned.history:
            figures = f"epoch {epoch.epoch}: loss {epoch.train_loss:.3f}"
            if isinstance(epoch, Epoch):
                figures += f", validation accuracy {100 * epoch.valid_accuracy:.2f}"
                figures += f", weighted F1 {100 * epoch.valid_weighted_f1:.2f}"
            kept = "  (kept)" if epoch.epoch == tuned.best_epoch else ""
            typer.echo(f"{figures} ({epoch.seconds:.0f} s){kept}")
        if contrastive and (valid := tuned.record["valid"]):
            typer.echo(f"validation: accuracy {100 * valid['accuracy']:.2f}")
        if measured := tuned.record["out_of_fold"]:
            typer.echo(
                f"cross-validation: accuracy {100 * measured['tuned']['accuracy']:.2f}; logistic regression on the "
                f"frozen encoder {100 * measured['frozen']['accuracy']:.2f}"
            )
        typer.echo(
            f"Written to {tuned.folder}: a model (fec predict {tuned.folder} TEXT), and an encoder for fec run"
        )

    answer(tuned.record, as_json, show)
