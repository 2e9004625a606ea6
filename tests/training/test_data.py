"""Features left in the store and read a block at a time: the same texts, the same values, in bounded pieces."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion_classifier.config import (
    EncoderConfig,
    EnsembleConfig,
    FusionConfig,
    HeadConfig,
    LinearConfig,
    TrainingConfig,
)
from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.encoders.weights import Weights
from fusion_classifier.features.arrays import Features, FeatureShape, PooledFeatures, TokenFeatures
from fusion_classifier.features.extract import open_features, read_features
from fusion_classifier.features.hashing import hash_texts
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.features.stored import StoredFeatures
from fusion_classifier.support.progress import QUIET
from fusion_classifier.training.data import LabelledFeatures, in_blocks
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.inference import predict_logits
from fusion_classifier.training.train import train

CPU = torch.device("cpu")
POOLED, TOKENS = FeatureShape((2, 8), ragged=False), FeatureShape((3, 16), ragged=True)
TEXT_BYTES = 2 * (16 + 48 * 3)  # float16 of both, at three tokens a text
LABELS = 3


def identity(name: str, **more: object) -> EncoderIdentity:
    """An encoder that needs no files: the store only asks for its key and its name."""
    config = EncoderConfig.model_validate({"name": name, "model": name} | more)
    return EncoderIdentity(config, Weights(Path("nowhere"), None, "path"), "f0", "float32")


def filled(root: Path, count: int, seed: int = 0) -> tuple[FeatureStore, list[EncoderIdentity], np.ndarray]:
    """A store with features of `count` texts by two encoders, each in an order of its own, and the texts' labels."""
    generator = np.random.default_rng(seed)
    store, identities = FeatureStore(root), [identity("pooled"), identity("tokens", pooling="tokens")]
    labels = generator.integers(0, LABELS, count)
    centres = 3 * generator.standard_normal((LABELS, 16))
    hashes = hash_texts([f"text {i}" for i in range(count)])
    for one, shape in zip(identities, (POOLED, TOKENS), strict=True):
        for part in np.array_split(generator.permutation(count), 4):
            arrays = []
            for row in part:
                n = int(generator.integers(1, 6)) if shape.ragged else 1
                centre = np.resize(centres[labels[row]], shape.shape)
                array = (centre + generator.standard_normal((n, *shape.shape))).astype(np.float16).astype(np.float32)
                arrays.append(array if shape.ragged else array[0])
            if len(part):
                store.of(one).append(hashes[part], arrays, shape)
    return store, identities, labels


def same(a: Features, b: Features) -> None:
    assert a.shape == b.shape
    if isinstance(a, TokenFeatures):
        assert isinstance(b, TokenFeatures)
        np.testing.assert_array_equal(a.offsets, b.offsets)
    np.testing.assert_array_equal(a.values, b.values)


def texts_of(rows: np.ndarray) -> list[str]:
    return [f"text {i}" for i in rows]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[FeatureStore, list[EncoderIdentity], np.ndarray]:
    return filled(tmp_path_factory.mktemp("store"), 200)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.integers(0, 199), min_size=1, max_size=120),
    memory=st.integers(1, 30_000),
    shuffled=st.booleans(),
    batch_size=st.integers(1, 20),
)
def test_blocks_hold_every_text_once_with_its_own_features(
    store: tuple[FeatureStore, list[EncoderIdentity], np.ndarray],
    rows: list[int],
    memory: int,
    shuffled: bool,
    batch_size: int,
) -> None:
    kept, identities, _ = store
    wanted = texts_of(np.array(rows))
    expected = read_features(wanted, identities, kept)
    features = {
        name: StoredFeatures(one.shape, one.rows, one.text_bytes, one.read, memory)
        for name, one in ((i.config.name, kept.of(i).stored(hash_texts(wanted))) for i in identities)
    }
    order = np.random.default_rng(0) if shuffled else None
    blocks = list(in_blocks(features, len(rows), order, batch_size))
    if len(blocks[0]) >= batch_size:
        assert all(len(block) % batch_size == 0 for block in blocks[:-1])
    assert sorted(np.concatenate([block.rows for block in blocks])) == list(range(len(rows)))
    for block in blocks:
        for name, values in block.features.items():
            same(values, expected[name].take(block.rows))
    by_text = sum(one.text_bytes for one in features.values())
    assert max(len(block) for block in blocks) <= max(memory / 4 / by_text, 1)


def test_what_fits_is_read_and_what_does_not_stays(
    store: tuple[FeatureStore, list[EncoderIdentity], np.ndarray],
) -> None:
    kept, identities, _ = store
    texts = texts_of(np.arange(200))
    fits = open_features(texts, identities, kept, 10**9)
    assert not any(isinstance(one, StoredFeatures) for one in fits.values())
    large = open_features(texts, identities, kept, 200 * TEXT_BYTES // 5)
    assert all(isinstance(one, StoredFeatures) and one.memory == 200 * TEXT_BYTES // 5 for one in large.values())
    assert {name: one.shape for name, one in large.items()} == {name: one.shape for name, one in fits.items()}


def test_shuffled_blocks_come_from_the_whole_store(tmp_path: Path) -> None:
    kept, identities, _ = filled(tmp_path, 2000)
    texts = texts_of(np.arange(2000))
    features = open_features(texts, identities, kept, 2000 * TEXT_BYTES // 5)
    order = np.random.default_rng(0)
    first, second = (list(in_blocks(features, 2000, order)) for _ in range(2))
    assert len(first) > 10
    assert not np.array_equal(first[0].rows, second[0].rows)
    largest = max((one for one in features.values() if isinstance(one, StoredFeatures)), key=lambda x: x.text_bytes)
    places = largest.rows[first[0].rows]
    assert np.ptp(places) > 1000, "a block from one place of the store would train on one window of lengths"


def test_training_from_the_store_is_as_from_memory(tmp_path: Path) -> None:
    kept, identities, labels = filled(tmp_path, 600)
    texts = texts_of(np.arange(600))
    in_memory = read_features(texts, identities, kept)
    left = open_features(texts, identities, kept, 600 * TEXT_BYTES // 6)
    config = TrainingConfig(learning_rate=2e-3, batch_size=32, max_epochs=3, patience=5)
    logits = {}
    for name, features in (("memory", in_memory), ("store", left)):
        data = LabelledFeatures(features, labels)
        trained = train(FusionConfig(width=16), config, data, data, LABELS, 0, CPU, QUIET)
        assert trained.best.valid_accuracy > 0.95
        logits[name] = predict_logits(trained.head, features, 600, CPU)
        again = train(FusionConfig(width=16), config, data, data, LABELS, 0, CPU, QUIET)
        assert torch.equal(predict_logits(again.head, features, 600, CPU), logits[name]), "a seed gives the same bits"
    from_store = predict_logits(trained.head, left, 600, CPU)
    torch.testing.assert_close(from_store, predict_logits(trained.head, in_memory, 600, CPU), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("head", [LinearConfig(), EnsembleConfig(attention=FusionConfig(width=8), repeats=1)])
def test_folds_of_stored_features_are_those_in_memory(tmp_path: Path, head: HeadConfig) -> None:
    """Nothing is read at once; each text's logits are near those in memory, where batches are others."""
    kept, identities, labels = filled(tmp_path, 100)
    texts = texts_of(np.arange(100))
    found = []
    for memory in (10**9, 100 * TEXT_BYTES // 4):
        data = LabelledFeatures(open_features(texts, identities, kept, memory), labels)
        config = recipe("default", "ensemble", max_epochs=3, learning_rate=1e-2)
        trained = train(head, config, data, None, LABELS, 0, CPU, QUIET)
        assert trained.out_of_fold is not None
        assert trained.best.valid_accuracy > 0.95
        found.append(predict_logits(trained.head, data.features, 100, CPU).argmax(1))
        assert data.take(np.array([3, 1])).stored == data.stored
    assert (found[0] == found[1]).float().mean() > 0.97


def test_features_in_memory_are_one_block() -> None:
    features = {"a": PooledFeatures(np.zeros((7, 2, 8), dtype=np.float16))}
    (block,) = in_blocks(features, 7)
    np.testing.assert_array_equal(block.rows, np.arange(7))
