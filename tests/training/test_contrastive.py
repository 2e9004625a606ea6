"""Contrastive tuning: small random models of the true classes learn by it."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.loading import TransformerEncoder, load_encoder
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.encoders.tokenization import tokenize
from fusion_classifier.errors import DataError, NonFiniteError
from fusion_classifier.support.progress import QUIET
from fusion_classifier.training.contrastive import (
    tune_contrastively,
    with_label_names,
)
from fusion_classifier.training.finetuned import Finetuned
from fusion_classifier.training.tune_config import TuneConfig

CPU = torch.device("cpu")
MARKS = "abc"  # the label is which of them is among the letters of a text: an untrained mean hardly tells


def texts_of(start: int, count: int) -> tuple[list[str], np.ndarray]:
    """Random letters with the mark of their label at a random place."""
    draw = random.Random(start)
    labels = [i % 3 for i in range(count)]
    texts = []
    for label in labels:
        before, after = ("".join(draw.choices("efghij", k=draw.randint(3, 9))) for _ in range(2))
        texts.append(f"{before} {MARKS[label]} {after}")
    return texts, np.array(labels)


def loaded(folder: Path) -> TransformerEncoder:
    return load_encoder(parse_encoder(f"{folder}?dtype=float32&layers=-1"), CPU, plain=True)


def tuned(
    encoder: TransformerEncoder, texts: Sequence[str], labels: np.ndarray, n_labels: int = 3, **changes: float
) -> Finetuned:
    settings = {"objective": "contrastive", "epochs": 40, "learning_rate": 3e-3, "batch_size": 16} | changes
    config = TuneConfig.model_validate(settings)
    return tune_contrastively(encoder, config, torch.float32, tokenize(encoder, texts), labels, n_labels, QUIET)


def unit_vectors(encoder: TransformerEncoder, texts: list[str]) -> np.ndarray:
    vectors = np.stack(encode(encoder, texts))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def margin(vectors: np.ndarray, labels: np.ndarray) -> float:
    """Mean cosine of two texts of a label, less that of texts of two labels."""
    cosines, same = vectors @ vectors.T, labels[:, None] == labels[None]
    other = ~np.eye(len(labels), dtype=bool)
    return float(cosines[same & other].mean() - cosines[~same].mean())


def by_centroid(vectors: np.ndarray, labels: np.ndarray, unseen: np.ndarray, truth: np.ndarray) -> float:
    """Accuracy of the nearest centroid."""
    centroids = np.stack([vectors[labels == label].mean(0) for label in range(3)])
    return float(((unseen @ centroids.T).argmax(1) == truth).mean())


def test_names_are_texts_if_they_are_words() -> None:
    texts, labels = with_label_names(["a", "b"], np.array([4, 0]), ["very_happy", "17", "_", "Ärger", "no-one"])
    assert texts == ("a", "b", "very happy", "Ärger", "no one")
    assert labels.tolist() == [4, 0, 0, 3, 4]
    assert labels.dtype == np.array([4, 0]).dtype
    assert with_label_names(["a"], np.array([0]), ["0", "1"])[1].tolist() == [0]


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_texts_of_a_label_come_nearer_and_are_told_apart(kind: str, request: pytest.FixtureRequest) -> None:
    encoder = loaded(request.getfixturevalue(f"{kind}_folder"))
    texts, labels = texts_of(0, 36)
    unseen, truth = texts_of(1, 60)
    before = unit_vectors(encoder, texts), unit_vectors(encoder, unseen)
    result = tuned(encoder, texts, labels)
    encoder.model.eval()
    after = unit_vectors(encoder, texts), unit_vectors(encoder, unseen)
    assert margin(after[0], labels) > margin(before[0], labels) + 0.5
    assert margin(after[1], truth) > margin(before[1], truth) + 0.2
    accuracy = by_centroid(after[0], labels, after[1], truth)
    assert accuracy > by_centroid(before[0], labels, before[1], truth) + 0.1, accuracy
    with torch.no_grad():
        logits = result.head(torch.from_numpy(after[1]))
    assert float((logits.argmax(1).numpy() == truth).mean()) > accuracy - 0.1
    losses = [epoch.train_loss for epoch in result.history]
    assert len(losses) == result.best_epoch == 40
    assert losses[-1] < losses[0] / 2
    assert result.parameters["trained"] < result.parameters["all"]


def test_token_embeddings_are_not_changed(bert_folder: Path) -> None:
    encoder = loaded(bert_folder)
    before = {name: p.clone() for name, p in encoder.model.named_parameters()}
    tuned(encoder, *texts_of(0, 12), epochs=2)
    same = {name for name, p in encoder.model.named_parameters() if torch.equal(p, before[name])}
    assert "embeddings.word_embeddings.weight" in same
    assert not any("encoder.layer" in name and "query.weight" in name for name in same)


def test_the_same_seed_gives_the_same_bits(bert_folder: Path) -> None:
    texts, labels = texts_of(0, 24)
    states: list[dict[str, torch.Tensor]] = []
    for seed in (0, 0, 1):
        encoder = loaded(bert_folder)
        torch.manual_seed(99 + len(states))
        before = torch.get_rng_state()
        head = tuned(encoder, texts, labels, epochs=3, batch_size=8, seed=seed).head
        assert torch.equal(torch.get_rng_state(), before)
        states.append(encoder.model.state_dict() | {"head": head.weight.detach()})
    first, again, other = states
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("labels", [[0, 2], [0, 1, 3], [2, 3, 4, 5]])
def test_labels_without_a_text_are_never_the_answer(labels: list[int], bert_folder: Path) -> None:
    encoder = loaded(bert_folder)
    texts, _ = texts_of(0, 12)
    several = np.array([labels[i % len(labels)] for i in range(12)])
    head = tuned(encoder, texts, several, 6, epochs=1).head
    with torch.no_grad():
        shares = head(torch.from_numpy(unit_vectors(encoder, texts))).softmax(1)
    assert shares.shape == (12, 6)
    assert float(shares[:, labels].sum(1).min()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_without_pairs_of_both_kinds_there_is_an_error(labels: list[int], bert_folder: Path) -> None:
    with pytest.raises(DataError, match="at least two labels, one of them with two texts"):
        tuned(loaded(bert_folder), ["a", "b", "c"], np.array(labels))


def test_a_learning_rate_that_diverges_is_named(bert_folder: Path) -> None:
    with pytest.raises(NonFiniteError, match="lower `learning_rate`"):
        tuned(loaded(bert_folder), *texts_of(0, 12), learning_rate=1e30)
