"""Head `linear` is logistic regression on standardized features."""

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from fusion_classifier.config import LinearConfig, TrainingConfig
from fusion_classifier.features import FeatureShape, PooledFeatures, TokenFeatures
from fusion_classifier.fusion import LinearHead
from fusion_classifier.progress import QUIET
from fusion_classifier.training import LabelledFeatures, predict_logits, train

CPU = torch.device("cpu")


@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 20), st.floats(-1e4, 1e4))
@settings(max_examples=50, deadline=None)
def test_statistics_are_those_of_all_rows_whatever_the_batches(
    seed: int, rows: int, size: int, offset: float
) -> None:
    x = (np.random.default_rng(seed).standard_normal((rows, 3)) + offset).astype(np.float32)
    head = LinearHead({"a": FeatureShape((3,), ragged=False)}, 2)
    head.fit_statistics({"a": torch.from_numpy(x[i : i + size])} for i in range(0, rows, size))
    np.testing.assert_allclose(head.mean, x.astype(np.float64).mean(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(head.std, x.astype(np.float64).std(0), rtol=2e-2, atol=1e-4)


def test_a_constant_feature_stays_finite() -> None:
    head = LinearHead({"a": FeatureShape((2,), ragged=False)}, 2)
    x = torch.tensor([[24_704.0, 1.0], [24_704.0, 2.0], [24_704.0, 5.0]])
    head.fit_statistics([{"a": x}])
    assert torch.isfinite(head({"a": x * 1.5})).all()
    assert head.std[0] == 1


def test_it_comes_to_what_scikit_learns_logistic_regression_comes_to() -> None:
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
    logits = []
    for features in (TokenFeatures(values, offsets), PooledFeatures(means)):
        data = LabelledFeatures({"a": features}, labels)
        trained = train(LinearConfig(), config, data, data, 3, 0, CPU, QUIET)
        logits.append(predict_logits(trained.head, data.features, 40, CPU))
    torch.testing.assert_close(*logits, atol=1e-3, rtol=1e-3)
