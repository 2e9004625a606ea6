"""Extraction into a real store with a small real transformer."""

import itertools
import multiprocessing
import random
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import kill_driver
import numpy as np
import pytest
import torch

from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.encode import encode_batch as plain_encode_batch
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.loading import LoadedEncoder, load_identified
from fusion_classifier.encoders.protocol import FunctionEncoder, PrecomputedEncoder
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.errors import DataError, FecError, NonFiniteError
from fusion_classifier.features.arrays import PooledFeatures, TokenFeatures
from fusion_classifier.features.extract import extract_features, read_features
from fusion_classifier.features.hashing import HASH_DTYPE, hash_texts
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.support.progress import QUIET

CPU = torch.device("cpu")
KILLS = 2  # more in benchmarks/reliability/crash.py
WORDS = ("the", "cat", "sat", "happy", "rain", "then", "ran", "town", "with", "joy", "or", "fear")


def sentences(count: int, seed: int = 0) -> list[str]:
    """Different texts of many lengths."""
    generator = random.Random(seed)
    return [f"{' '.join(generator.choices(WORDS, k=generator.randint(1, 30)))} {i}" for i in range(count)]


def small(folder: Path, settings: str = "") -> EncoderIdentity:
    return identify(parse_encoder(f"{folder}{settings}"), CPU)


def test_each_text_is_encoded_once(bert_folder: Path, tmp_path: Path) -> None:
    store, identity = FeatureStore(tmp_path), small(bert_folder)
    texts = sentences(40)
    first = extract_features([*texts, *texts[:10]], identity, store, CPU, QUIET)
    assert (first.texts, first.encoded) == (40, 40)
    second = extract_features([*texts, *sentences(5, seed=9)], identity, store, CPU, QUIET)
    assert second.encoded == len(set(sentences(5, seed=9)) - set(texts))


@pytest.mark.parametrize("settings", ["?dtype=float32", "?dtype=float32&pooling=tokens&layers=1,2"])
def test_the_store_holds_what_encode_gives(bert_folder: Path, tmp_path: Path, settings: str) -> None:
    store, identity = FeatureStore(tmp_path), small(bert_folder, settings)
    texts = sentences(30)
    extract_features(texts, identity, store, CPU, QUIET)
    stored = read_features(texts, [identity], store)[identity.config.name]
    expected = encode(load_identified(identity, CPU), texts)
    for i, feature in enumerate(expected):
        if isinstance(stored, TokenFeatures):
            found = stored.values[stored.offsets[i] : stored.offsets[i + 1]]
        else:
            assert isinstance(stored, PooledFeatures)
            found = stored.values[i]
        np.testing.assert_allclose(found, feature, rtol=2e-3, atol=2e-3)


def test_nothing_is_loaded_when_nothing_is_missing(bert_folder: Path, tmp_path: Path) -> None:
    store, identity = FeatureStore(tmp_path), small(bert_folder)
    extract_features(sentences(5), identity, store, CPU, QUIET)

    def fail(*_: object) -> LoadedEncoder:
        raise AssertionError("the model was loaded")

    assert extract_features(sentences(5), identity, store, CPU, QUIET, load=fail).encoded == 0


def test_a_failure_keeps_what_was_encoded_before_it(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, identity = FeatureStore(tmp_path), small(bert_folder)
    texts = sentences(1200)
    encode_batch, calls = plain_encode_batch, itertools.count(1)

    def failing(*arguments: object) -> list[np.ndarray]:
        call = next(calls)  # batches run side by side: each has a number of its own
        arrays = encode_batch(*arguments)  # type: ignore[arg-type]
        if call == 4:
            arrays[0][:] = np.nan
        return arrays

    module = sys.modules["fusion_classifier.encoders.encode"]  # its name in the package is the function's
    monkeypatch.setattr(module, "encode_batch", failing)
    with pytest.raises(NonFiniteError, match="`dtype` to float32"):
        extract_features(texts, identity, store, CPU, QUIET)
    kept = int(store.of(identity).contains(hash_texts(texts)).sum())
    assert 0 < kept < len(texts)
    monkeypatch.setattr(module, "encode_batch", encode_batch)
    assert extract_features(texts, identity, store, CPU, QUIET).encoded == len(texts) - kept


@pytest.mark.posix
@pytest.mark.slow
def test_kills_lose_no_commit_and_change_no_feature(bert_folder: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments; then the same bits as without, and nothing committed was encoded again."""
    texts = sentences(3000)
    text_file = tmp_path / "texts.txt"
    text_file.write_text("\n".join(texts), "utf-8")
    identity = small(bert_folder)
    hashes = hash_texts(texts)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "transformers"])  # once, not in each process

    def start(store: Path, log: Path) -> BaseProcess:
        process = context.Process(target=kill_driver.main, args=(*map(str, (bert_folder, store, text_file, log)),))
        process.start()
        return process

    reference = start(tmp_path / "uninterrupted", tmp_path / "reference.log")
    reference.join(120)
    assert reference.exitcode == 0
    expected = read_features(texts, [identity], FeatureStore(tmp_path / "uninterrupted"))

    store, moments = FeatureStore(tmp_path / "killed"), random.Random(1)
    killed_at_work = 0
    for attempt in range(KILLS + 1):
        committed = store.of(identity).contains(hashes)
        log = tmp_path / f"{attempt}.log"
        process = start(Path(str(store.root)), log)
        if attempt < KILLS:
            while not log.exists() and process.is_alive():
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 0.25))
            killed_at_work += process.is_alive()
            process.kill()
        process.join(120)
        assert process.exitcode == 0 or attempt < KILLS
        encoded = np.frombuffer(log.read_bytes(), dtype=HASH_DTYPE) if log.exists() else np.empty(0, HASH_DTYPE)
        assert not np.isin(encoded, hashes[committed]).any(), "a committed text was encoded again"
    assert killed_at_work >= KILLS - 1
    assert store.of(identity).entry().rows == len(set(texts))
    assert list(store.verify(identity.key)) == []
    for name, features in read_features(texts, [identity], store).items():
        np.testing.assert_array_equal(features.values, expected[name].values)


# Encoders that are objects.


def vectors(texts: list[str]) -> np.ndarray:
    return np.array([[[len(text), 2.0], [1.0, 0.5]] for text in texts])


def test_an_object_encodes_each_text_once(tmp_path: Path) -> None:
    seen: list[str] = []

    def embed(texts: list[str]) -> np.ndarray:
        seen.extend(texts)
        return vectors(texts)

    store, identity = FeatureStore(tmp_path), identify(FunctionEncoder(embed, "mine", "1"), CPU)
    assert identity.is_object
    texts = sentences(1300)
    assert extract_features([*texts, *texts[:9]], identity, store, CPU, QUIET).encoded == 1300
    assert extract_features(texts[:20], identity, store, CPU, QUIET).encoded == 0
    assert sorted(seen) == sorted(texts)
    stored = read_features(texts, [identity], store)["mine"]
    np.testing.assert_array_equal(stored.values, vectors(texts))
    np.testing.assert_array_equal(np.stack(encode(load_identified(identity, CPU), texts)), vectors(texts))
    assert not list(store.verify(identity.key))
    (entry,) = store.entries()
    assert (entry.encoder, entry.shape, entry.ragged, entry.rows) == ("mine", (2, 2), False, 1300)


def test_the_key_of_an_object_is_its_name_and_version() -> None:
    keys = [identify(FunctionEncoder(vectors, *names), CPU).key for names in ("ab", "ab", "ac", "bb")]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_what_an_object_did_before_it_failed_is_kept(tmp_path: Path) -> None:
    calls = itertools.count()

    def embed(texts: list[str]) -> np.ndarray:
        if next(calls) == 1:
            raise OSError("no answer")
        return vectors(texts)

    store, identity = FeatureStore(tmp_path), identify(FunctionEncoder(embed, "mine", "1"), CPU)
    texts = sentences(1300)
    with pytest.raises(FecError, match=r"mine: .*no answer"):
        extract_features(texts, identity, store, CPU, QUIET)
    kept = int(store.of(identity).contains(hash_texts(texts)).sum())
    assert 0 < kept < 1300
    assert extract_features(texts, identity, store, CPU, QUIET).encoded == 1300 - kept


def test_an_object_that_changed_its_shape_needs_another_version(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    extract_features(["a"], identify(FunctionEncoder(vectors, "mine", "1"), CPU), store, CPU, QUIET)
    changed = FunctionEncoder(lambda texts: np.ones((len(texts), 3)), "mine", "1")
    with pytest.raises(DataError, match="change its version"):
        extract_features(["b"], identify(changed, CPU), store, CPU, QUIET)


def test_a_text_without_precomputed_features_is_named_by_index(tmp_path: Path) -> None:
    texts = sentences(30)
    identity = identify(PrecomputedEncoder(texts, vectors(texts)), CPU)
    store = FeatureStore(tmp_path)
    assert extract_features(texts[:20], identity, store, CPU, QUIET).encoded == 20
    with pytest.raises(DataError, match=r"`texts\[3\]`.*'another'"):
        extract_features([*texts[20:23], "another"], identity, store, CPU, QUIET)
