"""This project's heads as systems of `benchmarks/accuracy/accuracy.py`, trained as in `fec run`."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from peers import Fitted, Problem, search

from fusion_classifier.config import RunConfig, TaskConfig, TrainingConfig
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.features.arrays import Features, PooledFeatures
from fusion_classifier.features.extract import read_features
from fusion_classifier.fusion.head import count_parameters
from fusion_classifier.fusion.registry import parse_head
from fusion_classifier.runs.pipeline import train_task
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.inference import predict_logits
from fusion_classifier.training.result import TrainingResult
from fusion_classifier.training.train import train


def head(problem: Problem, *, name: str, recipe_name: str = "default") -> Fitted:
    """A head with one of its recipes: `fec run --head NAME --recipe RECIPE` on the features in the store."""
    started = time.perf_counter()
    config = RunConfig(
        task=TaskConfig(name=problem.task.name),
        encoders=problem.encoders,
        head=parse_head(name),
        training=recipe(recipe_name, name),
        seeds=(problem.seed,),
    )
    trained = train_task(config, problem.task, problem.folder / "run", problem.work, overwrite=True)[problem.seed]
    seconds = time.perf_counter() - started
    fixed = {"head": config.head.model_dump(), "recipe": recipe_name, "training": config.training.model_dump()}
    return Fitted(partial(_predict, problem, trained), {}, fixed | _outcome(trained), 0.0, seconds)


LLMEMBED_ZSCORED = tuple(
    {"learning_rate": rate, "batch_size": size} for rate, size in ((1e-4, 64), (3e-4, 64), (3e-4, 256), (1e-3, 256))
)


def llmembed_zscored(problem: Problem) -> Fitted:
    """The published head on features standardized with the training texts' statistics; the recipe is chosen on
    validation.

    The head itself reads raw features. This shows the loss due to their scale.
    """
    started = time.perf_counter()
    identities = _identities(problem)
    splits = ("train", "valid")
    raw = {split: read_features(problem.texts(split), identities, problem.work.store) for split in splits}
    statistics = {name: _statistics(features) for name, features in raw["train"].items()}
    zscored = {split: _zscored(raw[split], statistics) for split in splits}
    train_data, valid_data = (LabelledFeatures(zscored[split], problem.labels(split)) for split in splits)
    prepared = time.perf_counter() - started

    def training_of(setting: Mapping[str, Any]) -> TrainingConfig:
        return recipe("default", "llmembed", **setting)

    def probabilities(trained: TrainingResult, features: Mapping[str, Features], count: int) -> np.ndarray:
        return trained.decision.probabilities(predict_logits(trained.head, features, count, problem.work.device))

    def fit(setting: Mapping[str, Any]) -> tuple[TrainingResult, np.ndarray]:
        trained = train(
            parse_head("llmembed"),
            training_of(setting),
            train_data,
            valid_data,
            problem.n_classes,
            problem.seed,
            problem.work.device,
            problem.work.progress,
        )
        return trained, probabilities(trained, zscored["valid"], len(valid_data))

    best, others = search(problem, LLMEMBED_ZSCORED, fit)

    def predict(texts: Sequence[str]) -> np.ndarray:
        features = read_features(texts, identities, problem.work.store)
        return probabilities(best.state, _zscored(features, statistics), len(texts))

    fixed = {"training": training_of(best.setting).model_dump()} | _outcome(best.state)
    return Fitted(predict, best.setting, fixed, others, prepared + best.seconds)


def _identities(problem: Problem) -> list[EncoderIdentity]:
    return [identify(encoder, problem.work.device) for encoder in problem.encoders]


def _predict(problem: Problem, trained: TrainingResult, texts: Sequence[str]) -> np.ndarray:
    features = read_features(texts, _identities(problem), problem.work.store)
    return trained.decision.probabilities(predict_logits(trained.head, features, len(texts), problem.work.device))


def _outcome(trained: TrainingResult) -> dict[str, Any]:
    return {
        "parameters": count_parameters(trained.head),
        "best_epoch": trained.best_epoch,
        "epochs": len(trained.history),
        "temperature": trained.decision.temperature,
    }


def _statistics(features: Features) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every dimension of a pooled feature; a constant one is only centred."""
    assert isinstance(features, PooledFeatures)
    # Summed in float64: the raw states of a decoder would lose precision.
    mean, std = features.values.mean(0, dtype=np.float64), features.values.std(0, dtype=np.float64)
    return mean.astype(np.float32), np.where(std > 0, std, 1.0).astype(np.float32)


def _zscored(
    features: Mapping[str, Features], statistics: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, Features]:
    result: dict[str, Features] = {}
    for name, pooled in features.items():
        assert isinstance(pooled, PooledFeatures)
        mean, std = statistics[name]
        result[name] = PooledFeatures((pooled.values.astype(np.float32) - mean) / std)
    return result
