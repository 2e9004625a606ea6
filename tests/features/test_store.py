"""The feature store on a real Lance dataset in a temporary folder."""

import multiprocessing
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lance.fragment import FragmentMetadata

from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.encoders.weights import Weights
from fusion_classifier.errors import NonFiniteError, StoreError
from fusion_classifier.features import codec
from fusion_classifier.features import dataset as dataset_module
from fusion_classifier.features import store as store_module
from fusion_classifier.features.arrays import FeatureShape, PooledFeatures, TokenFeatures
from fusion_classifier.features.hashing import hash_texts
from fusion_classifier.features.store import EncoderFeatures, FeatureStore
from fusion_classifier.version import __version__, source_commit

POOLED = FeatureShape((2, 3), ragged=False)
TOKENS = FeatureShape((2, 3), ragged=True)


def identity(name: str = "some-encoder", fingerprint: str = "f0", **settings: object) -> EncoderIdentity:
    """An encoder that needs no files: the store only asks for its key and its name."""
    config = EncoderConfig.model_validate({"name": name, "model": name} | settings)
    return EncoderIdentity(config, Weights(Path("nowhere"), None, "path"), fingerprint, "float32")


def arrays(count: int, seed: int = 0, shape: FeatureShape = POOLED) -> list[np.ndarray]:
    """Features that float16 holds exactly."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 6, count)
    sizes = [(int(length), *shape.shape) if shape.ragged else shape.shape for length in lengths]
    return [generator.integers(-100, 100, size).astype(np.float32) for size in sizes]


def texts(count: int) -> list[str]:
    return [f"text {i}" for i in range(count)]


def test_pooled_features_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    features = FeatureStore(tmp_path).of(identity())
    hashes, values = hash_texts(texts(50)), arrays(50)
    assert features.append(hashes, values, POOLED) == 50
    order = np.random.default_rng(1).permutation(50)
    read = features.read(hashes[order])
    assert isinstance(read, PooledFeatures)
    assert read.values.dtype == np.float16
    np.testing.assert_array_equal(read.values, np.stack(values)[order])


def test_token_features_keep_every_texts_length(tmp_path: Path) -> None:
    features = FeatureStore(tmp_path).of(identity())
    hashes, values = hash_texts(texts(20)), arrays(20, shape=TOKENS)
    features.append(hashes, values, TOKENS)
    order = np.random.default_rng(1).permutation(20)
    read = features.read(hashes[order])
    assert isinstance(read, TokenFeatures)
    for position, i in enumerate(order):
        np.testing.assert_array_equal(read.values[read.offsets[position] : read.offsets[position + 1]], values[i])


@pytest.mark.parametrize("shape", [POOLED, TOKENS])
def test_a_text_may_be_asked_for_more_than_once(tmp_path: Path, shape: FeatureShape) -> None:
    features = FeatureStore(tmp_path).of(identity())
    hashes, values = hash_texts(texts(3)), arrays(3, shape=shape)
    features.append(hashes, values, shape)
    read = features.read(hashes[[2, 0, 2]])
    np.testing.assert_array_equal(read.take(np.array([0])).values, read.take(np.array([2])).values)
    assert len(read) == 3


@pytest.mark.parametrize("shape", [POOLED, TOKENS])
def test_what_overflows_float16_is_kept_in_float32(tmp_path: Path, shape: FeatureShape) -> None:
    features = FeatureStore(tmp_path).of(identity())
    hashes, values = hash_texts(texts(4)), arrays(4, shape=shape)
    values[2].flat[1] = 123_456.789
    values[2].flat[2] = -1e30
    features.append(hashes, values, shape)
    exact = features.read(hashes[[2]])
    assert exact.values.dtype == np.float32
    np.testing.assert_array_equal(exact.values.ravel(), values[2].ravel())
    assert features.read(hashes[[0, 1, 3]]).values.dtype == np.float16
    mixed = features.read(hashes)
    np.testing.assert_array_equal(mixed.values, np.concatenate(values) if shape.ragged else np.stack(values))
    assert list(FeatureStore(tmp_path).verify(features.key)) == []


@pytest.mark.parametrize("shape", [POOLED, TOKENS])
@pytest.mark.parametrize("texts_at_once", [1, 3])
def test_rows_read_in_pieces_are_those_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: FeatureShape, texts_at_once: int
) -> None:
    features = FeatureStore(tmp_path).of(identity())
    hashes, values = hash_texts(texts(20)), arrays(20, shape=shape)
    values[7].flat[0] = 1e6  # beyond float16: one piece is float32, the others are not
    features.append(hashes, values, shape)
    order = np.random.default_rng(1).permutation(20)
    at_once = features.read(hashes[order])
    dataset = lance.dataset(str(next(tmp_path.glob("*.lance"))))
    text_bytes = codec.bytes_on_disk(dataset) / 20
    monkeypatch.setattr(codec, "READ_BYTES", int(texts_at_once * text_bytes) + 1)
    in_pieces = features.read(hashes[order])
    np.testing.assert_array_equal(in_pieces.values, at_once.values)
    assert in_pieces.values.dtype == at_once.values.dtype == np.float32
    if isinstance(in_pieces, TokenFeatures) and isinstance(at_once, TokenFeatures):
        np.testing.assert_array_equal(in_pieces.offsets, at_once.offsets)
    for position, i in enumerate(order):
        np.testing.assert_array_equal(in_pieces.take(np.array([position])).values.ravel(), values[i].ravel())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nothing_is_written_of_a_batch_with_nan_or_infinity(tmp_path: Path, bad: float) -> None:
    features = FeatureStore(tmp_path).of(identity())
    values = arrays(3)
    values[1][0, 0] = bad
    with pytest.raises(NonFiniteError, match="some-encoder"):
        features.append(hash_texts(texts(3)), values, POOLED)
    assert not features.contains(hash_texts(texts(3))).any()


def test_a_text_committed_twice_is_stored_once(tmp_path: Path) -> None:
    features = FeatureStore(tmp_path).of(identity())
    hashes = hash_texts(texts(10))
    features.append(hashes[:6], arrays(6), POOLED)
    assert features.append(hashes[3:], arrays(7, seed=5), POOLED) == 4
    assert features.entry().rows == 10
    np.testing.assert_array_equal(features.read(hashes[:6]).values, np.stack(arrays(6)))


@given(
    st.lists(st.text(max_size=8).filter(lambda t: t.isprintable()), unique=True, min_size=1, max_size=30), st.data()
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_contains_is_exactly_what_was_committed(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], data: st.DataObject
) -> None:
    features = FeatureStore(tmp_path_factory.mktemp("store")).of(identity())
    committed = data.draw(st.sets(st.sampled_from(range(len(words))), min_size=1))
    rows = sorted(committed)
    features.append(hash_texts([words[i] for i in rows]), arrays(len(rows)), POOLED)
    assert features.contains(hash_texts(words)).tolist() == [i in committed for i in range(len(words))]


def test_a_missing_text_is_an_error_that_says_what_to_run(tmp_path: Path) -> None:
    features = FeatureStore(tmp_path).of(identity())
    with pytest.raises(StoreError, match="fec extract"):
        features.read(hash_texts(["never seen"]))
    features.append(hash_texts(["seen"]), arrays(1), POOLED)
    with pytest.raises(StoreError, match="1 of 2"):
        features.read(hash_texts(["seen", "never seen"]))


def test_other_settings_never_see_these_features(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    hashes = hash_texts(["a"])
    store.of(identity()).append(hashes, arrays(1), POOLED)
    for other in (
        identity(fingerprint="f1"),
        identity(layers=(-2,)),
        identity(pooling="first"),
        identity(template="x {text}"),
        identity(max_length=99),
        identity(pool_special_tokens=True),
    ):
        assert not store.of(other).contains(hashes).any()
    assert store.of(identity(name="another-name")).contains(hashes).all()


def test_a_reader_sees_every_commit_of_a_writer(tmp_path: Path) -> None:
    writer, reader = FeatureStore(tmp_path).of(identity()), FeatureStore(tmp_path).of(identity())
    hashes = hash_texts(texts(30))
    for start in range(0, 30, 10):
        writer.append(hashes[start : start + 10], arrays(10, seed=start), POOLED)
        assert reader.contains(hashes).sum() == start + 10
        np.testing.assert_array_equal(
            reader.read(hashes[start : start + 10]).values, np.stack(arrays(10, seed=start))
        )


def _append_all(root: Path, count: int) -> None:
    features = FeatureStore(root).of(identity())
    hashes, values = hash_texts(texts(count)), arrays(count)
    for start in range(0, count, 7):
        features.append(hashes[start : start + 7], values[start : start + 7], POOLED)


def test_processes_that_write_the_same_texts_lose_none(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_append_all, args=(tmp_path, 70)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    features = FeatureStore(tmp_path).of(identity())
    assert features.entry().rows == 70
    np.testing.assert_array_equal(features.read(hash_texts(texts(70))).values, np.stack(arrays(70)))
    assert list(FeatureStore(tmp_path).verify(features.key)) == []


def test_a_first_write_killed_before_its_commit_is_nothing(tmp_path: Path) -> None:
    features = FeatureStore(tmp_path).of(identity())
    (Path(features.uri) / "data").mkdir(parents=True)
    (Path(features.uri) / "data" / "orphan.lance").write_bytes(b"half a file")
    assert not features.contains(hash_texts(["a"])).any()
    features.append(hash_texts(["a"]), arrays(1), POOLED)
    assert features.read(hash_texts(["a"])).values.shape == (1, 2, 3)


def test_listing_names_encoder_rows_and_size(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    store.of(identity("first")).append(hash_texts(texts(5)), arrays(5), POOLED)
    store.of(identity("second", fingerprint="f1")).append(hash_texts(texts(2)), arrays(2, shape=TOKENS), TOKENS)
    entries = {entry.encoder: entry for entry in store.entries()}
    assert (entries["first"].rows, entries["first"].shape, entries["first"].ragged) == (5, (2, 3), False)
    assert (entries["second"].rows, entries["second"].ragged) == (2, True)
    assert all(entry.bytes > 0 for entry in entries.values())
    assert store.find("second") == [entries["second"].key]


def test_delete_removes_one_encoder_and_leaves_the_others(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    first, second = identity("first"), identity("second", fingerprint="f1")
    for one in (first, second):
        store.of(one).append(hash_texts(texts(5)), arrays(5), POOLED)
    store.delete(first.key)
    assert store.keys() == [second.key]
    assert not store.of(first).contains(hash_texts(texts(5))).any()
    assert store.of(second).contains(hash_texts(texts(5))).all()


def _plant_duplicated_row(features: EncoderFeatures) -> None:
    dataset = lance.dataset(features.uri)
    lance.write_dataset(dataset.to_table().slice(0, 1), features.uri, mode="append")


def _plant_nan(features: EncoderFeatures) -> None:
    table = lance.dataset(features.uri).to_table()
    column = table["feature"].combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False).copy()
    values[3] = np.nan
    broken = type(column).from_arrays(values, column.type.list_size)
    index = table.column_names.index("feature")
    lance.write_dataset(table.set_column(index, table.schema.field(index), broken), features.uri, mode="overwrite")


def _plant_exchanged_texts(features: EncoderFeatures) -> None:
    """Whole features, each under another text's name."""
    table = lance.dataset(features.uri).to_table()
    names = table["text_hash"].take(pa.array([1, 0, *range(2, len(table))]))
    lance.write_dataset(table.set_column(0, table.schema.field(0), names), features.uri, mode="overwrite")


def _plant_changed_value_beyond_float16(features: EncoderFeatures) -> None:
    table = lance.dataset(features.uri).to_table()
    index = table.column_names.index("wide")
    wide = pa.array([[7.0] * 6, *[None] * (len(table) - 1)], pa.list_(pa.float32()))
    lance.write_dataset(table.set_column(index, table.schema.field(index), wide), features.uri, mode="overwrite")


def _plant_truncated_file(features: EncoderFeatures) -> None:
    file = next((Path(features.uri) / "data").iterdir())
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGES = [_plant_nan, _plant_exchanged_texts, _plant_changed_value_beyond_float16, _plant_truncated_file]


@pytest.mark.parametrize("plant", [_plant_duplicated_row, *DAMAGES])
def test_verify_finds_planted_faults(tmp_path: Path, plant: object) -> None:
    store = FeatureStore(tmp_path)
    features = store.of(identity())
    features.append(hash_texts(texts(10)), arrays(10), POOLED)
    assert list(store.verify(features.key)) == []
    assert callable(plant)
    plant(features)
    assert list(store.verify(features.key))


@pytest.mark.parametrize("plant", DAMAGES)
def test_what_is_damaged_is_refused_and_never_read(tmp_path: Path, plant: object) -> None:
    features = FeatureStore(tmp_path).of(identity())
    features.append(hash_texts(texts(10)), arrays(10), POOLED)
    assert callable(plant)
    plant(features)
    way_out = rf"can't be read .*{features.key} .*{re.escape(str(tmp_path))} .*fec store delete"
    with pytest.raises(StoreError, match=way_out):
        FeatureStore(tmp_path).of(identity()).read(hash_texts(texts(2)))


def test_an_entry_says_which_version_began_it(tmp_path: Path) -> None:
    FeatureStore(tmp_path).of(identity()).append(hash_texts(["a"]), arrays(1), POOLED)
    (entry,) = FeatureStore(tmp_path).entries()
    assert entry.begun_by == {"version": __version__, "commit": source_commit()}


def test_writers_of_different_versions_share_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = FeatureStore(tmp_path).of(identity())
    features.append(hash_texts(["a"]), arrays(1), POOLED)
    monkeypatch.setattr(store_module, "__version__", "99")
    features.append(hash_texts(["b"]), arrays(1), POOLED)
    assert len(features.read(hash_texts(["a", "b"]))) == 2


def test_a_store_of_another_format_is_refused_with_the_way_out(tmp_path: Path) -> None:
    features = FeatureStore(tmp_path).of(identity())
    features.append(hash_texts(["a"]), arrays(1), POOLED)
    table = lance.dataset(features.uri).to_table()
    metadata = table.schema.metadata | {b"fec.format": b"99"}
    lance.write_dataset(table.replace_schema_metadata(metadata), features.uri, mode="overwrite")
    with pytest.raises(StoreError, match="fec store delete"):
        FeatureStore(tmp_path).of(identity()).contains(hash_texts(["a"]))


# --- several writers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["disk", "object storage"])
def test_writers_who_race_store_no_text_twice(request: pytest.FixtureRequest, tmp_path: Path, where: str) -> None:
    root = str(tmp_path) if where == "disk" else f"{request.getfixturevalue('bucket')}/race"
    hashes, values = hash_texts(texts(24)), arrays(24)
    written: list[int] = []

    def write(number: int) -> None:
        features = FeatureStore(root).of(identity())
        for start in range(0, 24, 6):
            rows = slice(start, start + 6)
            if number % 2:
                written.append(features.append(hashes[rows], values[rows], POOLED))
            else:
                parts = features.write_fragments(hashes[rows], values[rows], POOLED)
                written.append(features.commit([(hashes[rows], parts)]))

    with ThreadPoolExecutor(3) as writers:
        list(writers.map(write, range(3)))
    assert sum(written) == 24
    store = FeatureStore(root)
    assert not list(store.verify(identity().key))
    read = store.of(identity()).read(hashes)
    assert isinstance(read, PooledFeatures)
    np.testing.assert_array_equal(read.values, np.stack(values))


def test_a_writer_that_is_always_slower_loses_nothing(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In object storage, which has no lock to hold: another writer commits between its look and its commit."""
    slow, quick = (FeatureStore(f"{bucket}/outrun").of(identity()) for _ in range(2))
    hashes, values = hash_texts(texts(30)), arrays(30)
    commits = 0
    write = slow.data.write

    def outrun(table: pa.Table, dataset: object) -> list[FragmentMetadata]:
        nonlocal commits
        pieces = write(table, dataset)
        quick.append(hashes[10 + commits : 11 + commits], values[10 + commits : 11 + commits], POOLED)
        commits += 1
        return pieces

    monkeypatch.setattr(dataset_module, "MAX_ATTEMPTS", 3)
    monkeypatch.setattr(slow.data, "write", outrun)
    with pytest.raises(StoreError, match=r"3 times in a row.*run the same command again"):
        slow.append(hashes[:10], values[:10], POOLED)
    assert commits == 3
    assert quick.contains(hashes).sum() == 3
    monkeypatch.setattr(slow.data, "write", write)
    assert slow.append(hashes, values, POOLED) == 27
    assert not list(slow.problems())


def test_what_a_killed_worker_left_is_cleaned_up(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    features, hashes, values = store.of(identity()), hash_texts(texts(32)), arrays(32)
    features.append(hashes[:20], values[:20], POOLED)
    features.write_fragments(hashes[30:], values[30:], POOLED)
    files = Path(features.uri) / "data"
    assert len(list(files.iterdir())) == 2
    store.clean(features.key)
    assert len(list(files.iterdir())) == 2, "another extraction may be about to commit it"
    assert store.clean(features.key, now=True) > 0
    assert len(list(files.iterdir())) == 1
    assert features.contains(hashes).sum() == 20
    assert not list(store.verify(features.key))


def test_files_from_the_future_hide_and_lose_nothing(tmp_path: Path) -> None:
    """As after a clock that was put back."""
    store = FeatureStore(tmp_path)
    features, hashes, values = store.of(identity()), hash_texts(texts(40)), arrays(40)
    features.append(hashes[:20], values[:20], POOLED)
    future = time.time() + 10 * 365 * 86_400
    for path in tmp_path.rglob("*"):
        os.utime(path, (future, future))
    again = FeatureStore(tmp_path).of(identity())
    assert again.append(hashes, values, POOLED) == 20
    store.clean(features.key)
    np.testing.assert_array_equal(again.read(hashes).values, np.stack(values))
    assert not list(store.verify(features.key))
