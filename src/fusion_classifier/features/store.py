"""The feature store: what every encoder made of every text, on disk, for good.

One Lance dataset an encoder key (`STORE/<key>.lance`), one row a text:

    text_hash  16 bytes of the text's SHA-256
    feature    float16 (int8 of an encoder with a projection to 8 bits), the encoder's shape flattened; for
               token states a list of (layers · H) a token
    wide       float32, only where float16 would overflow, else null
    checksum   64 bits over all of these; a row that does not fit its checksum is never read as a feature

What follows from that: a text is encoded once whatever task or split it is in; what is not committed is
missing, so resuming is an anti-join; a changed encoder has another key, so nothing stale can be read. Lance
commits are atomic and readers see the version they opened, so a store may be read while it is written.
Writers drop what another one has committed meanwhile, and a commit goes through only if nobody has committed since
that was looked up: a text never stands there twice, on a disk or in object storage.

Measured figures and traps: docs/decisions.md.
"""

import json
import os
import random
import shlex
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import numpy as np
import platformdirs
import pyarrow as pa
from lance.fragment import FragmentMetadata, write_fragments

from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.errors import NonFiniteError, StoreError, reason, said_of
from fusion_classifier.features import hashing
from fusion_classifier.features.arrays import Features, FeatureShape
from fusion_classifier.features.codec import (
    COLUMNS,
    READ_ROWS,
    bytes_on_disk,
    find_faults,
    read_rows,
    shape_in,
    to_table,
)
from fusion_classifier.features.place import Place
from fusion_classifier.features.stored import StoredFeatures
from fusion_classifier.version import __version__, source_commit

FORMAT = 2  # 1 had no checksums
ENDING = ".lance"
MOST_ATTEMPTS = 20  # to commit, when another writer is quicker each time
CLEANED_AFTER = timedelta(days=7)  # Lance's own limit for files that are in no version


def default_store() -> Path:
    """Where features are kept unless told otherwise: the user's cache folder."""
    return Path(platformdirs.user_cache_dir("fec")) / "features"


@dataclass(frozen=True)
class StoreEntry:
    """One encoder's features in the store."""

    key: str
    encoder: str
    shape: tuple[int, ...]
    ragged: bool
    dtype: str
    rows: int
    bytes: int
    begun_by: dict[str, str | None]
    """Version and commit of the package that wrote the first row."""


class FeatureStore:
    """Lance datasets, one an encoder, in a folder or in object storage."""

    def __init__(self, root: str | os.PathLike[str] | None = None) -> None:
        self.root = Place.of(default_store() if root is None else root)

    def of(self, identity: EncoderIdentity) -> "EncoderFeatures":
        """The features of one encoder, there or not."""
        return EncoderFeatures(self.root, identity.key, identity)

    def keys(self) -> list[str]:
        """The keys of all encoders with features here."""
        return [name.removesuffix(ENDING) for name in self.root.folders() if name.endswith(ENDING)]

    def entries(self) -> list[StoreEntry]:
        """What is in the store.

        Raises:
            StoreError: a dataset that can't be read.
        """
        return [EncoderFeatures(self.root, key).entry() for key in self.keys()]

    def find(self, name: str) -> list[str]:
        """Keys that begin with `name`, or whose encoder is called so."""
        return [entry.key for entry in self.entries() if entry.key.startswith(name) or entry.encoder == name]

    def verify(self, key: str) -> Iterator[str]:
        """Problems found in one encoder's features: unreadable, damaged, doubled, of a wrong shape, not finite."""
        return EncoderFeatures(self.root, key).problems()

    def clean(self, key: str, *, now: bool = False) -> int:
        """Bytes freed by removing one encoder's old versions and uncommitted files; see `EncoderFeatures.clean`."""
        return EncoderFeatures(self.root, key).clean(now=now)

    def delete(self, key: str) -> None:
        """Delete one encoder's features. In object storage only while nobody writes them: it has no locks."""
        features = EncoderFeatures(self.root, key)
        with features.lock():
            if self.root.exists(features.name):
                self.root.remove(features.name)


class EncoderFeatures:
    """The features of one encoder. Cheap to make; opens its dataset when needed."""

    def __init__(self, root: Place, key: str, identity: EncoderIdentity | None = None) -> None:
        self.root = root
        self.key = key
        self.name = f"{key}{ENDING}"
        self.uri = root.uri(self.name)
        self._identity = identity
        self._index: tuple[int, np.ndarray, np.ndarray] | None = None  # version, sorted hashes, their rows

    def lock(self) -> AbstractContextManager[None]:
        """Held for the moment of a commit, or a deletion."""
        return self.root.locked(self.key)

    def _begun(self) -> bool:
        """Whether there is a folder, with or without features."""
        return self.root.exists(self.name)

    def _open(self) -> Any:
        """The newest version of the dataset, or None if there is none yet."""
        if not self._begun():
            return None
        dataset = self._dataset()
        if dataset is None:
            # A killed first write leaves a folder without a version: nothing is lost, nothing is there.
            if not self.root.has_files(f"{self.name}/_versions", ".manifest"):
                return None
            dataset = self._dataset(must_be=True)  # another writer's first commit went through between the two looks
        with self._reading():
            format_ = (dataset.schema.metadata or {}).get(b"fec.format")
        if format_ != str(FORMAT).encode():
            raise StoreError(
                f"{self.uri}: written in store format {format_!r}, this version reads {FORMAT}; {self._way_out()}"
            )
        return dataset

    def _dataset(self, *, must_be: bool = False) -> Any:
        """The dataset as Lance opens it; None if Lance finds no version of it, unless it `must_be` there."""
        with self._reading():
            try:
                return lance.dataset(self.uri)
            except ValueError:
                if must_be:
                    raise
                return None

    def _way_out(self) -> str:
        # With the place: the default store may hold features of the same encoder that are well.
        command = f"fec store delete {self.key} --store {shlex.quote(str(self.root))}"
        return f"`{command}` removes it, and the next extraction makes it anew"

    # --- what is there -------------------------------------------------------------------------------------

    def _indexed(self, dataset: Any) -> tuple[np.ndarray, np.ndarray]:
        """The hashes of a version, sorted, and the row of each."""
        if self._index is None or self._index[0] != dataset.version:
            with self._reading():
                hashes = hashing.from_arrow(dataset.to_table(columns=["text_hash"])["text_hash"])
            order = np.argsort(hashes, kind="stable")
            self._index = (dataset.version, hashes[order], order)
        return self._index[1], self._index[2]

    def contains(self, hashes: np.ndarray) -> np.ndarray:
        """Which of these texts have committed features: (N,), bool."""
        return self._contained(self._open(), hashes)

    def _contained(self, dataset: Any, hashes: np.ndarray) -> np.ndarray:
        if dataset is None:
            return np.zeros(len(hashes), dtype=bool)
        known, _ = self._indexed(dataset)
        return _positions(known, hashes) >= 0

    def entry(self) -> StoreEntry:
        """Encoder, shape, rows and size on disk."""
        dataset = self._open()
        if dataset is None:
            raise StoreError(f"{self.uri}: holds no features")
        metadata = dataset.schema.metadata
        with self._reading():
            shape, ragged = shape_in(dataset.schema)
            settings, begun_by = (json.loads(metadata[name]) for name in (b"fec.settings", b"fec.begun_by"))
            return StoreEntry(
                key=self.key,
                encoder=metadata[b"fec.encoder"].decode(),
                shape=shape,
                ragged=ragged,
                dtype=settings["dtype"],
                rows=dataset.count_rows(),
                bytes=bytes_on_disk(dataset),
                begun_by=begun_by,
            )

    # --- writing -------------------------------------------------------------------------------------------

    def append(self, hashes: np.ndarray, features: list[np.ndarray], shape: FeatureShape) -> int:
        """Commit the features of some texts, all or nothing; texts committed meanwhile are left out.

        Args:
            hashes: (N,), dtype S16, no two equal.
            features: N arrays of `shape`, or (L, layers, H) each where that is ragged; float32 or int8.
            shape: the encoder's.

        Returns:
            How many rows were written.

        Raises:
            NonFiniteError: a feature with NaN or infinity; nothing is written.
        """
        self._check_finite(hashes, features)
        with self._writing():
            for dataset in self._attempts():
                new = ~self._contained(dataset, hashes)
                if not new.any():
                    return 0
                kept = [feature for feature, is_new in zip(features, new, strict=True) if is_new]
                table = self._table(hashes[new], kept, shape)
                if self._swap(dataset, table.schema, self._write(table, dataset)):
                    return int(new.sum())
        raise self._outrun()

    def write_fragments(self, hashes: np.ndarray, features: list[np.ndarray], shape: FeatureShape) -> list[str]:
        """Write features without committing them: for a worker, whose driver commits.

        Args:
            hashes: as for `append`.
            features: as for `append`.
            shape: as for `append`.

        Returns:
            What `commit` takes, as JSON. Fragments that are never committed are files that nobody reads, until
            `clean` removes them.

        Raises:
            NonFiniteError, StoreError: as for `append`.
        """
        self._check_finite(hashes, features)
        try:
            table = self._table(hashes, features, shape)
            written = self._write(table, self._open())
        except OSError as error:
            raise self._not_written(error) from error
        schema = table.schema.serialize().to_pybytes().hex()
        return [json.dumps({"schema": schema, "fragment": fragment.to_json()}) for fragment in written]

    def commit(self, fragments: list[tuple[np.ndarray, list[str]]]) -> int:
        """Make fragments visible, all or nothing; those with a text committed meanwhile are left out.

        Args:
            fragments: the hashes of each part and what `write_fragments` gave for it; no text in two parts.

        Returns:
            How many rows.

        Raises:
            StoreError: the store can't be written.
        """
        with self._writing():
            for dataset in self._attempts():
                wanted = [
                    (hashes, parts) for hashes, parts in fragments if not self._contained(dataset, hashes).any()
                ]
                parts = [json.loads(text) for _, texts in wanted for text in texts]
                if not parts:
                    return 0
                schema = pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(parts[0]["schema"])))
                pieces = [FragmentMetadata.from_json(json.dumps(part["fragment"])) for part in parts]
                if self._swap(dataset, schema, pieces):
                    return sum(len(hashes) for hashes, _ in wanted)
        raise self._outrun()

    def _attempts(self) -> Iterator[Any]:
        """The newest version of the dataset, again and again: each time another writer was quicker."""
        for attempt in range(MOST_ATTEMPTS):
            if attempt:
                time.sleep(random.uniform(0, min(2.0, 0.05 * 2**attempt)))
            yield self._open()

    def _write(self, table: pa.Table, dataset: Any) -> list[FragmentMetadata]:
        """Data files of their own, which no version holds yet; columns are numbered alike whether it is the first."""
        mode = "create" if dataset is None else "append"
        try:
            written: list[FragmentMetadata] = write_fragments(table, self.uri, schema=table.schema, mode=mode)
        except OSError:
            if mode == "append" or (now := self._open()) is None:
                raise
            return self._write(table, now)  # another writer has made the first version meanwhile
        return written

    def _swap(self, dataset: Any, schema: pa.Schema, pieces: list[FragmentMetadata]) -> bool:
        """Commit fragments after those of `dataset`; False if another writer has committed since that was opened.

        Lance lets an append through beside another one, so a text could come to stand there twice. An overwrite
        without retries is refused unless the version it was planned on is the newest still: on a disk, where the
        lock keeps others out, and in object storage, which has no locks but writes a version's file only once.
        """
        version = _version(dataset)
        before = [] if dataset is None else [part.metadata for part in dataset.get_fragments()]
        operation = lance.LanceOperation.Overwrite(schema if dataset is None else dataset.schema, before + pieces)
        try:
            lance.LanceDataset.commit(self.uri, operation, read_version=version, max_retries=0)
        except OSError:
            # If this commit itself went through and only its answer was lost, the next attempt finds the texts there.
            if _version(self._open()) == version:
                raise
            return False
        return True

    def _outrun(self) -> StoreError:
        return StoreError(
            f"{self.uri}: {MOST_ATTEMPTS} times in a row another writer was quicker; run the same command again when "
            "fewer extractions write to this encoder's features: what was committed before is kept"
        )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Held for a commit; what goes wrong with files is named."""
        try:
            with self.lock():
                yield
        except OSError as error:
            raise self._not_written(error) from error

    def _not_written(self, error: OSError) -> StoreError:
        return StoreError(
            f"{self.uri}: can't be written ({reason(error)}); mend that and run the same command "
            "again: what was committed before is kept"
        )

    def _check_finite(self, hashes: np.ndarray, features: list[np.ndarray]) -> None:
        if self._identity is None:
            raise StoreError(f"{self.uri}: was opened without its encoder, so nothing can be added")
        for digest, feature in zip(hashing.hexadecimal(hashes), features, strict=True):
            if not np.isfinite(feature).all():
                raise NonFiniteError(f"{self._identity.config.name}: NaN or infinity in the feature of text {digest}")

    def _table(self, hashes: np.ndarray, features: list[np.ndarray], shape: FeatureShape) -> pa.Table:
        width = int(np.prod(shape.shape))
        flat = [feature.reshape(-1, width) for feature in features]
        schema = self._schema(shape, flat[0].dtype)
        return to_table(hashes, np.concatenate(flat), [len(feature) for feature in flat], shape, schema)

    def _schema(self, shape: FeatureShape, dtype: np.dtype[Any]) -> pa.Schema:
        assert self._identity is not None
        metadata = {
            "fec.format": str(FORMAT),
            "fec.encoder": self._identity.config.name,
            "fec.settings": json.dumps(self._identity.settings),
            "fec.shape": json.dumps({"shape": list(shape.shape), "ragged": shape.ragged}),
            "fec.begun_by": json.dumps({"version": __version__, "commit": source_commit()}),
        }
        flat = pa.list_(pa.int8() if dtype == np.int8 else pa.float16(), int(np.prod(shape.shape)))
        feature = pa.list_(flat) if shape.ragged else flat
        fields = [
            ("text_hash", hashing.HASH_TYPE),
            ("feature", feature),
            ("wide", pa.list_(pa.float32())),
            ("checksum", pa.uint64()),
        ]
        return pa.schema(fields, metadata=metadata)

    # --- reading -------------------------------------------------------------------------------------------

    def read(self, hashes: np.ndarray) -> Features:
        """The features of texts, in their order; a text may be asked for more than once.

        Args:
            hashes: (N,), dtype S16.

        Returns:
            float16, or float32 if any of these features does not fit into float16; int8 where they are kept so.

        Raises:
            StoreError: some are not there.
        """
        stored = self.stored(hashes)
        return stored.read(stored.rows)

    def stored(self, hashes: np.ndarray) -> StoredFeatures:
        """The same, left where they are to be read a part at a time.

        Raises:
            StoreError: some are not there.
        """
        dataset = self._open()
        name = self._identity.config.name if self._identity else self.key
        known, rows = self._indexed(dataset) if dataset is not None else (hashes[:0], np.empty(0, dtype=np.int64))
        positions = _positions(known, hashes)
        if dataset is None or (positions < 0).any():
            raise StoreError(
                f"{self.root}: no features of encoder {name} for {int((positions < 0).sum()):,} of {len(hashes):,} "
                "texts; run fec extract with the same task and encoder"
            )
        shape, ragged = shape_in(dataset.schema)

        def read(wanted: np.ndarray) -> Features:
            in_store, inverse = np.unique(wanted, return_inverse=True)
            with self._reading():
                features = read_rows(dataset, in_store)
            in_order = len(inverse) == len(in_store) and bool((np.diff(inverse) == 1).all())
            return features if in_order else features.take(inverse)

        return StoredFeatures(
            FeatureShape(shape, ragged), rows[positions], bytes_on_disk(dataset) / max(len(known), 1), read
        )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """What is wrong with a file, or with what it says, is named."""
        with said_of(
            lambda why: StoreError(
                f"{self.uri}: can't be read ({why}); try again, and if that does not help, {self._way_out()}"
            )
        ):
            yield

    def clean(self, *, now: bool = False) -> int:
        """Remove old versions and files that no version holds, such as those of a killed worker.

        Args:
            now: also what is not a week old, which a running extraction or training may be about to use.

        Returns:
            Bytes removed.

        Raises:
            StoreError: the store can't be written.
        """
        with self._writing():
            dataset = self._open()
            if dataset is None:
                return 0
            age = timedelta(0) if now else CLEANED_AFTER
            return int(dataset.cleanup_old_versions(older_than=age, delete_unverified=now).bytes_removed)

    def problems(self) -> Iterator[str]:
        """Everything wrong with these features, a sentence each."""
        try:
            dataset = self._open()
            if dataset is None:
                yield "holds no committed features"
                return
            hashes, _ = self._indexed(dataset)
            doubled = int((hashes[1:] == hashes[:-1]).sum())
            if doubled:
                yield f"{doubled:,} texts stand there twice"
            with self._reading():
                shape, ragged = shape_in(dataset.schema)
                for batch in dataset.to_batches(columns=COLUMNS, batch_size=READ_ROWS):
                    yield from find_faults(pa.Table.from_batches([batch]), shape, ragged)
        except StoreError as error:
            yield str(error)


def _positions(known: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """The place of each hash in the sorted `known`, -1 where it is not there."""
    if not len(known):
        return np.full(len(hashes), -1, dtype=np.int64)
    places = np.searchsorted(known, hashes)
    places[places == len(known)] = 0
    return np.where(known[places] == hashes, places, -1)


def _version(dataset: Any) -> int:
    return 0 if dataset is None else int(dataset.version)
