"""The baselines of a run: fitted to the training rows, evaluated on the splits that the run reports."""

from collections.abc import Mapping, Sequence
from typing import Any

from fusion_classifier.classifier.pipeline import open_rows
from fusion_classifier.config import ClassWeights
from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.evaluation.baselines import (
    Baseline,
    logistic_regression,
    majority_class,
    max_rows,
    sample_rows,
)
from fusion_classifier.evaluation.formats import BASELINE_METRICS
from fusion_classifier.evaluation.metrics import score
from fusion_classifier.evaluation.predictions import SplitPredictions
from fusion_classifier.runs.context import RunContext
from fusion_classifier.runs.features import rows_of, weighted
from fusion_classifier.tasks.loaded import LoadedTask

SHARE_OF_MEMORY = 4  # logistic regression may use a quarter of the memory for features


def fit_baselines(
    class_weight: ClassWeights, task: LoadedTask, identities: Sequence[EncoderIdentity], work: RunContext
) -> dict[str, Baseline]:
    """Baselines by name, with the model's sample weights; the features of train must be in the store."""
    n_classes, training = len(task.labels), task.training
    labels = rows_of(training, task).targets
    shapes = [work.store.of(identity).shape() for identity in identities]
    columns = sum(shape.layers * shape.width for shape in shapes if shape is not None)
    # With cross-validation every row is evaluated; they are few enough.
    most = len(labels) if task.cross_validated else max_rows(columns, n_classes, work.memory / SHARE_OF_MEMORY)
    chosen = sample_rows(labels, most)
    if len(chosen) < len(labels):
        work.say(
            f"the baseline, logistic regression, is fitted to {len(chosen):,} of the {len(labels):,} training rows, "
            "so that it takes seconds"
        )
    rows = weighted(rows_of(training.take(chosen), task), task.labels, class_weight)
    (data,) = open_rows([rows], identities, work.store, work.memory)
    return {
        "logistic_regression": logistic_regression(data, n_classes, work.device),
        "majority_class": majority_class(labels, n_classes),
    }


def baseline_figures(
    baselines: Mapping[str, Baseline], by_split: Mapping[str, Mapping[str, SplitPredictions]]
) -> dict[str, Any]:
    """Their entries in `metrics.json`; `by_split` are their predictions by split and name."""
    figures = {name: {split: _scores(parts[name]) for split, parts in by_split.items()} for name in baselines}
    fits = {name: {"rows": one.rows} | ({} if one.C is None else {"C": one.C}) for name, one in baselines.items()}
    return {"baselines": figures, "baseline_fits": fits}


def _scores(part: SplitPredictions) -> dict[str, float]:
    found = score(part.labels, part.by_seed[0], part.answers[0])
    return {metric: found[metric] for metric in BASELINE_METRICS if metric in found}
