"""The feature store: the features of every text from every encoder, on disk.

One Lance dataset per encoder key (`STORE/<key>.lance`), one row per text:

    text_hash  16 bytes of the text's SHA-256
    feature    float16 (int8 of an encoder with a projection to 8 bits), the encoder's shape flattened; for
               token states a list of (layers · H) per token
    wide       float32, only where float16 would overflow, else null
    checksum   64 bits over all of these; a row that does not match its checksum is never read as a feature

A text is encoded once, regardless of the tasks and splits that contain it; uncommitted texts are missing, so
resuming is an anti-join; a changed encoder has another key, so stale features can't be read. Writers skip what
another one has committed in the meantime: a text is never stored twice, on disk or in object storage.

Measurements and pitfalls: docs/decisions.md.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pyarrow as pa

from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.errors import NonFiniteError, StoreError
from fusion_classifier.features import hashing
from fusion_classifier.features.arrays import Features, FeatureShape
from fusion_classifier.features.codec import (
    COLUMNS,
    READ_ROWS,
    bytes_on_disk,
    find_faults,
    hashes_in,
    read_rows,
    shape_in,
    to_table,
)
from fusion_classifier.features.dataset import ENDING, FORMAT, FeatureDataset
from fusion_classifier.features.place import StorePlace
from fusion_classifier.features.stored import StoredFeatures
from fusion_classifier.support.text import counted
from fusion_classifier.version import __version__, source_commit

CLEANED_AFTER = timedelta(days=7)  # Lance's own limit for files that belong to no version


def default_store() -> Path:
    """Default folder of the store, in the user's cache."""
    return Path(platformdirs.user_cache_dir("fec")) / "features"


@dataclass(frozen=True)
class StoreEntry:
    """One encoder's features in the store."""

    key: str
    encoder: str
    shape: tuple[int, ...]
    ragged: bool
    dtype: str
    """Precision of the computation; empty for an encoder object."""
    rows: int
    bytes: int
    begun_by: dict[str, str | None]
    """Version and commit of the package that wrote the first row."""


class FeatureStore:
    """Lance datasets, one per encoder, in a folder or in object storage.

    Args:
        root: Folder, or `s3://bucket/prefix`. Default: in the user's cache.
    """

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self.root = StorePlace.of(default_store() if root is None else root)
        self._opened: dict[tuple[str, str], EncoderFeatures] = {}  # by key and name, with their indexes

    def of(self, identity: EncoderIdentity) -> "EncoderFeatures":
        """Features of one encoder; there may be none yet."""
        key = identity.key
        return self._opened.setdefault((key, identity.config.name), EncoderFeatures(self.root, key, identity))

    def keys(self) -> list[str]:
        """Keys of all encoders with features in the store."""
        return [name.removesuffix(ENDING) for name in self.root.folders() if name.endswith(ENDING)]

    def entries(self) -> list[StoreEntry]:
        """Contents of the store; StoreError if a dataset can't be read."""
        return [EncoderFeatures(self.root, key).entry() for key in self.keys()]

    def find(self, name: str) -> list[str]:
        """Keys that start with `name`, or whose encoder has this name."""
        return [entry.key for entry in self.entries() if entry.key.startswith(name) or entry.encoder == name]

    def verify(self, key: str) -> Iterator[str]:
        """Problems of one encoder's features: unreadable, damaged, duplicated, wrong shape, not finite."""
        return EncoderFeatures(self.root, key).problems()

    def clean(self, key: str, *, now: bool = False) -> int:
        """Remove one encoder's old versions and uncommitted files; the bytes freed. See `EncoderFeatures.clean`."""
        return EncoderFeatures(self.root, key).clean(now=now)

    def delete(self, key: str) -> None:
        """Delete one encoder's features. In object storage, which has no locks, only while nobody writes them."""
        data = FeatureDataset(self.root, key)
        with data.lock():
            if self.root.exists(data.name):
                self.root.remove(data.name)


class EncoderFeatures:
    """Features of one encoder. Its identity is needed only for writing."""

    def __init__(self, root: StorePlace, key: str, identity: EncoderIdentity | None = None) -> None:
        self.root, self.key = root, key
        self.data = FeatureDataset(root, key)
        self.uri = self.data.uri
        self._identity = identity
        self._index: tuple[object, np.ndarray, np.ndarray] | None = None  # state, sorted hashes, their rows

    def _indexed(self, dataset: Any) -> tuple[np.ndarray, np.ndarray]:
        """Sorted hashes of a version, and their rows."""
        if dataset is None:
            return np.empty(0, dtype=hashing.HASH_DTYPE), np.empty(0, dtype=np.int64)
        with self.data.reading():
            state, index = _state(dataset), self._index
            if index is None or index[0] != state:
                hashes = hashes_in(dataset.to_table(columns=["text_hash"]))
                order = np.argsort(hashes, kind="stable")
                self._index = index = (state, hashes[order], order)
        return index[1], index[2]

    def contains(self, hashes: np.ndarray) -> np.ndarray:
        """Mask of the texts with committed features: (N,), bool."""
        return self._contained(self.data.open(), hashes)

    def _contained(self, dataset: Any, hashes: np.ndarray) -> np.ndarray:
        return _positions(self._indexed(dataset)[0], hashes) >= 0

    def shape(self) -> FeatureShape | None:
        """Shape of the features; None if there are none yet."""
        dataset = self.data.open()
        if dataset is None:
            return None
        with self.data.reading():
            return shape_in(dataset.schema)

    def entry(self) -> StoreEntry:
        """Encoder, shape, rows and size on disk; StoreError if there are no features, or damaged ones."""
        dataset = self.data.open()
        if dataset is None:
            raise StoreError(f"{self.uri} contains no features")
        metadata = dataset.schema.metadata
        with self.data.reading():
            shape = shape_in(dataset.schema)
            settings, begun_by = (json.loads(metadata[name]) for name in (b"fec.settings", b"fec.begun_by"))
            return StoreEntry(
                key=self.key,
                encoder=metadata[b"fec.encoder"].decode(),
                shape=shape.shape,
                ragged=shape.ragged,
                dtype=settings.get("dtype", ""),
                rows=dataset.count_rows(),
                bytes=bytes_on_disk(dataset),
                begun_by=begun_by,
            )

    # --- writing -------------------------------------------------------------------------------------------

    def append(self, hashes: np.ndarray, features: list[np.ndarray], shape: FeatureShape) -> int:
        """Commit the features of some texts atomically, without texts that were committed in the meantime.

        Args:
            hashes: Distinct hashes (N,), dtype S16.
            features: N arrays of `shape`, or of (L, layers, H) if it is ragged; float32 or int8.
            shape: Shape of the encoder's features.

        Returns:
            Number of rows written.

        Raises:
            NonFiniteError: A feature contains NaN or infinity; nothing is written.
            StoreError: The store can't be written.
        """
        metadata = self._checked_metadata(hashes, features)
        with self.data.writing():
            for dataset in self.data.attempts():
                new = ~self._contained(dataset, hashes)
                if not new.any():
                    break
                kept = [feature for feature, is_new in zip(features, new, strict=True) if is_new]
                table = to_table(hashes[new], kept, shape, metadata)
                if self.data.swap(dataset, table.schema, self.data.write(table, dataset)):
                    return int(new.sum())
        return 0

    def write_fragments(self, hashes: np.ndarray, features: list[np.ndarray], shape: FeatureShape) -> list[str]:
        """Write features like `append`, but without a commit: for a worker, whose driver commits.

        Returns:
            Fragments as JSON, for `commit`. Uncommitted fragments are files that nobody reads and that `clean`
            removes.
        """
        metadata = self._checked_metadata(hashes, features)
        with self.data.writing(locked=False):
            table = to_table(hashes, features, shape, metadata)
            written = self.data.write(table, self.data.open())
        schema = table.schema.serialize().to_pybytes().hex()
        return [json.dumps({"schema": schema, "fragment": fragment.to_json()}) for fragment in written]

    def commit(self, fragments: list[tuple[np.ndarray, list[str]]]) -> int:
        """Commit fragments atomically, without those that have a text committed in the meantime.

        Args:
            fragments: Hashes of each part, and the result of `write_fragments` for it; no text in two parts.

        Returns:
            Number of rows.
        """
        from lance.fragment import FragmentMetadata  # noqa: PLC0415 - slow to import; not every command opens a store

        with self.data.writing():
            for dataset in self.data.attempts():
                wanted = [
                    (hashes, parts) for hashes, parts in fragments if not self._contained(dataset, hashes).any()
                ]
                parts = [json.loads(text) for _, texts in wanted for text in texts]
                if not parts:
                    break
                schema = pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(parts[0]["schema"])))
                pieces = [FragmentMetadata.from_json(json.dumps(part["fragment"])) for part in parts]
                if self.data.swap(dataset, schema, pieces):
                    return sum(len(hashes) for hashes, _ in wanted)
        return 0

    def _checked_metadata(self, hashes: np.ndarray, features: list[np.ndarray]) -> dict[str, str]:
        """Check that the features are finite; metadata of a dataset with them."""
        if self._identity is None:
            raise StoreError(f"{self.uri} was opened without its encoder, so nothing can be added")
        name = self._identity.config.name
        for digest, feature in zip(hashing.hexadecimal(hashes), features, strict=True):
            if not np.isfinite(feature).all():
                raise NonFiniteError(f"{name}: NaN or infinity in the feature of text {digest}")
        return {
            "fec.format": str(FORMAT),
            "fec.encoder": name,
            "fec.settings": json.dumps(self._identity.settings),
            "fec.begun_by": json.dumps({"version": __version__, "commit": source_commit()}),
        }

    # --- reading -------------------------------------------------------------------------------------------

    def read(self, hashes: np.ndarray) -> Features:
        """Features of texts, in their order; a text may occur more than once.

        Args:
            hashes: (N,), dtype S16.

        Returns:
            float16, or float32 if any of these features does not fit into float16; int8 if they are stored as int8.

        Raises:
            StoreError: Some are missing.
        """
        stored = self.stored(hashes)
        return stored.read(stored.rows)

    def stored(self, hashes: np.ndarray) -> StoredFeatures:
        """Like `read`, but the features stay in the store and are read in parts."""
        dataset = self.data.open()
        name = self._identity.config.name if self._identity else self.key
        known, rows = self._indexed(dataset)
        positions = _positions(known, hashes)
        if dataset is None or (positions < 0).any():
            raise StoreError(
                f"{self.root}: no features of encoder {name} for {int((positions < 0).sum()):,} of {len(hashes):,} "
                "texts; run `fec extract` with the same task and encoder"
            )

        def read(wanted: np.ndarray) -> Features:
            in_store, inverse = np.unique(wanted, return_inverse=True)
            with self.data.reading():
                features = read_rows(dataset, in_store)
            in_order = len(inverse) == len(in_store) and bool((np.diff(inverse) == 1).all())
            return features if in_order else features.take(inverse)

        text_bytes = bytes_on_disk(dataset) / max(len(known), 1)
        return StoredFeatures(shape_in(dataset.schema), rows[positions], text_bytes, read)

    def clean(self, *, now: bool = False) -> int:
        """Remove old versions, and files that belong to no version, such as those of a killed worker.

        Args:
            now: Whether to also remove files that are less than a week old, which a running command may still use.

        Returns:
            Bytes removed.
        """
        with self.data.writing():
            dataset = self.data.open()
            if dataset is None:
                return 0
            age = timedelta(0) if now else CLEANED_AFTER
            return int(dataset.cleanup_old_versions(older_than=age, delete_unverified=now).bytes_removed)

    def problems(self) -> Iterator[str]:
        """Problems of these features, one sentence each."""
        try:
            dataset = self.data.open()
            if dataset is None:
                yield "contains no committed features"
                return
            hashes, _ = self._indexed(dataset)
            duplicated = int((hashes[1:] == hashes[:-1]).sum())
            if duplicated:
                yield f"{counted(duplicated, 'text')} stored twice"
            with self.data.reading():
                for batch in dataset.to_batches(columns=COLUMNS, batch_size=READ_ROWS):
                    yield from find_faults(pa.Table.from_batches([batch]), shape_in(dataset.schema))
        except StoreError as error:
            yield str(error)


def _state(dataset: Any) -> object:
    """Identifier of a version, unique even if the dataset was deleted and its version numbers start again."""
    return dataset.version, [file.path for part in dataset.get_fragments()[-1:] for file in part.data_files()]


def _positions(known: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Position of each hash in the sorted `known`, -1 if it is missing."""
    if not len(known):
        return np.full(len(hashes), -1, dtype=np.int64)
    places = np.searchsorted(known, hashes)
    places[places == len(known)] = 0
    return np.where(known[places] == hashes, places, -1)
