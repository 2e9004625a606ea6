"""Training of the head `ensemble`: every text judges only members that were trained without it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fusion_classifier.config import EnsembleConfig, FusionConfig, TrainingConfig, UpperLayersConfig
from fusion_classifier.errors import NonFiniteError
from fusion_classifier.features.arrays import Features, PooledFeatures, TokenFeatures
from fusion_classifier.fusion.ensemble import EnsembleHead
from fusion_classifier.fusion.folds import FOLDS, fold_numbers
from fusion_classifier.fusion.fusion import FusionHead
from fusion_classifier.fusion.loss import fit_scale
from fusion_classifier.fusion.registry import build_head
from fusion_classifier.support.progress import QUIET
from fusion_classifier.training import ensemble, loop
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.inference import predict_each, predict_logits
from fusion_classifier.training.loop import deterministic
from fusion_classifier.training.result import TrainingResult
from fusion_classifier.training.train import train

CPU = torch.device("cpu")
SMALL = EnsembleConfig(attention=FusionConfig(width=16), repeats=2)
CONFIG = recipe("default", "ensemble", max_epochs=8, learning_rate=1e-2)
CENTRES = np.random.default_rng(99).standard_normal((3, 2, 6))
FIRST_TOKEN = np.random.default_rng(98).standard_normal((3, 2, 6))


def texts(
    rows: int, seed: int, *, several: bool = False, hidden: bool = False, noise: float = 1.0
) -> LabelledFeatures:
    """Texts of three labels, told by the mean of their tokens or, if `hidden`, by a single one among many."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, rows)
    lengths = np.full(rows, 12) if hidden else generator.integers(1, 5, rows)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    values = noise * generator.standard_normal((starts[-1], 2, 6))
    if hidden:
        values[starts[:-1] + generator.integers(0, 12, rows)] += 2.5 * FIRST_TOKEN[labels]
    else:
        values += np.repeat(CENTRES[labels], lengths, axis=0)
    targets = np.stack([labels == 0, labels != 1], axis=1).astype(np.int64) if several else labels
    return LabelledFeatures({"a": TokenFeatures(values.astype(np.float16), starts)}, targets)


def fit(
    train_data: LabelledFeatures,
    valid_data: LabelledFeatures | None = None,
    config: TrainingConfig = CONFIG,
    seed: int = 0,
) -> TrainingResult:
    count = 3 if train_data.labels.ndim == 1 else train_data.labels.shape[1]
    return train(SMALL, config, train_data, valid_data, count, seed, CPU, QUIET)


def scales(one: TrainingResult) -> torch.Tensor:
    """Of each member's logits."""
    assert isinstance(one.head, EnsembleHead)
    return torch.tensor([*(member.scale for member in one.head.linear.values()), 1.0])


def accuracy(one: TrainingResult, data: LabelledFeatures) -> float:
    logits = predict_logits(one.head, data.features, len(data), CPU)
    return float((one.decision.labels(one.decision.probabilities(logits)) == data.labels).mean())


@pytest.fixture(scope="module")
def fitted() -> TrainingResult:
    return fit(texts(200, 0))


def test_it_learns_without_validation_texts(fitted: TrainingResult) -> None:
    assert accuracy(fitted, texts(300, 1)) > 0.8
    assert [member.name for member in fitted.members] == ["linear last", "linear all", "attention a"]
    assert all(member.accuracy > 0.6 for member in fitted.members)
    assert len(fitted.history) == 1


def test_what_it_says_of_itself_is_true_of_new_texts(fitted: TrainingResult) -> None:
    """Out of fold, not of texts that it knows: within the error of 200 texts."""
    assert fitted.out_of_fold is not None
    assert fitted.out_of_fold.logits.shape == (200, 3)
    said = float((fitted.out_of_fold.logits.argmax(1).numpy() == texts(200, 0).labels).mean())
    assert fitted.best.valid_accuracy == pytest.approx(said)
    assert said == pytest.approx(accuracy(fitted, texts(1000, 2)), abs=0.08)
    assert said < accuracy(fitted, texts(200, 0))


def test_weights_are_those_of_the_members(fitted: TrainingResult) -> None:
    mixture = fitted.head.mixture
    assert (mixture >= 0).all()
    assert [member.weight for member in fitted.members] == pytest.approx((mixture / scales(fitted)).tolist())
    data = texts(40, 3)
    parts = predict_each(fitted.head, fitted.head.parts, data.features, 40, CPU)
    mixed = torch.einsum("p,pnc->nc", mixture, parts)
    torch.testing.assert_close(predict_logits(fitted.head, data.features, 40, CPU), mixed)


def test_a_seed_gives_the_same_bits_and_another_others(fitted: TrainingResult) -> None:
    torch.manual_seed(123)
    again, other = fit(texts(200, 0)), fit(texts(200, 0), seed=1)
    assert fitted.out_of_fold is not None
    assert again.out_of_fold is not None
    assert torch.equal(fitted.out_of_fold.logits, again.out_of_fold.logits)
    before, after, others = (one.head.state_dict() for one in (fitted, again, other))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert any(not torch.equal(tensor, others[name]) for name, tensor in before.items())


def test_repeats_are_trained_with_seeds_of_their_own(fitted: TrainingResult) -> None:
    head = fitted.head
    assert isinstance(head, EnsembleHead)
    first, second = (one.state_dict() for one in head.attention)
    assert not torch.equal(first["weight"], second["weight"])


def test_a_fold_s_labels_do_not_move_its_own_logits() -> None:
    """To the bit, of the members with attention; those of linear members are in tests/fusion/test_linear.py."""
    data = texts(60, 0)
    folds = np.arange(60) % FOLDS
    splits = ensemble._splits_of(folds)
    changed = replace(data, labels=np.where(folds == 3, (data.labels + 1) % 3, data.labels))
    logits = []
    for labelled in (data, changed):
        with deterministic(0):
            head = build_head(SMALL, data.shapes, 3)
            assert isinstance(head, EnsembleHead)
            logits.append(ensemble._out_of_fold(head, CONFIG, labelled, splits, 0, CPU, lambda _: None))
    before, after = logits
    assert before.shape == (1, 60, 3)
    assert torch.equal(before[:, folds == 3], after[:, folds == 3])
    assert (before[:, folds != 3] != after[:, folds != 3]).any()


def test_attention_gets_the_weight_where_it_alone_knows() -> None:
    """One of twelve tokens tells the label: their mean hardly does."""
    config = recipe("default", "ensemble", max_epochs=30, learning_rate=1e-2)
    found = {member.name: member for member in fit(texts(400, 0, hidden=True), config=config).members}
    assert found["attention a"].accuracy > found["linear all"].accuracy + 0.05
    assert found["attention a"].weight > found["linear all"].weight + found["linear last"].weight


def test_linear_keeps_the_weight_of_untrained_attention() -> None:
    config = recipe("default", "ensemble", max_epochs=1, learning_rate=1e-9)
    data = texts(600, 0)
    found = {member.name: member for member in fit(data, config=config).members}
    linear = found["linear all"].weight + found["linear last"].weight
    assert linear > 2 * found["attention a"].weight


@pytest.mark.parametrize("rows", [12, 30])
def test_tens_of_rows_stay_near_the_prior(rows: int) -> None:
    one = fit(texts(rows, 0))
    assert isinstance(one.head, EnsembleHead)
    assert (one.head.mixture / scales(one) - one.head.prior(rows)).abs().max() < 0.35
    assert accuracy(one, texts(300, 1)) > 0.5


def test_a_penalty_that_makes_logits_small_costs_no_weight() -> None:
    """The linear members' weights are of logits in their best scale."""
    one = fit(texts(200, 0, noise=1.5))
    assert scales(one)[0] > 1.2
    assert one.out_of_fold is not None
    assert fit_scale(one.out_of_fold.logits, torch.from_numpy(texts(200, 0).labels))[0] == pytest.approx(1, abs=0.3)


def test_several_labels_a_text() -> None:
    one = fit(texts(200, 0, several=True))
    assert one.decision.multilabel
    assert accuracy(one, texts(300, 1, several=True)) > 0.8
    assert one.out_of_fold is not None
    assert one.out_of_fold.logits.shape == (200, 2)


def test_few_validation_texts_judge_nothing_but_the_epoch() -> None:
    one = fit(texts(200, 0), texts(100, 1))
    assert one.out_of_fold is not None
    logits = predict_logits(one.head, texts(100, 1).features, 100, CPU)
    assert one.best.valid_accuracy == pytest.approx(float((logits.argmax(1).numpy() == texts(100, 1).labels).mean()))


def test_folds_are_held_out_until_there_are_enough_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ensemble, "MIN_OUT_OF_FOLD", 90)
    data = texts(200, 0)
    sizes: list[int] = []
    fit_to_end = loop.fit_to_end

    def counted(head: FusionHead, config: TrainingConfig, data: LabelledFeatures, *rest: Any) -> float:
        sizes.append(len(data))
        return fit_to_end(head, config, data, *rest)

    monkeypatch.setattr(ensemble, "fit_to_end", counted)
    upper = UpperLayersConfig(encoder="a", layers=1, heads=2, inner_width=8, norm_epsilon=1e-5)
    with_upper = SMALL.model_copy(update={"upper": upper})
    one = train(with_upper, CONFIG, data, None, 3, 0, CPU, QUIET)
    assert one.out_of_fold is not None
    assert len(one.out_of_fold.rows) == 120  # three folds of 40
    assert sizes[:3] == [160] * 3
    assert set(sizes[3:]) == {200}
    answers = one.out_of_fold.logits.argmax(1).numpy()
    assert float((answers == data.labels[one.out_of_fold.rows]).mean()) > 0.6

    for_rare_labels = CONFIG.model_copy(update={"metric": "macro_f1"})
    for head, config, every_text in (
        (with_upper, CONFIG, True),
        (with_upper, for_rare_labels, False),
        (SMALL, CONFIG, False),
    ):
        every = train(head, config, data, None, 3, 0, CPU, QUIET, every_text=every_text)
        assert every.out_of_fold is not None
        assert np.array_equal(every.out_of_fold.rows, np.arange(200))


def test_enough_validation_texts_make_folds_needless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ensemble, "_out_of_fold", None)
    valid = texts(1000, 1)
    one = fit(texts(200, 0), valid)
    assert one.out_of_fold is None
    parts = predict_each(one.head, one.head.parts, valid.features, 1000, CPU)
    for member, logits in zip(one.members, parts, strict=True):
        assert member.accuracy == pytest.approx(float((logits.argmax(1).numpy() == valid.labels).mean()))


def test_many_rows_are_judged_on_validation_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EnsembleConfig, "cross_validated_rows", 150)
    monkeypatch.setattr(ensemble, "_out_of_fold", None)
    one = fit(texts(200, 0), texts(60, 1))
    assert one.out_of_fold is None
    assert accuracy(one, texts(300, 2)) > 0.8


def test_label_names_are_trained_on_and_judge_nothing() -> None:
    """Three rows at the labels' centres: rows of names, never among the judges."""
    data = texts(30, 0, noise=0.7)
    tokens = data.features["a"]
    assert isinstance(tokens, TokenFeatures)
    values = np.concatenate([tokens.values, CENTRES.astype(np.float16)])
    offsets = np.concatenate([tokens.offsets, tokens.offsets[-1] + np.arange(1, 4)])
    named = LabelledFeatures(
        {"a": TokenFeatures(values, offsets)}, np.append(data.labels, np.arange(3)), n_label_names=3
    )
    one = fit(named)
    assert one.out_of_fold is not None
    assert one.out_of_fold.logits.shape == (30, 3)
    assert accuracy(one, texts(300, 1, noise=0.7)) > 0.8


def test_equal_texts_do_not_judge_each_other() -> None:
    """Noise with every text thrice: out of fold nothing is known of it, though every text is seen in training."""
    generator = np.random.default_rng(0)
    values = generator.standard_normal((60, 2, 6)).astype(np.float16).repeat(3, 0)
    labels = generator.integers(0, 3, 60).repeat(3)
    features: dict[str, Features] = {"a": PooledFeatures(values)}
    one = fit(LabelledFeatures(features, labels))
    assert one.out_of_fold is not None
    assert float((one.out_of_fold.logits.argmax(1).numpy() == labels).mean()) < 0.55
    assert (fold_numbers(values.reshape(180, 12), labels, 0).reshape(60, 3).std(1) == 0).all()


def test_a_training_that_diverges_is_named() -> None:
    with pytest.raises(NonFiniteError, match="`learning_rate`"):
        fit(texts(60, 0), config=CONFIG.model_copy(update={"learning_rate": 3e38, "clip_norm": None}))


def with_noise(data: LabelledFeatures, seed: int) -> LabelledFeatures:
    """The texts also read by an encoder that knows nothing."""
    known = data.features["a"]
    assert isinstance(known, TokenFeatures)
    values = np.random.default_rng(seed).standard_normal((known.offsets[-1], 2, 60)).astype(np.float16)
    return LabelledFeatures({"a": known, "noise": TokenFeatures(values, known.offsets)}, data.labels)


def test_a_weak_encoder_costs_little() -> None:
    train_data, valid_data = with_noise(texts(60, 0), 1), with_noise(texts(400, 2), 3)
    together = train(SMALL, CONFIG, train_data, None, 3, 0, CPU, QUIET)
    weights = {member.name: member.weight for member in together.members}
    assert weights["linear a"] > 2 * weights["linear noise"]
    assert accuracy(together, valid_data) > accuracy(fit(texts(60, 0)), texts(400, 2)) - 0.05
