"""Upper layers that are trained on few rows: they learn what the mean of an untrained encoder does not tell."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fusion_classifier import FusionClassifier
from fusion_classifier.config import EnsembleConfig, TrainingChanges
from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.loading import load_encoder
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.encoders.upper_layers import describe_upper_layers, load_upper_layers
from fusion_classifier.errors import NonFiniteError
from fusion_classifier.features.arrays import PooledFeatures, TokenFeatures, from_arrays
from fusion_classifier.fusion.upper_layers import UpperLayers
from fusion_classifier.training import upper_layers
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.inference import predict_each
from fusion_classifier.training.loop import deterministic
from fusion_classifier.training.pairs import pair_loss
from fusion_classifier.training.upper_layers import MAX_ROWS, MAX_TOKENS, STEPS, UpperTraining, suited

CPU = torch.device("cpu")
MARKS = "abc"  # the label is which of them is among the letters of a text


def identity_of(folder: Path, settings: str = "pooling=tokens") -> EncoderIdentity:
    config = parse_encoder(f"{folder}?dtype=float32&{settings}")
    return identify(config.model_copy(update={"name": "small"}), CPU)


def data_of(folder: Path, rows: int, seed: int) -> LabelledFeatures:
    draw = random.Random(seed)
    labels = np.array([i % 3 for i in range(rows)])
    texts = []
    for label in labels:
        before, after = ("".join(draw.choices("efghij", k=draw.randint(3, 9))) for _ in range(2))
        texts.append(f"{before} {MARKS[label]} {after}")
    encoder = load_encoder(identity_of(folder).config, CPU)
    return LabelledFeatures(
        {"small": from_arrays([np.asarray(one) for one in encode(encoder, texts)], ragged=True)}, labels
    )


def layers_of(folder: Path) -> tuple[UpperLayers, UpperTraining]:
    identity = identity_of(folder)
    described = describe_upper_layers(identity)
    assert described is not None
    width = load_encoder(identity.config, CPU).shape[-1]
    start = UpperTraining(load_upper_layers(identity, described), "float32", 0, CPU, 8)
    return UpperLayers(described, width, 3), start


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_untrained_their_vectors_are_the_encoder_s(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(f"{kind}_folder")
    upper, start = layers_of(folder)
    upper.load_state_dict(dict(start.pretrained), strict=False)
    data = data_of(folder, 7, 0)
    vectors = predict_each(upper, upper.vectors, data.features, len(data), CPU)
    last = torch.stack([torch.from_numpy(one[:, -1]).mean(0) for one in data.features["small"].arrays])  # type: ignore[union-attr]
    torch.testing.assert_close(vectors, torch.nn.functional.normalize(last, dim=1), atol=1e-5, rtol=1e-4)


def test_texts_of_a_label_come_nearer_the_same_bits_again(bert_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upper_layers, "LEARNING_RATE", 3e-3)  # a random model has more to learn than a real one
    monkeypatch.setattr(upper_layers, "MAX_PASSES", 40)
    data = data_of(bert_folder, 60, 0)
    upper, start = layers_of(bert_folder)
    upper.load_state_dict(dict(start.pretrained), strict=False)
    labels = torch.from_numpy(data.labels)
    before = pair_loss(predict_each(upper, upper.vectors, data.features, len(data), CPU), labels)
    logits = []
    for _ in range(2):
        with deterministic(0):
            upper, start = layers_of(bert_folder)
            start.fit(upper, data, lambda _: None)
            logits.append(predict_each(upper, upper, data.features, len(data), CPU))
    assert torch.equal(*logits)
    assert pair_loss(predict_each(upper, upper.vectors, data.features, len(data), CPU), labels) < 0.7 * before


def test_a_fold_s_labels_do_not_move_its_own_logits(bert_folder: Path) -> None:
    data = data_of(bert_folder, 30, 0)
    folds = np.arange(30) // 3 % 5
    splits = [(np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)) for fold in range(5)]
    changed = replace(data, labels=np.where(folds == 3, (data.labels + 1) % 3, data.labels))
    upper, start = layers_of(bert_folder)
    before_training = {name: tensor.clone() for name, tensor in upper.state_dict().items()}
    before, after = (start.out_of_fold(upper, labelled, splits, lambda _: None) for labelled in (data, changed))
    assert before.shape == (1, 30, 3)
    assert torch.equal(before[:, folds == 3], after[:, folds == 3])
    assert (before[:, folds != 3] != after[:, folds != 3]).any()
    assert all(torch.equal(tensor, before_training[name]) for name, tensor in upper.state_dict().items())


def test_a_training_that_diverges_is_named(bert_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upper_layers, "LEARNING_RATE", 1e38)
    upper, start = layers_of(bert_folder)
    with pytest.raises(NonFiniteError, match="upper layers"):
        start.fit(upper, data_of(bert_folder, 12, 0), lambda _: None)


def test_padding_changes_no_vector(bert_folder: Path) -> None:
    upper, start = layers_of(bert_folder)
    upper.load_state_dict(dict(start.pretrained), strict=False)
    states = data_of(bert_folder, 6, 0).features["small"]
    assert isinstance(states, TokenFeatures)
    with torch.no_grad():
        together = upper.vectors({"small": states.batch(np.arange(6))})
        alone = torch.cat([upper.vectors({"small": states.batch(np.array([row]))}) for row in range(6)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "settings", ["tokens&layers=1,2", "tokens&pool_special_tokens=false", "tokens&long=window", "mean&layers=-1"]
)
def test_states_that_are_not_the_layers_input_have_none(bert_folder: Path, settings: str) -> None:
    assert describe_upper_layers(identity_of(bert_folder, f"pooling={settings}")) is None


def test_other_architectures_have_none(llama_folder: Path) -> None:
    assert describe_upper_layers(identity_of(llama_folder)) is None


def test_they_are_for_few_short_texts_with_one_label() -> None:
    def states(rows: int, tokens: int) -> TokenFeatures:
        return TokenFeatures(np.zeros((rows * tokens, 3, 1), np.float16), np.arange(rows + 1) * tokens)

    longest = MAX_TOKENS // (upper_layers.BATCH_SIZE * STEPS)
    labels = np.zeros(MAX_ROWS, np.int64)
    assert suited(LabelledFeatures({"a": states(MAX_ROWS, longest)}, labels), "a")
    assert not suited(LabelledFeatures({"a": states(MAX_ROWS, longest + 1)}, labels), "a")
    more = np.zeros(MAX_ROWS + 1, np.int64)
    assert not suited(LabelledFeatures({"a": states(MAX_ROWS + 1, 3)}, more), "a")
    assert suited(LabelledFeatures({"a": states(MAX_ROWS + 1, 3)}, more, n_label_names=1), "a")
    assert not suited(LabelledFeatures({"a": states(MAX_ROWS, 3)}, np.zeros((MAX_ROWS, 2), np.int64)), "a")
    assert not suited(LabelledFeatures({"a": PooledFeatures(np.zeros((9, 3, 1), np.float16))}, labels[:9]), "a")


@pytest.mark.parametrize(
    ("texts", "tokens", "steps"),
    [(48, 10, 10), (256, 10, 40), (300, 10, 40), (1334, 10, 105), (5000, 10, 390), (5000, 90, 43)],
)
def test_steps_are_five_to_ten_passes_within_a_budget(texts: int, tokens: float, steps: int) -> None:
    assert UpperTraining({}, "float32", 0, CPU, tokens).steps(texts) == steps


def test_the_default_head_trains_and_saves_them(bert_folder: Path, tmp_path: Path) -> None:
    texts = [f"{word} {i}" for i in range(12) for word in ("we won", "he broke it", "it is dark")]
    labels = ["joy", "anger", "fear"] * 12

    def fitted(head: Any, targets: Any = labels) -> FusionClassifier:
        training: TrainingChanges = {"max_epochs": 2, "min_steps": 0}
        encoder = f"{bert_folder}?dtype=float32"
        return FusionClassifier([encoder], head, training=training, store=tmp_path / "store").fit(texts, targets)

    first, again = fitted("ensemble"), fitted("ensemble")
    assert first.config_.members[-1].name.startswith("upper layers ")
    np.testing.assert_array_equal(first.predict_proba(texts), again.predict_proba(texts))
    first.save_pretrained(tmp_path / "model")
    loaded = FusionClassifier.from_pretrained(tmp_path / "model")
    np.testing.assert_allclose(loaded.predict_proba(texts), first.predict_proba(texts), atol=1e-3)
    for other in (fitted(EnsembleConfig(upper_layers=False)), fitted("ensemble", [[label] for label in labels])):
        assert not any(member.name.startswith("upper") for member in other.config_.members)
    refitted = fitted(loaded.config_.head)
    np.testing.assert_array_equal(refitted.predict_proba(texts), first.predict_proba(texts))
