"""Head `linear` is logistic regression on standardized features."""

import itertools

import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from fusion_classifier.config import LinearConfig, TrainingConfig
from fusion_classifier.features.arrays import FeatureShape, PooledFeatures, TokenFeatures
from fusion_classifier.fusion.linear import LinearHead
from fusion_classifier.support.progress import QUIET
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.loop import predict_logits
from fusion_classifier.training.train import train

CPU = torch.device("cpu")


@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 20), st.floats(-1e4, 1e4))
@settings(max_examples=50, deadline=None)
def test_statistics_are_those_of_all_rows_whatever_the_batches(
    seed: int, rows: int, size: int, offset: float
) -> None:
    x = (np.random.default_rng(seed).standard_normal((rows, 3)) + offset).astype(np.float32)
    head = LinearHead(LinearConfig(), {"a": FeatureShape((3,), ragged=False)}, 2)
    head.fit_statistics({"a": torch.from_numpy(x[i : i + size])} for i in range(0, rows, size))
    mean, std = x.astype(np.float64).mean(0), x.astype(np.float64).std(0)
    assume((std > 1e-5 * np.abs(mean)).all())  # else it may count as constant
    np.testing.assert_allclose(head.mean.numpy(), mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(head.std.numpy(), std, rtol=1e-6)


def test_a_constant_feature_stays_finite() -> None:
    head = LinearHead(LinearConfig(), {"a": FeatureShape((2,), ragged=False)}, 2)
    x = torch.tensor([[24_704.0, 1.0], [24_704.0, 2.0], [24_704.0, 5.0]])
    head.fit_statistics([{"a": x}])
    assert torch.isfinite(head({"a": x * 1.5})).all()
    assert head.std[0] == 1


def test_it_is_scikit_learns_logistic_regression() -> None:
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((4, 10))
    labels = generator.integers(0, 4, 1200)
    x = (centres[labels] + generator.standard_normal((1200, 10)) * 1.2).astype(np.float32) * 50 + 7
    train_data = LabelledFeatures({"a": PooledFeatures(x[:800])}, labels[:800])
    valid_data = LabelledFeatures({"a": PooledFeatures(x[800:])}, labels[800:])
    config = TrainingConfig(learning_rate=1e-2, batch_size=64, max_epochs=30, patience=30)
    trained = train(LinearConfig(), config, train_data, valid_data, 4, 0, CPU, QUIET)
    ours = predict_logits(trained.head, valid_data.features, 400, CPU).argmax(1).numpy()
    scaler = StandardScaler().fit(x[:800])
    theirs = LogisticRegression(C=1e3).fit(scaler.transform(x[:800]), labels[:800])
    agreement = (ours == theirs.predict(scaler.transform(x[800:]))).mean()
    assert agreement > 0.95


def test_token_states_count_by_their_mean() -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 9, 40)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = generator.standard_normal((offsets[-1], 2, 5)).astype(np.float32)
    means = np.stack([values[a:b].mean(0) for a, b in itertools.pairwise(offsets)])
    labels = generator.integers(0, 3, 40)
    config = TrainingConfig(learning_rate=1e-2, batch_size=8, max_epochs=3, patience=3)
    tokens = LabelledFeatures({"a": TokenFeatures(values, offsets)}, labels)
    trained = train(LinearConfig(), config, tokens, tokens, 3, 0, CPU, QUIET)
    logits = [predict_logits(trained.head, {"a": x}, 40, CPU) for x in (tokens.features["a"], PooledFeatures(means))]
    torch.testing.assert_close(*logits, atol=1e-3, rtol=1e-3)


def test_a_large_offset_costs_no_digits() -> None:
    """Some of Llama's states are about 25,000 in every text; what tells texts apart is what is left of them."""
    x = (np.random.default_rng(0).standard_normal((3000, 4)) * [1, 5, 50, 0.5] + 24_704).astype(np.float32)
    head = LinearHead(LinearConfig(), {"a": FeatureShape((4,), ragged=False)}, 2)
    head.fit_statistics({"a": torch.from_numpy(x[i : i + 7])} for i in range(0, 3000, 7))
    np.testing.assert_allclose(head.std.numpy(), x.astype(np.float64).std(0), rtol=1e-6)
    np.testing.assert_allclose(head.mean.numpy(), x.astype(np.float64).mean(0), rtol=1e-7)


def test_encoders_stand_side_by_side_in_their_order() -> None:
    shapes = {"b": FeatureShape((2, 3), ragged=False), "a": FeatureShape((4,), ragged=False)}
    head = LinearHead(LinearConfig(), shapes, 2)
    generator = torch.Generator().manual_seed(0)
    batch = {name: torch.randn(6, *shape.shape, generator=generator) for name, shape in shapes.items()}
    head.fit_statistics([{name: batch[name] for name in ("a", "b")}])
    with torch.no_grad():
        head.linear.weight.normal_(generator=generator)
        found = head(batch).numpy()
    x = np.concatenate([batch["b"].flatten(1).numpy(), batch["a"].numpy()], axis=1)
    expected = (x - x.mean(0)) / x.std(0) @ head.linear.weight.detach().numpy().T
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_can_be_told_apart_is_told_apart_without_an_error() -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 5, 400)
    x = (np.eye(5)[labels] * 20 + generator.standard_normal((400, 5))).astype(np.float32)
    train_data = LabelledFeatures({"a": PooledFeatures(x[:300])}, labels[:300])
    valid_data = LabelledFeatures({"a": PooledFeatures(x[300:])}, labels[300:])
    config = TrainingConfig(learning_rate=1e-2, batch_size=64, max_epochs=40, patience=40)
    trained = train(LinearConfig(), config, train_data, valid_data, 5, 0, CPU, QUIET)
    assert trained.best.valid_accuracy == 1
    assert trained.best.valid_weighted_f1 == 1


def test_its_probabilities_are_close_to_scikit_learns() -> None:
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 3, 900)
    centres = generator.standard_normal((3, 4))
    x = (centres[labels] + 1.5 * generator.standard_normal((900, 4))).astype(np.float32) * [1, 10, 100, 0.1]
    data = LabelledFeatures({"a": PooledFeatures(x.astype(np.float32))}, labels)
    config = TrainingConfig(learning_rate=5e-2, batch_size=900, max_epochs=600, patience=600)
    trained = train(LinearConfig(), config, data, data, 3, 0, CPU, QUIET)
    scaled = StandardScaler().fit_transform(x)
    exact = LogisticRegression(C=1e6).fit(scaled, labels)
    loss = -np.log(exact.predict_proba(scaled)[np.arange(900), labels]).mean()
    assert trained.history[-1].valid_loss - loss < 1e-3  # a convex problem has one least loss
    assert trained.history[-1].valid_loss - loss > -1e-4
