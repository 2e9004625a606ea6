"""The model card: `README.md` in a model folder, from `card.md.j2`.

Its header is metadata that the Hub reads (https://huggingface.co/docs/hub/model-cards).
"""

# ruff: noqa: PLC0415 - jinja2 and huggingface-hub are imported for a card, not for prediction

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion_classifier.classifier.folder import ModelConfig, SavedEncoder, objects_note
from fusion_classifier.classifier.saved_encoders import is_local
from fusion_classifier.config import (
    EncoderConfig,
    EnsembleConfig,
    HeadConfig,
    LinearConfig,
    SklearnConfig,
    TrainingConfig,
)
from fusion_classifier.encoders.presets import PRESETS
from fusion_classifier.evaluation.formats import BASELINE_METRICS, BASELINE_TITLES, METRIC_TITLES, format_metric
from fusion_classifier.support.hub import LIBRARY, is_hub_id
from fusion_classifier.tasks.registry import task_of_model

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

PLACE = "PATH_OF_THIS_FOLDER"  # in a card, until the model is on the Hub
TEMPLATE = Path(__file__).with_name("card.md.j2")
SHOWN = ("accuracy", "weighted_f1", "macro_f1", "micro_f1", "top3_accuracy", "map", "ece")
COLUMNS = {"valid": "validation", "test": "test", "test_without_overlap": "test without overlap with train"}
HUB_METRICS = {"accuracy": "accuracy", "weighted_f1": "f1", "macro_f1": "f1", "micro_f1": "f1"}


@dataclass(frozen=True)
class TrainingData:
    """Information on the data (without texts): title, licence, Hub id, language, SHA-256 by split."""

    source: str | None = None
    licence: str = "not known"
    dataset: str | None = None
    language: str | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)


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
    """The card as Markdown, with its metadata.

    Args:
        config: Model.
        metrics: `metrics.json` of its run. Default: no scores are known.
        training: Hyper-parameters.
        data: Training data.
        processor: Processor that the run was computed on.
        licence: Licence of the model, as the Hub names it.
        place: Name or path of the model in the examples.
    """
    from huggingface_hub import ModelCardData
    from jinja2 import Environment

    title = f"{config.task}: {len(config.labels)} labels, head {config.head.name}"
    data = data or TrainingData()
    described = ModelCardData(
        model_name=title,
        library_name=LIBRARY,
        license=licence,
        language=data.language,
        datasets=[data.dataset] if data.dataset else None,
        pipeline_tag="text-classification",
        tags=["text-classification", "frozen-features", "feature-fusion", f"head:{config.head.name}"],
        base_model=sorted({hub_id for saved in config.encoders if (hub_id := _hub_id(saved))}) or None,
        eval_results=None if metrics is None else _eval_results(config.task, data.dataset, metrics),
    )
    template = Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)  # Markdown, not HTML
    template.filters["in_table"] = _in_table
    seconds = {} if metrics is None else _seconds(metrics)
    body = template.from_string(TEMPLATE.read_text("utf-8")).render(
        title=title,
        config=config,
        seeds=len(metrics["seeds"]) if metrics else 0,
        scores=None if metrics is None else _scores(metrics),
        place=place,
        encoders=[_encoder(saved) for saved in config.encoders],
        objects=objects_note(config),
        rows=None if metrics is None else {name: f"{count:,}" for name, count in metrics["rows"].items()},
        data=data,
        recipe=None if training is None else _recipe(config.head, training),
        parameters=None if metrics is None else f"{metrics['parameters']:,}",
        processor=processor or "an unknown machine",
        caveat=task.caveat if (task := task_of_model(config.task, config.labels)) else "",
        seconds={name: f"{value:,.0f}" for name, value in seconds.items()},
        minutes=f"{sum(seconds.values()) / 60:,.1f}",
    )
    return f"---\n{described.to_yaml()}\n---\n\n{body.rstrip()}\n"


def _encoder(saved: SavedEncoder) -> dict[str, Any]:
    """One row of the table of encoders."""
    config = saved.config
    origin = f"Hub, commit {config.revision}" if config.revision else saved.package or "local files"
    row = {"name": config.name, "fingerprint": saved.fingerprint}
    if saved.is_object:
        shape = " × ".join(map(str, saved.shape))
        return row | {"model": "a Python object", "origin": "", "layers": shape, "pooling": "", "max_length": ""}
    return row | {
        "model": _hub_id(saved) or "a local model",
        "origin": origin,
        "layers": _layers(config),
        "pooling": _pooling(config),
        "max_length": f"{config.max_length} tokens" + ("" if config.long == "cut" else " in a window"),
    }


def _pooling(config: EncoderConfig) -> str:
    """Pooling, with the additional settings of a sentence-transformers model."""
    prompt = "" if config.template == "{text}" else f"prompt `{config.template}`"
    return ", ".join(filter(None, (config.pooling, "dense layers" if config.dense else "", prompt)))


def _in_table(value: object) -> str:
    """Escaped for a table cell: the name of an encoder with several templates contains ||."""
    return " ".join(str(value).split()).replace("|", "\\|")


def _layers(encoder: EncoderConfig) -> str:
    if encoder.layers is not None:
        return ", ".join(map(str, encoder.layers))
    return "at a third, two thirds, the end" if encoder.pooling == "tokens" else "-1"


def _hub_id(saved: SavedEncoder) -> str | None:
    """The model's name on the Hub; None for a local path, which is private."""
    model = saved.config.model
    if saved.is_object:
        return None
    if model in PRESETS:
        return PRESETS[model].hub_id
    repository = "/".join(model.split("/")[:2])  # the name of a GGUF file comes after it
    return repository if is_hub_id(repository) and not is_local(model) else None


def _seconds(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of each stage, summed over all calls: the last call of a resumed run takes no time."""
    return {name: stage["seconds"] for name, stage in metrics["stages"].items()}


def _scores(metrics: Mapping[str, Any]) -> dict[str, Any]:
    columns = {name: title for name, title in COLUMNS.items() if metrics.get(name)}
    there = metrics["valid"]
    rows = [
        (METRIC_TITLES[metric], [str(format_metric(metric, metrics[column][metric])) for column in columns])
        for metric in SHOWN
        if metric in there
    ]
    return {
        "columns": list(columns.values()),
        "rows": rows,
        "baselines": _baselines(metrics, [name for name in columns if name in ("valid", "test")]),
        "warnings": metrics.get("warnings", ()),
        "cross_validated": metrics.get("cross_validated", False),
    }


def _baselines(metrics: Mapping[str, Any], splits: list[str]) -> dict[str, Any]:
    """Scores of the model and of the baselines."""
    there = [name for name in BASELINE_METRICS if name in metrics["valid"]]
    own = {split: {name: metrics[split][name]["mean"] for name in there} for split in splits}
    rows = {"this model": own} | {BASELINE_TITLES[name]: scores for name, scores in metrics["baselines"].items()}
    return {
        "columns": [f"{METRIC_TITLES[name]}, {COLUMNS[split]}" for split in splits for name in there],
        "rows": [
            (title, [f"{100 * scores[split][name]:.1f}" for split in splits for name in there])
            for title, scores in rows.items()
        ],
    }


def _eval_results(task: str, dataset: str | None, metrics: Mapping[str, Any]) -> "list[EvalResult]":
    from huggingface_hub import EvalResult

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


def _recipe(head: HeadConfig, training: TrainingConfig) -> str:
    """Description of the head's training; settings of gradient steps only if there were any."""
    if isinstance(head, SklearnConfig):
        return f"`{head.class_path}`, fitted with its own settings"
    regression = "logistic regression, solved by L-BFGS with C chosen by cross-validation"
    if isinstance(head, LinearConfig):
        return regression if head.c is None else f"logistic regression, solved by L-BFGS with C = {head.c:g}"
    steps = f" and at least {training.min_steps} steps" if training.min_steps else ""
    by_steps = (
        f"AdamW, learning rate {training.learning_rate:g} ({training.schedule}), batches of {training.batch_size}, "
        f"at most {training.max_epochs} epochs{steps}, weight decay {training.weight_decay:g}, "
        f"label smoothing {training.label_smoothing:g}"
    )
    if isinstance(head, EnsembleConfig):
        upper = "; upper layers: contrastive, with AdamW" if head.upper else ""
        return f"linear members: {regression}; members with attention: {by_steps}{upper}"
    return by_steps
