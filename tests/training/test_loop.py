"""Training: repeatable to the bit, stopped in time, restored to its best epoch."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from fusion_classifier.config import (
    EnsembleConfig,
    FusionConfig,
    HeadConfig,
    LinearConfig,
    LlmEmbedConfig,
    TrainingConfig,
)
from fusion_classifier.encoders import device as device_module
from fusion_classifier.errors import DataError, NonFiniteError
from fusion_classifier.features.arrays import Features, PooledFeatures, TokenFeatures
from fusion_classifier.fusion.fusion import FusionHead
from fusion_classifier.fusion.head import Batch
from fusion_classifier.support.progress import QUIET
from fusion_classifier.training import loop
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.inference import predict_logits
from fusion_classifier.training.loop import KeptEpoch
from fusion_classifier.training.result import Epoch, TrainingResult
from fusion_classifier.training.scores import scores
from fusion_classifier.training.train import train

CPU = torch.device("cpu")
CONFIG = TrainingConfig(learning_rate=3e-3, batch_size=16, max_epochs=8, patience=8, clip_norm=1.0)
FUSION, LLMEMBED, LINEAR = FusionConfig(width=16), LlmEmbedConfig(width=12), LinearConfig()
STEPPED: list[HeadConfig] = [FUSION, LLMEMBED]  # trained by gradient steps
POOLED: list[HeadConfig] = [LINEAR, LLMEMBED]
EVERY_HEAD: list[HeadConfig] = [*STEPPED, LINEAR, EnsembleConfig(attention=FUSION, repeats=1)]


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


def fit(head: HeadConfig, seed: int = 0, config: TrainingConfig = CONFIG, **more: bool) -> TrainingResult:
    return train(head, config, data(150, 0, **more), data(60, 1, **more), 3, seed, CPU, QUIET)


@pytest.mark.parametrize("head", EVERY_HEAD)
@pytest.mark.parametrize("ragged", [False, True])
def test_a_seed_gives_the_same_bits_whatever_happened_before(head: HeadConfig, ragged: bool) -> None:
    first = fit(head, ragged=ragged)
    torch.manual_seed(123)
    torch.randn(7)
    second = fit(head, ragged=ragged)
    for name, tensor in first.head.state_dict().items():
        assert torch.equal(tensor, second.head.state_dict()[name])
    timeless = [[(e.train_loss, e.valid_loss, e.valid_weighted_f1) for e in run.history] for run in (first, second)]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize("head", [*STEPPED, EVERY_HEAD[-1]])
def test_another_seed_gives_another_head(head: HeadConfig) -> None:
    a, b = fit(head, 0).head.state_dict(), fit(head, 1).head.state_dict()
    assert any(not torch.equal(a[name], b[name]) for name in a)


def test_training_leaves_the_callers_random_state_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fit(LLMEMBED)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_best_epoch_is_restored() -> None:
    trained = fit(LLMEMBED)
    assert trained.best.valid_weighted_f1 == max(epoch.valid_weighted_f1 for epoch in trained.history)
    valid = data(60, 1)
    predicted = predict_logits(trained.head, valid.features, 60, CPU).argmax(1).numpy()
    again = f1_score(valid.labels, predicted, average="weighted", zero_division=0)
    assert again == pytest.approx(trained.best.valid_weighted_f1)


@pytest.mark.parametrize("head", EVERY_HEAD)
def test_it_learns(head: HeadConfig) -> None:
    config = CONFIG.model_copy(update={"max_epochs": 20, "patience": 20})
    assert fit(head, config=config).best.valid_accuracy > 0.8


@pytest.mark.parametrize(
    ("precision", "native", "half"),
    [("auto", True, True), ("auto", False, False), ("bfloat16", False, True), ("float32", True, False)],
)
def test_auto_fits_the_processor(precision: str, native: bool, half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "_has_bfloat16", lambda _: native)
    used, objectives = list[bool](), FusionHead.objectives

    def recorded(head: FusionHead, batch: Batch) -> list[tuple[float, torch.Tensor]]:
        used.append(torch.is_autocast_enabled("cpu"))
        return objectives(head, batch)

    monkeypatch.setattr(FusionHead, "objectives", recorded)
    fit(FUSION, config=CONFIG.model_copy(update={"precision": precision, "max_epochs": 1}))
    assert set(used) == {half}


def test_it_stops_when_patience_is_at_its_end() -> None:
    trained = fit(FUSION, config=CONFIG.model_copy(update={"max_epochs": 200, "patience": 3}))
    assert len(trained.history) == trained.best_epoch + 3


def the_originals_rule(losses: list[float], f1: list[float], patience: int) -> tuple[int, int]:
    """Epoch whose test score counts, and number of epochs, of the published main.py: from 1."""
    best_loss, best_score, count, kept = 1e5, -1.0, 0, 0
    for epoch, (loss, score) in enumerate(zip(losses, f1, strict=True)):
        if count >= patience:
            return kept, epoch
        count += 1
        if loss < best_loss:
            count, best_loss, kept = 0, loss, epoch + 1
        if score > best_score:
            count, best_score, kept = 0, score, epoch + 1
    return kept, len(losses)


@pytest.mark.parametrize("seed", range(20))
def test_published_training_stops_as_the_original(seed: int) -> None:
    """Loss and F1 each have a best of their own; the last epoch with either is kept, not the one with the best F1."""
    generator = np.random.default_rng(seed)
    losses = list(3 - 0.02 * np.arange(40) + 0.3 * generator.random(40))
    f1 = list((0.1 * generator.random(40)).round(2))  # ties are no progress
    config = recipe("published", "llmembed", patience=3)
    best = KeptEpoch(config)
    epochs = 0
    for number, (loss, score) in enumerate(zip(losses, f1, strict=True), start=1):
        best.takes(Epoch(number, 1.0, loss, 0.0, score, 1.0))
        epochs = number
        if number - best.epoch >= config.patience:
            break
    assert (best.epoch, epochs) == the_originals_rule(losses, f1, 3)


def test_a_falling_loss_is_progress_as_published() -> None:
    """As at the start of a slow training: F1 stands still while the loss falls."""
    settings = {"learning_rate": 1e-6, "max_epochs": 12, "patience": 2}
    kept = {}
    for stopping in ("score", "loss_or_score"):
        config = CONFIG.model_copy(update=settings | {"stopping": stopping})
        kept[stopping] = fit(LLMEMBED, config=config)
    assert len(kept["score"].history) < 12
    assert len(kept["loss_or_score"].history) == 12
    losses = [epoch.valid_loss for epoch in kept["loss_or_score"].history]
    assert losses[0] > losses[-1]


def test_patience_ends_no_training_before_min_steps() -> None:
    config = CONFIG.model_copy(update={"max_epochs": 200, "patience": 1, "min_steps": 150})
    assert len(fit(FUSION, config=config).history) >= 15  # ten steps an epoch


def test_divergence_is_named_with_the_way_out() -> None:
    broken = data(150, 0)
    values_of(broken, "single")[3, 0] = np.inf
    with pytest.raises(NonFiniteError, match="`learning_rate`"):
        train(LLMEMBED, CONFIG, broken, data(60, 1), 3, 0, CPU, QUIET)


def test_an_empty_split_is_named() -> None:
    with pytest.raises(DataError, match="validation"):
        train(FUSION, CONFIG, data(20, 0), data(0, 1), 3, 0, CPU, QUIET)


@pytest.mark.parametrize("head", EVERY_HEAD)
def test_nan_in_a_feature_is_named(head: HeadConfig) -> None:
    broken = data(150, 0)
    values_of(broken, "single")[3, 0] = np.nan
    with pytest.raises(NonFiniteError, match=r"diverged|in the features"):
        train(head, CONFIG, broken, data(60, 1), 3, 0, CPU, QUIET)


@pytest.mark.parametrize("head", EVERY_HEAD)
def test_nan_in_a_feature_to_validate_on_is_named(head: HeadConfig) -> None:
    broken = data(60, 1)
    values_of(broken, "single")[3, 0] = np.nan
    with pytest.raises(NonFiniteError):
        train(head, CONFIG, data(150, 0), broken, 3, 0, CPU, QUIET)


@pytest.mark.parametrize("head", STEPPED)
@pytest.mark.parametrize("epochs", [1, 8])
def test_divergence_is_named_in_the_last_epoch_too(head: HeadConfig, epochs: int) -> None:
    """One step an epoch: its loss is still finite where the step itself breaks the head."""
    config = TrainingConfig(learning_rate=3e38, batch_size=1000, max_epochs=epochs, patience=8)
    with pytest.raises(NonFiniteError, match="`learning_rate`"):
        fit(head, config=config)


def test_no_data_to_train_on_is_named() -> None:
    with pytest.raises(DataError, match="training"):
        train(FUSION, CONFIG, data(0, 0), data(20, 1), 3, 0, CPU, QUIET)


@pytest.mark.parametrize("head", POOLED)
def test_logits_do_not_depend_on_the_padding_of_the_batch(head: HeadConfig) -> None:
    trained = fit(head, ragged=True)
    few = data(20, 2, ragged=True)
    tokens = few.features["layered"]
    assert isinstance(tokens, TokenFeatures)
    long = np.full((50, *tokens.values.shape[1:]), 3, dtype=np.float16)
    longer = TokenFeatures(np.concatenate([tokens.values, long]), np.append(tokens.offsets, tokens.offsets[-1] + 50))
    singles = values_of(few, "single")
    more: dict[str, Features] = {"layered": longer, "single": PooledFeatures(np.concatenate([singles, singles[:1]]))}
    together = predict_logits(trained.head, few.features, 20, CPU)
    torch.testing.assert_close(predict_logits(trained.head, more, 21, CPU)[:20], together, atol=1e-5, rtol=1e-5)
    for row in range(20):
        alone = {name: features.take(np.array([row])) for name, features in few.features.items()}
        torch.testing.assert_close(
            predict_logits(trained.head, alone, 1, CPU)[0], together[row], atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("head", POOLED)
def test_training_on_tokens_is_training_on_their_means(head: HeadConfig) -> None:
    """These heads take token states by their mean: trained on tokens they answer alike on the texts' means."""
    ragged = data(150, 0, ragged=True)
    tokens = ragged.features["layered"]
    assert isinstance(tokens, TokenFeatures)
    bounds = itertools.pairwise(tokens.offsets)
    means = np.stack([tokens.values[a:b].astype(np.float32).mean(0) for a, b in bounds])
    pooled = LabelledFeatures({"layered": PooledFeatures(means), "single": ragged.features["single"]}, ragged.labels)
    config = CONFIG.model_copy(update={"max_epochs": 2})
    trained = train(head, config, ragged, ragged, 3, 0, CPU, QUIET).head
    on_tokens, on_means = (predict_logits(trained, d.features, 150, CPU) for d in (ragged, pooled))
    torch.testing.assert_close(on_tokens, on_means, atol=1e-3, rtol=1e-3)


def test_the_caller_s_random_state_is_put_back_after_an_error() -> None:
    broken = data(150, 0)
    values_of(broken, "single")[3, 0] = np.nan
    before = torch.get_rng_state()
    with pytest.raises(NonFiniteError):
        train(LLMEMBED, CONFIG, broken, data(60, 1), 3, 0, CPU, QUIET)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.are_deterministic_algorithms_enabled()


def test_epochs_are_counted_from_one_and_the_best_is_kept() -> None:
    trained = fit(FUSION, config=CONFIG.model_copy(update={"max_epochs": 30, "patience": 30}))
    assert [epoch.epoch for epoch in trained.history] == list(range(1, 31))
    scores = [(epoch.valid_weighted_f1, -epoch.valid_loss) for epoch in trained.history]
    assert trained.best_epoch == 1 + scores.index(max(scores))
    assert all(epoch.seconds > 0 for epoch in trained.history)


@pytest.mark.parametrize("head", STEPPED)
def test_later_epochs_leave_no_trace_in_the_best(head: HeadConfig) -> None:
    """To the bit, as both have one seed; later epochs have left no trace."""
    config = CONFIG.model_copy(update={"learning_rate": 0.03, "max_epochs": 30, "patience": 30})
    train_data, valid_data = data(60, 0, noise=3.0), data(60, 1, noise=3.0)
    trained = train(head, config, train_data, valid_data, 3, 0, CPU, QUIET)
    assert trained.best_epoch < 30  # else nothing is restored
    shorter = config.model_copy(update={"max_epochs": trained.best_epoch})
    ended = train(head, shorter, train_data, valid_data, 3, 0, CPU, QUIET)
    assert ended.best_epoch == trained.best_epoch
    for name, tensor in trained.head.state_dict().items():
        assert torch.equal(tensor, ended.head.state_dict()[name])
    assert not trained.head.training


@pytest.mark.parametrize("head", STEPPED)
def test_where_f1_ties_the_lower_loss_is_kept(head: HeadConfig) -> None:
    """On few, easy texts F1 is 1 from the first epochs on, long before the probabilities are worth anything."""
    easy = [data(rows, seed, noise=0.05) for rows, seed in ((60, 0), (30, 1))]
    config = CONFIG.model_copy(update={"max_epochs": 30, "patience": 5})
    trained = train(head, config, easy[0], easy[1], 3, 0, CPU, QUIET)
    tied = [epoch for epoch in trained.history if epoch.valid_weighted_f1 == trained.best.valid_weighted_f1]
    assert len(tied) > 1
    assert trained.best.valid_loss == min(epoch.valid_loss for epoch in tied)


def test_an_encoder_that_knows_nothing_gets_little_weight() -> None:
    trained = fit(FUSION, config=CONFIG.model_copy(update={"max_epochs": 20, "patience": 20}))
    weights = trained.head.state_dict()["mixture"]  # "layered" tells the labels apart, "single" is noise
    assert float(weights.sum()) == pytest.approx(1, rel=1e-5)
    assert weights[0] > 0.8
    valid = data(60, 1)
    with torch.inference_mode():
        parts = trained.head.parts({name: torch.from_numpy(values_of(valid, name)) for name in valid.features})
    mixed = (weights[:, None, None] * parts).sum(0)
    torch.testing.assert_close(predict_logits(trained.head, valid.features, 60, CPU), mixed)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_scores_are_scikit_learns(seed: int, *, multilabel: bool, weighted: bool) -> None:
    generator = np.random.default_rng(seed)
    rows, classes = int(generator.integers(1, 30)), int(generator.integers(2, 9))
    labels, answers = (
        (generator.random((rows, classes)) < 0.3).astype(np.int64)
        if multilabel
        else generator.integers(0, classes, rows)
        for _ in range(2)
    )
    weights = generator.random(rows).astype(np.float32) + 0.1 if weighted else None
    accuracy, f1, macro_f1 = scores(labels, answers, weights)
    assert accuracy == pytest.approx(accuracy_score(labels, answers, sample_weight=weights), rel=1e-6)
    expected = f1_score(labels, answers, average="weighted", zero_division=0, sample_weight=weights)
    assert f1 == pytest.approx(expected, rel=1e-6)
    macro = f1_score(labels, answers, average="macro", zero_division=np.nan, sample_weight=weights)
    assert macro_f1 == pytest.approx(0.0 if np.isnan(macro) else macro, rel=1e-6)
    if not weighted:
        assert (accuracy, f1) == (accuracy_score(labels, answers), expected)  # to the bit: epochs tie as they did


@pytest.mark.parametrize("head", EVERY_HEAD)
def test_a_row_of_weight_zero_leaves_no_trace(head: HeadConfig) -> None:
    """Noise of weight zero among the validation rows; among the training rows it would still move the statistics."""
    clean, train_data = data(60, 1), data(150, 0)
    noise = data(20, 2, noise=50.0)
    mixed = LabelledFeatures(
        {n: PooledFeatures(np.concatenate([values_of(clean, n), values_of(noise, n)])) for n in clean.features},
        np.concatenate([clean.labels, noise.labels]),
        np.repeat(np.array([80 / 60, 0.0], dtype=np.float32), [60, 20]),
    )
    plain, weighted = (train(head, CONFIG, train_data, valid, 3, 0, CPU, QUIET) for valid in (clean, mixed))
    assert plain.best_epoch == weighted.best_epoch
    assert plain.best.valid_loss == pytest.approx(weighted.best.valid_loss, rel=1e-4)
    assert plain.best.valid_weighted_f1 == pytest.approx(weighted.best.valid_weighted_f1, rel=1e-6)


def test_a_heavy_row_is_learned_first() -> None:
    """Two rows that contradict each other: the answer is the heavier one's."""
    rows = data(64, 0)
    for heavy in (0, 1):
        labels = np.arange(64) % 2
        weights = np.where(labels == heavy, 1.9, 0.1).astype(np.float32)
        same = {name: PooledFeatures(np.repeat(values_of(rows, name)[:1], 64, axis=0)) for name in rows.features}
        contradictory = LabelledFeatures(same, labels, weights)
        trained = train(LINEAR, CONFIG, contradictory, contradictory, 2, 0, CPU, QUIET)
        logits = predict_logits(trained.head, same, 64, CPU)
        assert (trained.decision.labels(trained.decision.probabilities(logits)) == heavy).all()
        share = trained.decision.probabilities(logits)[0, heavy]
        assert share == pytest.approx(0.95, abs=0.05)


def values_of(data: LabelledFeatures, name: str) -> np.ndarray:
    features = data.features[name]
    assert isinstance(features, PooledFeatures)
    return features.values


@pytest.mark.parametrize("head", [*STEPPED, LINEAR])
def test_an_untrained_multi_label_head_gives_the_shares(head: HeadConfig) -> None:
    """Without a temperature: stopped after a step, probabilities are those of a guess, not 1/2."""
    shares = np.array([0.05, 0.4, 0.9])

    def several(rows: int, seed: int) -> LabelledFeatures:
        labels = np.random.default_rng(seed).random((rows, 3)) < shares
        return LabelledFeatures(data(rows, seed).features, labels.astype(np.int64))

    once = TrainingConfig(learning_rate=1e-4, batch_size=400, max_epochs=1, patience=1, calibrate=False)
    valid = several(100, 1)
    trained = train(head, once, several(400, 0), valid, 3, 0, CPU, QUIET)
    found = trained.decision.probabilities(predict_logits(trained.head, valid.features, 100, CPU))
    np.testing.assert_allclose(np.median(found, axis=0), shares, atol=0.12)


@pytest.mark.parametrize("metric", ["accuracy", "weighted_f1", "macro_f1"])
def test_the_metric_decides_the_best_epoch(metric: str) -> None:
    config = CONFIG.model_copy(update={"max_epochs": 15, "patience": 15, "metric": metric})
    trained = fit(LLMEMBED, config=config)
    reached = [(epoch.score(metric), -epoch.valid_loss) for epoch in trained.history]
    assert trained.best_epoch == 1 + reached.index(max(reached))
    assert trained.best.score("macro_f1") == trained.best.valid_macro_f1


def test_settings_of_deterministic_kernels_are_restored() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    try:
        for enabled, warn_only in ((True, True), (True, False), (False, False)):
            torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
            with loop.deterministic(0):
                assert torch.are_deterministic_algorithms_enabled()
                assert not torch.is_deterministic_algorithms_warn_only_enabled()
            assert torch.are_deterministic_algorithms_enabled() == enabled
            assert torch.is_deterministic_algorithms_warn_only_enabled() == warn_only
    finally:
        torch.use_deterministic_algorithms(before)
