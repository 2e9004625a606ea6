"""Training: repeatable to the bit, stopped in time, restored to its best epoch."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from fusion_classifier.config import LinearConfig, LlmEmbedConfig, TrainingConfig
from fusion_classifier.errors import DataError, NonFiniteError
from fusion_classifier.features import Features, PooledFeatures, TokenFeatures
from fusion_classifier.progress import QUIET
from fusion_classifier.training import LabelledFeatures, Trained, predict_logits, train

CPU = torch.device("cpu")
CONFIG = TrainingConfig(learning_rate=3e-3, batch_size=16, max_epochs=8, patience=8, clip_norm=1.0)
HEADS: list[LinearConfig | LlmEmbedConfig] = [LinearConfig(), LlmEmbedConfig(width=12)]


def data(rows: int, seed: int, *, ragged: bool = False, noise: float = 1.0) -> LabelledFeatures:
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((3, 2, 6))
    labels = generator.integers(0, 3, rows)
    lengths = generator.integers(1, 5, rows) if ragged else np.ones(rows, dtype=np.int64)
    values = np.repeat(centres[labels], lengths, axis=0)
    values = (values + noise * generator.standard_normal(values.shape)).astype(np.float16)
    features: Features = PooledFeatures(values)
    if ragged:
        features = TokenFeatures(values, np.concatenate([[0], np.cumsum(lengths)]))
    single = PooledFeatures(generator.standard_normal((rows, 4)).astype(np.float16))
    return LabelledFeatures({"layered": features, "single": single}, labels)


def fit(head: LinearConfig | LlmEmbedConfig, seed: int = 0, config: TrainingConfig = CONFIG, **more: bool) -> Trained:
    return train(head, config, data(150, 0, **more), data(60, 1, **more), 3, seed, CPU, QUIET)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("ragged", [False, True])
def test_a_seed_gives_the_same_bits_whatever_happened_before(
    head: LinearConfig | LlmEmbedConfig, ragged: bool
) -> None:
    first = fit(head, ragged=ragged)
    torch.manual_seed(123)
    torch.randn(7)
    second = fit(head, ragged=ragged)
    for name, tensor in first.head.state_dict().items():
        assert torch.equal(tensor, second.head.state_dict()[name])
    timeless = [[(e.train_loss, e.valid_loss, e.valid_weighted_f1) for e in run.history] for run in (first, second)]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize("head", HEADS)
def test_another_seed_gives_another_head(head: LinearConfig | LlmEmbedConfig) -> None:
    a, b = fit(head, 0).head.state_dict(), fit(head, 1).head.state_dict()
    assert any(not torch.equal(a[name], b[name]) for name in a)


def test_training_leaves_the_callers_random_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit(HEADS[1])
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("head", HEADS)
def test_the_best_epoch_is_restored(head: LinearConfig | LlmEmbedConfig) -> None:
    trained = fit(head)
    assert trained.best.valid_weighted_f1 == max(epoch.valid_weighted_f1 for epoch in trained.history)
    valid = data(60, 1)
    predicted = predict_logits(trained.head, valid.features, 60, CPU).argmax(1).numpy()
    again = f1_score(valid.labels, predicted, average="weighted", zero_division=0)
    assert again == pytest.approx(trained.best.valid_weighted_f1)


@pytest.mark.parametrize("head", HEADS)
def test_it_learns(head: LinearConfig | LlmEmbedConfig) -> None:
    config = CONFIG.model_copy(update={"max_epochs": 40, "patience": 40})
    assert fit(head, config=config).best.valid_accuracy > 0.8


def test_it_stops_when_patience_is_at_its_end() -> None:
    trained = fit(HEADS[0], config=CONFIG.model_copy(update={"max_epochs": 200, "patience": 3}))
    assert len(trained.history) == trained.best_epoch + 3


def test_divergence_is_named_with_the_way_out() -> None:
    broken = data(150, 0)
    values = broken.features["single"].values
    values[3, 0] = np.inf
    with pytest.raises(NonFiniteError, match="--lr"):
        train(HEADS[1], CONFIG, broken, data(60, 1), 3, 0, CPU, QUIET)


def test_an_empty_split_is_named() -> None:
    with pytest.raises(DataError, match="validation"):
        train(HEADS[0], CONFIG, data(20, 0), data(0, 1), 3, 0, CPU, QUIET)
