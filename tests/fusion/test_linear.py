"""Head `linear` is logistic regression on pooled features, its penalty chosen by cross-validation."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler, normalize

from fusion_classifier.config import LinearConfig
from fusion_classifier.features.arrays import FeatureShape, PooledFeatures, TokenFeatures
from fusion_classifier.fusion import linear
from fusion_classifier.fusion.folds import FOLDS, fold_numbers
from fusion_classifier.fusion.linear import CS, LinearHead
from fusion_classifier.fusion.logistic import Solution, solve
from fusion_classifier.training.inference import predict_logits

CPU = torch.device("cpu")
WIDTH = 10
CENTRES = np.random.default_rng(99).standard_normal((4, WIDTH))
STANDARDIZED = LinearConfig(scaling="standardize")


def rows(count: int, seed: int, noise: float = 1.2) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, D) around the centres of four labels, and the labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, count)
    return (CENTRES[labels] + noise * generator.standard_normal((count, WIDTH))).astype(np.float32), labels


def new(config: LinearConfig, width: int = WIDTH, labels: int = 4) -> LinearHead:
    return LinearHead(config, {"a": FeatureShape((width,), ragged=False)}, labels)


def transformed(head: LinearHead, x: np.ndarray) -> np.ndarray:
    return head.transform({"a": torch.from_numpy(x)}).numpy()


def fitted(
    config: LinearConfig,
    x: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    n_classes: int = 4,
    names: int = 0,
    seed: int = 0,
) -> LinearHead:
    head = new(config, x.shape[1], n_classes)
    head.solve(transformed(head, x), labels, weights, seed, names)
    return head


@torch.inference_mode()
def logits_of(head: LinearHead, x: np.ndarray) -> torch.Tensor:
    return head.forward({"a": torch.from_numpy(x)})


def theirs(c: float) -> LogisticRegression:
    return LogisticRegression(C=c, max_iter=3000, tol=1e-7)


@pytest.mark.parametrize("c", [0.1, 1.0, 100.0])
@pytest.mark.parametrize("config", [LinearConfig(), STANDARDIZED])
def test_with_the_same_c_it_is_scikit_learns(config: LinearConfig, c: float) -> None:
    (x, labels), (more, _) = rows(400, 0), rows(400, 1)
    head = fitted(config.model_copy(update={"c": c}), x * 50 + 7, labels)
    scaler = StandardScaler().fit(x)
    features, held = (
        (normalize(one * 50 + 7) if config.scaling == "unit" else scaler.transform(one)) for one in (x, more)
    )
    expected = theirs(c).fit(features, labels).predict_proba(held)
    np.testing.assert_allclose(logits_of(head, more * 50 + 7).softmax(1).numpy(), expected, atol=1e-2)
    assert head.c == c


@pytest.mark.parametrize("config", [LinearConfig(c=3.0), LinearConfig(c=3.0, scaling="standardize")])
def test_fewer_rows_than_features_give_the_same_solution(
    config: LinearConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Solved in coordinates of the rows' span, which also holds if rows are equal."""
    x = np.random.default_rng(0).standard_normal((30, 50)).astype(np.float32)
    x[7], labels = x[3], np.arange(30) % 4
    sizes: list[int] = []

    def recorded(x: torch.Tensor, *arguments: Any) -> Solution:
        sizes.append(x.shape[1])
        return solve(x, *arguments)

    monkeypatch.setattr(linear, "solve", recorded)
    head = new(config, width=50)
    head.solve(x, labels, None, seed=0)
    assert set(sizes) == {30}
    standardized = StandardScaler().fit_transform(x).astype(np.float32) if config.scaling == "standardize" else x
    expected = solve(torch.from_numpy(standardized), torch.from_numpy(labels), 4, 3.0)
    torch.testing.assert_close(head.linear.weight, expected.weight, rtol=0, atol=5e-3)
    torch.testing.assert_close(head.linear.bias, expected.bias, rtol=0, atol=5e-3)


def test_with_c_chosen_it_is_as_accurate_as_scikit_learns() -> None:
    (x, labels), (more, truth) = rows(1000, 0), rows(4000, 1)
    head = fitted(LinearConfig(), x, labels)
    ours = (logits_of(head, more).argmax(1).numpy() == truth).mean()
    best = max(theirs(c).fit(normalize(x), labels).score(normalize(more), truth) for c in CS)
    assert ours > best - 0.003


def test_several_labels_are_a_regression_each() -> None:
    x, labels = rows(300, 0)
    several = np.stack([labels == 0, labels < 2, labels != 3], axis=1).astype(np.int64)
    head = fitted(LinearConfig(c=3.0), x, several, n_classes=3)
    expected = OneVsRestClassifier(theirs(3.0)).fit(normalize(x), several).predict_proba(normalize(x))
    np.testing.assert_allclose(logits_of(head, x).sigmoid().numpy(), expected, atol=1e-2)


@pytest.mark.parametrize("several", [False, True])
def test_the_chosen_c_has_the_best_out_of_fold_likelihood(several: bool) -> None:
    """Computed again with scikit-learn, fold by fold, the scale by a grid."""
    x, labels = rows(200, 0, noise=2.5)
    targets = np.stack([labels == 0, labels < 2, labels != 3], axis=1).astype(np.int64) if several else labels
    head = new(LinearConfig(), WIDTH, 3 if several else 4)
    z = transformed(head, x)
    judged = head.solve(z, targets, None, 3).logits.numpy()
    folds = fold_numbers(z, targets, 3)
    found = {}
    for c in CS:
        p, as_float64 = np.zeros(judged.shape), z.astype(np.float64)
        for fold in range(FOLDS):
            of_fold = (OneVsRestClassifier(theirs(c)) if several else theirs(c)).fit(
                as_float64[folds != fold], targets[folds != fold]
            )
            p[folds == fold] = of_fold.predict_proba(as_float64[folds == fold])
        logits = np.log(p) - np.log1p(-p) if several else np.log(p)
        doubt = 1 / (len(x) + 2)  # of the true label
        grid = []
        for scale in np.geomspace(0.1, 10, 100):
            log_p = -np.logaddexp(0, -scale * logits) if several else log_softmax(scale * logits, axis=1)
            log_not_p = -np.logaddexp(0, scale * logits)
            if several:
                truth = targets * (1 - 2 * doubt) + doubt
                grid.append(-(truth * log_p + (1 - truth) * log_not_p).mean())
            else:
                truth = np.where(np.eye(4)[targets] == 1, 1 - doubt, doubt / 3)
                grid.append(-(truth * log_p).sum(1).mean())
        found[c] = min(grid)
        if c == head.c:
            ours = torch.from_numpy(judged)
            np.testing.assert_allclose((ours.sigmoid() if several else ours.softmax(1)).numpy(), p, atol=2e-2)
    assert head.c == min(found, key=lambda c: found[c])
    assert CS[0] <= head.c < CS[-1]


@pytest.mark.parametrize("config", [LinearConfig(), LinearConfig(c=1.0)])
@pytest.mark.parametrize("several", [False, True])
def test_a_weight_is_a_repeated_row(config: LinearConfig, several: bool) -> None:
    x, labels = rows(150, 0)
    targets = np.eye(4, dtype=np.int64)[labels] if several else labels
    times = 1 + np.arange(150) % 3
    weighted = fitted(config, x, targets, times.astype(np.float32))
    repeated = fitted(config, x.repeat(times, 0), targets.repeat(times, 0))
    assert weighted.c == repeated.c
    torch.testing.assert_close(logits_of(weighted, x), logits_of(repeated, x), atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("config", [LinearConfig(), STANDARDIZED])
def test_the_order_of_rows_does_not_matter(config: LinearConfig) -> None:
    x, labels = rows(150, 0)
    order = np.random.default_rng(5).permutation(150)
    one, other = fitted(config, x, labels), fitted(config, x[order], labels[order])
    assert one.c == other.c
    torch.testing.assert_close(logits_of(one, x), logits_of(other, x), atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("several", [False, True])
def test_a_rare_label_breaks_nothing(count: int, several: bool) -> None:
    x, labels = rows(100, 0)
    x, labels = np.concatenate([x, 30 * np.eye(WIDTH, dtype=np.float32)[:count]]), np.append(labels, [4] * count)
    targets = np.eye(5, dtype=np.int64)[labels] if several else labels
    head = new(LinearConfig(), WIDTH, 5)
    judged = head.solve(transformed(head, x), targets, None, 0).logits.numpy()
    assert judged.shape == (100 + count, 5)
    assert np.isfinite(judged).all()
    logits = logits_of(head, x)
    assert torch.isfinite(logits).all()
    assert (logits[:100].argmax(1).numpy() == labels[:100]).mean() > 0.75


def test_a_row_does_not_judge_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """With other labels in one fold, what the others have learned for that fold stays the same bits."""
    x, labels = rows(100, 0)
    folds = fold_numbers(x, labels, 0)
    monkeypatch.setattr(linear, "fold_numbers", lambda *_: folds)
    changed = np.where(folds == 2, (labels + 1) % 4, labels)
    before, after = (new(LinearConfig(c=1.0)).solve(x, y, None, 0).logits.numpy() for y in (labels, changed))
    np.testing.assert_array_equal(after[folds == 2], before[folds == 2])
    assert (after[folds != 2] != before[folds != 2]).any(1).all()


def test_names_are_never_judged() -> None:
    """Names that contradict their labels are left out; those at their labels' centres are trained on."""
    x, labels = rows(24, 3, noise=0.8)
    for shift in (0, 1):
        named = np.concatenate([x, np.roll(CENTRES, shift, axis=0).astype(np.float32)])
        head = new(LinearConfig())
        judged = head.solve(transformed(head, named), np.append(labels, np.arange(4)), None, 0, 4)
        assert judged.rows.tolist() == list(range(24))
        assert judged.logits.shape == (24, 4)
        assert judged.logits.any(1).all()
        assert head.with_names == (shift == 0)
    without = fitted(LinearConfig(), x, labels)
    torch.testing.assert_close(logits_of(head, x), logits_of(without, x), atol=1e-4, rtol=1e-4)


def test_many_rows_are_judged_by_a_sample_and_all_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names stand beside the sample, and are names still."""
    monkeypatch.setattr(linear, "MAX_CROSS_VALIDATED", 40)
    seen = []

    def looked_at(x: np.ndarray, targets: np.ndarray, seed: int, names: int, groups: None) -> np.ndarray:
        seen.append((len(x), names, targets[-4:].tolist()))
        return fold_numbers(x, targets, seed, names, groups)

    monkeypatch.setattr(linear, "fold_numbers", looked_at)
    for count in (40, 60):
        x, labels = rows(count, 0)
        named, of_named = np.concatenate([x, CENTRES.astype(np.float32)]), np.append(labels, np.arange(4))
        head = new(LinearConfig(c=1.0))
        judged = head.solve(named, of_named, None, 0, 4)
        assert len(set(judged.rows.tolist())) == len(judged.logits) == 40
        assert (judged.logits.argmax(1).numpy() == labels[judged.rows]).mean() > 0.7
        assert seen[-1] == (44, 4, [0, 1, 2, 3])
        kept = len(named) if head.with_names else count
        expected = theirs(1.0).fit(named[:kept].astype(np.float64), of_named[:kept])
        np.testing.assert_allclose(head.linear.weight.detach().numpy(), expected.coef_, atol=1e-2)


@given(st.integers(0, 2**32 - 1), st.integers(5, 60), st.floats(-1e4, 1e4))
@settings(max_examples=25, deadline=None)
def test_statistics_are_those_of_all_rows(seed: int, count: int, offset: float) -> None:
    x = (np.random.default_rng(seed).standard_normal((count, 3)) + offset).astype(np.float32)
    head = fitted(LinearConfig(scaling="standardize", c=1.0), x, np.arange(count) % 2, n_classes=2)
    mean, std = x.astype(np.float64).mean(0), x.astype(np.float64).std(0)
    assume((std > 1e-5 * np.abs(mean)).all())  # else it may count as constant
    np.testing.assert_allclose(head.mean.numpy(), mean, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(head.std.numpy(), std, rtol=1e-6)


def test_a_constant_feature_is_only_centred() -> None:
    x = np.array([[24_704.0, 1.0], [24_704.0, 2.0], [24_704.0, 5.0]], dtype=np.float32)
    head = fitted(STANDARDIZED, x, np.array([0, 1, 1]), n_classes=2)
    assert head.std[0] == 1
    assert torch.isfinite(logits_of(head, x * 1.5)).all()


def test_a_large_offset_costs_no_digits() -> None:
    """Some of Llama's states are about 25,000 in every text; what tells texts apart is what is left of them."""
    x = (np.random.default_rng(0).standard_normal((1000, 4)) * [1, 5, 50, 0.5] + 24_704).astype(np.float32)
    head = fitted(LinearConfig(scaling="standardize", c=1.0), x, np.arange(1000) % 2, n_classes=2)
    np.testing.assert_allclose(head.std.numpy(), x.astype(np.float64).std(0), rtol=1e-6)
    np.testing.assert_allclose(head.mean.numpy(), x.astype(np.float64).mean(0), rtol=1e-7)


def test_what_can_be_told_apart_is_told_apart_without_an_error() -> None:
    labels = np.arange(300) % 4
    x = (np.eye(4)[labels] * 20 + np.random.default_rng(1).standard_normal((300, 4))).astype(np.float32)
    head = new(LinearConfig(), 4)
    judged = head.solve(transformed(head, x), labels, None, 0).logits.numpy()
    assert (judged.argmax(1) == labels).all()
    assert (logits_of(head, x).argmax(1).numpy() == labels).all()


def test_token_states_count_by_their_mean() -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 9, 40)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = generator.standard_normal((offsets[-1], 2, 5)).astype(np.float32)
    means = np.stack([values[a:b].mean(0) for a, b in itertools.pairwise(offsets)])
    head = LinearHead(LinearConfig(), {"a": FeatureShape((2, 5), ragged=True)}, 3)
    pooled = normalize(means.reshape(80, 5)).reshape(40, 10)
    head.solve(pooled.astype(np.float32), generator.integers(0, 3, 40), None, 0)
    logits = [
        predict_logits(head, {"a": one}, 40, CPU) for one in (TokenFeatures(values, offsets), PooledFeatures(means))
    ]
    torch.testing.assert_close(*logits, atol=1e-4, rtol=1e-4)


def test_encoders_stand_side_by_side_in_their_order() -> None:
    shapes = {"b": FeatureShape((2, 3), ragged=False), "a": FeatureShape((4,), ragged=False)}
    generator = torch.Generator().manual_seed(0)
    batch = {name: torch.randn(6, *shapes[name].shape, generator=generator) for name in ("a", "b")}
    b, a = batch["b"].numpy(), batch["a"].numpy()
    unit = np.concatenate([normalize(b[:, 0]), normalize(b[:, 1]), normalize(a)], axis=1)
    for config, expected in (
        (LinearConfig(), unit),
        (LinearConfig(linear_layers="last"), unit[:, 3:]),
        (STANDARDIZED, np.concatenate([b.reshape(6, 6), a], axis=1)),
    ):
        found = LinearHead(config, shapes, 2).transform(batch).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-6)
