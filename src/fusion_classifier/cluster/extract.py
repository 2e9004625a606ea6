"""Extraction by a pool of Ray workers: like `features.extract`, on more cores, GPUs and machines.

The driver plans like the local engine, over the same windows of texts, so that every batch and every feature is
bit-identical on machines of the same kind. Workers encode windows and write fragments of the dataset directly to the
store; only the fragments' names are returned. The driver commits them every few seconds, atomically; texts that a
killed worker or driver has not committed are encoded again.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from fusion_classifier.cluster.pool import Pool, RayEngine, connected
from fusion_classifier.cluster.worker import Worker, rows_of
from fusion_classifier.config import Device, EncoderConfig
from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.encoders.encode import check_finite, encode_jobs
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.loading import TransformerEncoder, load_transformer
from fusion_classifier.encoders.presets import PRESETS
from fusion_classifier.errors import StoreError, UsageError, WeightsError
from fusion_classifier.features import hashing
from fusion_classifier.features.extract import (
    Commits,
    ExtractionReport,
    shape_of,
    unique_by_length,
    window_jobs,
    windows,
)
from fusion_classifier.features.store import EncoderFeatures, FeatureStore
from fusion_classifier.support.files import user_path
from fusion_classifier.support.progress import Progress

PARTS_PER_WORKER = (
    16  # minimum: bounds the loss from a killed worker, and the difference between the last workers' end times
)
MAX_WINDOWS = 16  # windows per part; each part writes one file
MAX_PASSES = 3  # over texts that a concurrent extraction commits


def extract_features_ray(
    texts: Sequence[str],
    identity: EncoderIdentity,
    store: FeatureStore,
    engine: RayEngine,
    progress: Progress,
) -> ExtractionReport:
    """Extract the missing features of these texts. Can be stopped and run again like the local engine."""
    if identity.is_object:
        raise UsageError(f"encoder {identity.config.name} is a Python object, which can't be sent to Ray's workers")
    started = time.perf_counter()
    name, features = identity.config.name, store.of(identity)
    unique = unique_by_length(texts)
    hashes = hashing.hash_texts(unique)
    truncated = 0
    missing = ~features.contains(hashes)
    if not missing.any():
        return ExtractionReport(name, len(unique), 0, 0, time.perf_counter() - started)
    with connected(engine) as pool, progress.bar(f"encoding with {name}", total=int(missing.sum())) as bar:
        bar.describe(f"encoding with {name} · {pool.workers} workers")
        commits = Commits(features.commit)
        for _ in range(MAX_PASSES):
            try:
                for part in _encoded(unique, missing, identity, store, pool, engine.device):
                    digests = hashing.from_bytes(part["hashes"])
                    commits.add((digests, part["fragments"]))
                    truncated += part["truncated"]
                    bar.advance(len(digests))
            finally:
                commits.commit()
            missing = ~features.contains(hashes)
            if not missing.any():
                return ExtractionReport(name, len(unique), commits.rows, truncated, time.perf_counter() - started)
    raise StoreError(
        f"{store.root}: {int(missing.sum()):,} texts still have no features of {name}: another extraction is "
        "writing the same features; wait for it and run the same command again"
    )


def _encoded(
    texts: list[str], missing: np.ndarray, identity: EncoderIdentity, store: FeatureStore, pool: Pool, device: Device
) -> Iterator[dict[str, Any]]:
    """Yield the results of the workers, part by part."""
    import ray.data  # noqa: PLC0415 - an extra

    with_work = [window for window in windows(len(texts)) if missing[window.start : window.stop].any()]
    size = int(np.clip(len(with_work) // (PARTS_PER_WORKER * pool.workers), 1, MAX_WINDOWS))
    parts = [
        {
            "windows": [
                {"texts": texts[w.start : w.stop], "missing": missing[w.start : w.stop].tolist()}
                for w in with_work[start : start + size]
            ]
        }
        for start in range(0, len(with_work), size)
    ]
    dataset = ray.data.from_items(parts, override_num_blocks=len(parts)).map_batches(
        _Worker,
        batch_size=1,
        batch_format="pyarrow",
        fn_constructor_kwargs={
            # Workers have another working directory, and use the precision determined here.
            "config": absolute(identity.config).model_dump(mode="json") | {"dtype": identity.dtype},
            "key": identity.key,
            "store": store.root.absolute(),
            "device": device,
            "threads": pool.cores,
        },
        **pool.arguments(),
    )
    return rows_of(dataset)


def absolute(config: EncoderConfig) -> EncoderConfig:
    """The encoder with absolute paths in place of local ones."""
    places = {"path": config.path, "projection": config.projection}
    if config.path is None and config.model not in PRESETS:
        places["model"] = config.model  # otherwise a name, even if a folder of that name exists here
    here = {name: user_path(place).absolute() for name, place in places.items() if place is not None}
    return config.model_copy(update={name: str(place) for name, place in here.items() if place.exists()})


class _Worker(Worker[tuple[TransformerEncoder, EncoderFeatures]]):
    """A worker with the encoder loaded."""

    result = pa.schema({"hashes": pa.binary(), "fragments": pa.list_(pa.string()), "truncated": pa.int64()})

    def __init__(self, config: dict[str, Any], key: str, store: str, device: Device, threads: int) -> None:
        super().__init__(lambda: _load(EncoderConfig.model_validate(config), key, store, device), threads)

    def __call__(self, part: pa.Table) -> pa.Table:
        """Encode the windows of a part and write them; returns one row with the result."""
        (row,) = part.to_pylist()
        return self.row(lambda model: _encode(*model, row["windows"]))


def _load(config: EncoderConfig, key: str, store: str, device: Device) -> tuple[TransformerEncoder, EncoderFeatures]:
    place = resolve_device(device)
    identity = identify(config, place)
    if identity.key != key:
        raise WeightsError(
            f"{config.name}: the weights on a worker differ from those on the driver "
            f"({identity.weights.folder}); copy the same files to all machines"
        )
    return load_transformer(identity, place), FeatureStore(store).of(identity)


def _encode(encoder: TransformerEncoder, features: EncoderFeatures, windows: list[dict[str, Any]]) -> dict[str, Any]:
    texts: list[str] = []
    arrays: list[np.ndarray] = []
    truncated = 0
    for window in windows:
        jobs = window_jobs(encoder, window["texts"], np.array(window["missing"]))
        for (rows, cut), batch in encode_jobs(encoder, jobs):
            for row, array in zip(rows, batch, strict=True):
                check_finite(encoder, window["texts"][row], array)
            texts += [window["texts"][row] for row in rows]
            arrays += batch
            truncated += cut
    hashes = hashing.hash_texts(texts)
    fragments = features.write_fragments(hashes, arrays, shape_of(encoder))
    return {"hashes": hashes.tobytes(), "fragments": fragments, "truncated": truncated}
