"""The Ray engine on a real Ray of two workers and small real transformers, against the local engine."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import lance
import numpy as np
import psutil
import pytest
import torch

pytest.importorskip("ray")

import ray

from fusion_classifier.cluster.extract import absolute, extract_features_ray
from fusion_classifier.cluster.pool import RayEngine, connected
from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.protocol import FunctionEncoder
from fusion_classifier.encoders.spec import parse_encoders
from fusion_classifier.errors import NonFiniteError, UsageError, WeightsError
from fusion_classifier.features.arrays import PooledFeatures, TokenFeatures
from fusion_classifier.features.extract import extract_features, read_features
from fusion_classifier.features.hashing import hash_texts
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.support.progress import QUIET

CPU = torch.device("cpu")
ENGINE = RayEngine(workers=2)
TEXTS = [f"a text of number {i} " + "and so on " * (i % 7) for i in range(1300)]

pytestmark = [pytest.mark.ray, pytest.mark.timeout(280)]


@pytest.fixture(scope="module", autouse=True)
def _one_ray() -> Iterator[None]:
    """Started once: `connected` joins what runs already."""
    with connected(ENGINE):
        yield


def identity_of(spec: str) -> EncoderIdentity:
    return identify(parse_encoders([spec])[0], CPU)


def test_it_continues_the_local_engine_and_back_to_the_bit(bert_folder: Path, tmp_path: Path) -> None:
    identity = identity_of(f"{bert_folder}?pooling=tokens&layers=1,3&dtype=float32")
    local, mixed = FeatureStore(tmp_path / "local"), FeatureStore(tmp_path / "mixed")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker has: how many threads share in a sum changes its last bit
    try:
        for store in (local, mixed):
            extract_features(TEXTS[:300], identity, store, CPU, QUIET)
        expected = extract_features(TEXTS, identity, local, CPU, QUIET)
    finally:
        torch.set_num_threads(threads)
    report = extract_features_ray(TEXTS, identity, mixed, ENGINE, QUIET)
    assert (report.texts, report.encoded, report.truncated) == (1300, 1000, expected.truncated)
    assert expected.encoded == 1000
    (a,), (b,) = (read_features(TEXTS, [identity], store).values() for store in (local, mixed))
    assert isinstance(a, TokenFeatures)
    assert isinstance(b, TokenFeatures)
    np.testing.assert_array_equal(a.values, b.values)
    assert not list(mixed.verify(identity.key))
    assert extract_features_ray(TEXTS, identity, mixed, ENGINE, QUIET).encoded == 0
    assert extract_features([*TEXTS, "one more"], identity, mixed, CPU, QUIET).encoded == 1
    assert not list(mixed.verify(identity.key))


@pytest.mark.posix
def test_a_killed_worker_costs_only_its_part(
    bert_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [f"{text} {i}" for i in range(20) for text in TEXTS]
    identity, store = identity_of(f"{bert_folder}?dtype=float32"), FeatureStore(tmp_path)
    killed: list[int] = []

    def kill_one() -> None:
        while not killed:
            for process in psutil.process_iter(["cmdline"]):
                if "ray::MapWorker(MapBatches(_Worker))" in " ".join(process.info["cmdline"] or []):
                    time.sleep(1.0)
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)
                    return
            time.sleep(0.02)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    report = extract_features_ray(texts, identity, store, ENGINE, QUIET)
    killer.join(5)
    assert killed
    assert report.encoded == len(texts)
    assert not capsys.readouterr().out, "nothing of Ray's among the results"
    # What a kill can leave is the file of the part in work; a second file would be a part done twice without need.
    dataset = lance.dataset(store.of(identity).uri)
    held = sum(len(fragment.data_files()) for fragment in dataset.get_fragments())
    written = len(list((Path(store.of(identity).uri) / "data").glob("*.lance")))
    assert held <= written <= held + 1
    assert not list(store.verify(identity.key))


def test_concurrent_writers_store_no_text_twice(bert_folder: Path, tmp_path: Path) -> None:
    identity, store = identity_of(f"{bert_folder}?dtype=float32"), FeatureStore(tmp_path)
    hashes = hash_texts(TEXTS[:10])
    features = store.of(identity)
    arrays = [np.full(32, i, dtype=np.float32) for i in range(10)]
    shape = PooledFeatures(np.zeros((1, 32), dtype=np.float32)).shape
    written = features.write_fragments(hashes, arrays, shape)
    assert not features.contains(hashes).any(), "what is not committed is not there"
    assert features.append(hashes[:3], arrays[:3], shape) == 3
    assert features.commit([(hashes, written)]) == 0
    assert features.contains(hashes).sum() == 3
    assert features.commit([(hashes[5:], features.write_fragments(hashes[5:], arrays[5:], shape))]) == 5
    read = features.read(hashes[[7, 1]])
    assert isinstance(read, PooledFeatures)
    np.testing.assert_array_equal(read.values[:, 0], [7, 1])
    assert not list(features.problems())


def test_a_worker_s_error_arrives_as_its_sentence(bert_folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(bert_folder, broken)
    weights = load_file(broken / "model.safetensors")
    name = next(name for name in weights if "word_embeddings" in name)
    weights[name][:] = float("nan")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NonFiniteError, match="NaN or infinity in the feature of the text"):
        extract_features_ray(TEXTS[:5], identity_of(str(broken)), FeatureStore(tmp_path / "s"), ENGINE, QUIET)


def test_other_weights_on_a_worker_are_refused(bert_folder: Path, llama_folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "model"
    shutil.copytree(bert_folder, moved)
    identity = identity_of(str(moved))
    shutil.rmtree(moved)
    shutil.copytree(llama_folder, moved)
    with pytest.raises(WeightsError, match="weights on a worker differ"):
        extract_features_ray(TEXTS[:5], identity, FeatureStore(tmp_path / "s"), ENGINE, QUIET)


def test_an_encoder_that_is_an_object_is_refused(tmp_path: Path) -> None:
    encoder = FunctionEncoder(lambda texts: np.ones((len(texts), 2)), "ones", "1")
    with pytest.raises(UsageError, match=r"ones.*can't be sent"):
        extract_features_ray(TEXTS[:2], identify(encoder, CPU), FeatureStore(tmp_path), ENGINE, QUIET)


def test_more_workers_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(UsageError, match=r"workers.*5000"), connected(RayEngine(workers=5000)):
        pass


def test_workers_get_absolute_paths_of_what_exists(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(bert_folder, tmp_path / "mine")
    (tmp_path / "directions.safetensors").touch()
    (tmp_path / "minilm-l6").mkdir()
    monkeypatch.chdir(tmp_path)
    config = EncoderConfig(name="mine", model="mine", projection="directions.safetensors")
    there = absolute(config)
    assert (there.model, there.projection) == (str(tmp_path / "mine"), str(tmp_path / "directions.safetensors"))
    assert absolute(EncoderConfig(name="x", model="x", path="mine")).path == str(tmp_path / "mine")
    for name in ("minilm-l6", "some-org/some-model"):
        config = EncoderConfig(name=name, model=name)
        assert absolute(config) == config


# --- object storage ----------------------------------------------------------------------------------------


def test_ray_workers_write_to_object_storage(bert_folder: Path, bucket: str) -> None:
    """In processes of their own: the environment of the test must reach them."""
    identity, store = identity_of(f"{bert_folder}?dtype=float32"), FeatureStore(f"{bucket}/ray")
    ray.shutdown()
    with connected(ENGINE):
        report = extract_features_ray(TEXTS[:700], identity, store, ENGINE, QUIET)
    assert report.encoded == 700
    assert not list(store.verify(identity.key))
