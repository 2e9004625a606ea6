"""The score for unknown texts, fitted: what it tells apart, and what it costs."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from fusion_classifier.features.arrays import PooledFeatures, TokenFeatures
from fusion_classifier.features.stored import StoredFeatures
from fusion_classifier.fusion.head import OutOfFold
from fusion_classifier.fusion.registry import build_head, parse_head
from fusion_classifier.support.progress import QUIET
from fusion_classifier.training import unknown
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.decision import Decision
from fusion_classifier.training.defaults import changed, recipe
from fusion_classifier.training.inference import predict_each, predict_logits
from fusion_classifier.training.known import KnownTexts
from fusion_classifier.training.result import TrainingResult
from fusion_classifier.training.train import train
from fusion_classifier.training.unknown import fit_known

CPU = torch.device("cpu")
CENTRES = np.random.default_rng(0).normal(size=(6, 20))


def texts(rows: int, classes: range, seed: int, *, ragged: bool = False) -> LabelledFeatures:
    """Texts around the centres of some classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % len(classes) + classes.start
    values = (CENTRES[labels] + rng.normal(size=(rows, 20))).astype(np.float32)
    if not ragged:
        return LabelledFeatures({"a": PooledFeatures(values)}, labels)
    lengths = rng.integers(1, 5, rows)
    tokens = np.repeat(values, lengths, 0)[:, None]
    return LabelledFeatures({"a": TokenFeatures(tokens, np.concatenate([[0], np.cumsum(lengths)]))}, labels)


def trained(
    train_data: LabelledFeatures, valid_data: LabelledFeatures, head: str = "linear", c: float | None = None
) -> TrainingResult:
    config, model = changed(recipe("default", head), {"max_epochs": 20}), parse_head(head)
    if c is not None:
        model = model.model_copy(update={"c": c})
    return train(model, config, train_data, valid_data, 4, 0, CPU, QUIET)


def scores(one: TrainingResult, known: KnownTexts, data: LabelledFeatures) -> np.ndarray:
    x = predict_each(one.head, one.head.unit_vectors, data.features, len(data), CPU).numpy()
    return known.score(x, one.decision.log_odds(predict_logits(one.head, data.features, len(data), CPU)))


@pytest.mark.parametrize(("head", "ragged"), [("linear", False), ("linear", True), ("fusion", True)])
def test_texts_of_other_classes_are_told(head: str, ragged: bool) -> None:
    train_data, valid_data = texts(400, range(4), 1, ragged=ragged), texts(200, range(4), 2, ragged=ragged)
    one = trained(train_data, valid_data, head)
    known = fit_known(one.head, one.decision, train_data, valid_data, CPU)
    assert known is not None
    more, strange = (scores(one, known, texts(600, of, 3, ragged=ragged)) for of in (range(4), range(4, 6)))
    auroc = roc_auc_score(np.repeat([0, 1], 600), np.concatenate([more, strange]))
    assert auroc > 0.93
    assert (more > known.threshold(0.1)).mean() < 0.15
    assert (strange > known.threshold(0.1)).mean() > 0.6
    held = scores(one, known, valid_data)
    assert (held.mean(), held.std()) == pytest.approx((0, 1), abs=1e-3)


def test_out_of_fold_logits_stand_in_for_held_out_texts() -> None:
    """With them every training text is held out: the rate holds for new texts, too."""
    train_data, new = texts(300, range(4), 1), texts(2000, range(4), 9)
    folds = np.arange(300) % 3
    out_of_fold = torch.empty(300, 4)
    for fold in range(3):
        inside, outside = (
            LabelledFeatures({"a": train_data.features["a"].take(rows)}, train_data.labels[rows])
            for rows in (np.flatnonzero(folds != fold), np.flatnonzero(folds == fold))
        )
        head = trained(inside, outside, c=1).head
        out_of_fold[folds == fold] = predict_logits(head, outside.features, len(outside), CPU)
    one = trained(train_data, train_data, c=1)
    every = OutOfFold(np.arange(300), out_of_fold)
    known = fit_known(one.head, one.decision, train_data, train_data, CPU, out_of_fold=every)
    assert known is not None
    assert len(known.scores) == 300
    assert (scores(one, known, new) > known.threshold(0.1)).mean() == pytest.approx(0.1, abs=0.05)
    some = OutOfFold(np.arange(0, 300, 2), out_of_fold[::2])
    half = fit_known(one.head, one.decision, train_data, train_data, CPU, out_of_fold=some)
    assert half is not None
    assert len(half.scores) == 150
    assert (scores(one, half, new) > half.threshold(0.1)).mean() == pytest.approx(0.1, abs=0.06)


def test_training_texts_seem_no_nearer_than_new_ones() -> None:
    """More of a text lies in directions that were fitted on it; the threshold must not depend on that."""
    config, rates = parse_head("linear"), []
    for draw in range(2):
        values = np.random.default_rng(draw).normal(size=(1800, 1000)) / np.arange(1, 1001) ** 0.25
        values = values.astype(np.float32)
        train_data, new = (
            LabelledFeatures({"a": PooledFeatures(part)}, np.zeros(len(part), np.int64))
            for part in (values[:300], values[300:])
        )
        head = build_head(config, train_data.shapes, 4)  # equally sure of every text
        every = OutOfFold(np.arange(300), torch.zeros(300, 4))
        known = fit_known(head, Decision(), train_data, train_data, CPU, draw, every)
        assert known is not None
        x = predict_each(head, head.unit_vectors, new.features, len(new), CPU).numpy()
        rates.append((known.score(x, Decision().log_odds(torch.zeros(len(x), 4))) > known.threshold(0.1)).mean())
    assert 0 < np.mean(rates) < 0.12, rates


def test_features_left_in_the_store_give_the_same() -> None:
    train_data, valid_data = texts(100, range(4), 1), texts(60, range(4), 2)
    one = trained(train_data, valid_data)

    def left(data: LabelledFeatures) -> LabelledFeatures:
        kept = data.features["a"]
        return LabelledFeatures(
            {"a": StoredFeatures(kept.shape, np.arange(len(data)), 80, kept.take, 4000)}, data.labels
        )

    in_memory = fit_known(one.head, one.decision, train_data, valid_data, CPU)
    from_store = fit_known(one.head, one.decision, left(train_data), left(valid_data), CPU)
    assert in_memory is not None
    assert from_store is not None
    for name, array in vars(in_memory).items():
        np.testing.assert_array_equal(array, vars(from_store)[name])


def test_of_many_texts_each_class_keeps_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unknown, "MAX_TEXTS", 90)
    labels = np.repeat([0, 1, 2], [500, 200, 7])
    chosen = unknown._by_class(labels, 90, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 90
    assert sorted(np.bincount(labels[chosen]).tolist()) == [7, 41, 42]
    train_data, valid_data = texts(300, range(4), 1), texts(60, range(4), 2)
    one = trained(train_data, valid_data)
    known = fit_known(one.head, one.decision, train_data, valid_data, CPU)
    assert known is not None
    assert known.vectors.shape == (90, 20)


@pytest.mark.parametrize(("rows", "held"), [(4, 1), (4, 4)])
def test_a_handful_of_texts_is_enough(rows: int, held: int) -> None:
    train_data, valid_data = texts(rows, range(4), 1), texts(held, range(4), 2)
    one = trained(train_data, valid_data)
    known = fit_known(one.head, one.decision, train_data, valid_data, CPU)
    assert known is not None
    assert np.isfinite(scores(one, known, texts(50, range(6), 3))).all()
    assert known.least_rate == 1 / (held + 1)


def test_several_labels_per_text_have_no_score() -> None:
    data = texts(80, range(4), 1)
    several = LabelledFeatures(data.features, np.eye(4, dtype=np.int64)[data.labels])
    one = trained(several, several)
    assert fit_known(one.head, one.decision, several, several, CPU) is None
