"""The card of a model: what it is, how good, made of what, and what not to use it for. Written beside the weights.

The head of the card is metadata that the Hub reads (https://huggingface.co/docs/hub/model-cards).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment

from fusion_classifier.classifier.folder import ModelConfig, is_local
from fusion_classifier.config import EncoderConfig, TrainingConfig
from fusion_classifier.encoders.presets import PRESETS
from fusion_classifier.evaluation.formats import METRIC_TITLES, format_metric
from fusion_classifier.support.hub import LIBRARY, is_hub_id

TITLES = {"train": "train", "valid": "validation", "test": "test"}
PLACE = "PATH_OF_THIS_FOLDER"  # in a card, until the model lies on the Hub
TEMPLATE = Path(__file__).with_name("card.md.j2")
SHOWN = ("accuracy", "weighted_f1", "macro_f1", "micro_f1", "top3_accuracy", "map", "ece")
COLUMNS = {"valid": "validation", "test": "test", "test_without_overlap": "test without overlap with train"}
HUB_METRICS = {"accuracy": "accuracy", "weighted_f1": "f1", "macro_f1": "f1", "micro_f1": "f1"}


@dataclass(frozen=True)
class TrainingData:
    """What a card says about the texts; a text itself is never in it."""

    source: str | None = None
    """Where to read about them."""
    licence: str = "not known"
    """Their licence."""
    dataset: str | None = None
    """Their id on the Hub."""
    language: str | None = None
    """As the Hub writes it, such as en."""
    hashes: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 by split."""


def model_card(
    config: ModelConfig,
    *,
    metrics: Mapping[str, Any] | None = None,
    training: TrainingConfig | None = None,
    data: TrainingData | None = None,
    processor: str | None = None,
    licence: str | None = None,
    place: str = PLACE,
) -> str:
    """The card as Markdown with its metadata.

    Args:
        config: the model.
        metrics: `metrics.json` of the run that it comes from.
        training: the recipe.
        data: what it was trained on.
        processor: what the run was computed on.
        licence: of the model, by the Hub's name for it.
        place: where the model lies, in the examples.
    """
    title = f"{config.task}: {len(config.labels)} labels, head {config.head.name}"
    scores = None if metrics is None else _scores(metrics)
    data = data or TrainingData()
    described = ModelCardData(
        model_name=title,
        library_name=LIBRARY,
        license=licence,
        language=data.language,
        datasets=[data.dataset] if data.dataset else None,
        pipeline_tag="text-classification",
        tags=["text-classification", "frozen-features", "feature-fusion", f"head:{config.head.name}"],
        base_model=sorted({hub_id for saved in config.encoders if (hub_id := _hub_id(saved.config.model))}) or None,
        eval_results=None if metrics is None else _eval_results(config.task, data.dataset, metrics),
    )
    template = Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)  # Markdown, not HTML
    template.filters["in_table"] = _in_table
    seconds = {} if metrics is None else _seconds(metrics)
    body = template.from_string(TEMPLATE.read_text("utf-8")).render(
        title=title,
        labels=config.labels,
        multilabel=config.decision.multilabel,
        head=config.head.name,
        version=config.version,
        task=config.task,
        seed=config.seed,
        seeds=len(metrics["seeds"]) if metrics else 0,
        scores=scores,
        place=place,
        encoders=[
            {
                "name": saved.config.name,
                "model": _hub_id(saved.config.model) or "a local model",
                "origin": f"Hub, commit {saved.config.revision}"
                if saved.config.revision
                else saved.package or "local files",
                "layers": _layers(saved.config),
                "pooling": saved.config.pooling,
                "max_length": saved.config.max_length,
                "fingerprint": saved.fingerprint,
            }
            for saved in config.encoders
        ],
        rows=None if metrics is None else {name: f"{count:,}" for name, count in metrics["rows"].items()},
        data=data,
        recipe=None if training is None else _recipe(training),
        parameters=None if metrics is None else f"{metrics['parameters']:,}",
        processor=processor or "an unknown machine",
        seconds={name: f"{value:,.0f}" for name, value in seconds.items()},
        minutes=f"{sum(seconds.values()) / 60:,.1f}",
    )
    return f"---\n{described.to_yaml()}\n---\n\n{body.rstrip()}\n"


def _in_table(value: object) -> str:
    """As a table's cell holds it; the name of an encoder with several templates has || in it."""
    return " ".join(str(value).split()).replace("|", "\\|")


def _layers(encoder: EncoderConfig) -> str:
    if encoder.layers is not None:
        return ", ".join(map(str, encoder.layers))
    return "at a third, two thirds, the end" if encoder.pooling == "tokens" else "-1"


def _hub_id(model: str) -> str | None:
    """The model's name on the Hub; None for a place on this machine, which is nobody's business."""
    if model in PRESETS:
        return PRESETS[model].hub_id
    repository = "/".join(model.split("/")[:2])  # a GGUF file's name stands behind
    return repository if is_hub_id(repository) and not is_local(model) else None


def _seconds(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Of each stage, over all calls where they were recorded; a resumed run's last call took next to nothing."""
    if "stages" in metrics:
        return {name: stage["seconds"] for name, stage in metrics["stages"].items()}
    return dict(metrics["seconds"])


def _scores(metrics: Mapping[str, Any]) -> dict[str, Any]:
    columns = {name: title for name, title in COLUMNS.items() if metrics.get(name)}
    there = metrics["valid"]
    rows = [
        (METRIC_TITLES[metric], [str(format_metric(metric, metrics[column][metric])) for column in columns])
        for metric in SHOWN
        if metric in there
    ]
    return {"columns": list(columns.values()), "rows": rows}


def _eval_results(task: str, dataset: str | None, metrics: Mapping[str, Any]) -> list[EvalResult]:
    split = "test" if metrics.get("test") else "valid"
    return [
        EvalResult(
            task_type="text-classification",
            dataset_type=dataset or task,
            dataset_name=task,
            dataset_split="validation" if split == "valid" else split,
            metric_type=kind,
            metric_name=METRIC_TITLES[metric],
            metric_value=round(metrics[split][metric]["mean"], 4),
        )
        for metric, kind in HUB_METRICS.items()
        if metric in metrics[split]
    ]


def _recipe(training: TrainingConfig) -> str:
    return (
        f"AdamW, learning rate {training.learning_rate:g} ({training.schedule}), batches of {training.batch_size}, "
        f"at most {training.max_epochs} epochs, weight decay {training.weight_decay:g}, "
        f"label smoothing {training.label_smoothing:g}"
    )
