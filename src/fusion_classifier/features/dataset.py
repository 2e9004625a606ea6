# ruff: noqa: PLC0415 - lance is imported when a store is opened
"""One encoder's Lance dataset: its latest version, and commits that are safe with concurrent writers.

Lance commits are atomic and readers see the version they opened, so a store may be read while it is written. A commit
succeeds only if no other writer has committed since the version it is based on.
"""

import random
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from fusion_classifier.errors import StoreError, library_errors, reason
from fusion_classifier.features.place import StorePlace

if TYPE_CHECKING:
    import pyarrow as pa
    from lance.fragment import FragmentMetadata

FORMAT = 2  # format 1 had no checksums
ENDING = ".lance"
MAX_ATTEMPTS = 20  # to commit, if another writer commits first each time


class FeatureDataset:
    """The dataset of one encoder key in a store; opened when needed."""

    def __init__(self, root: StorePlace, key: str) -> None:
        self.root, self.key = root, key
        self.name = f"{key}{ENDING}"
        self.uri = root.uri(self.name)

    def lock(self) -> AbstractContextManager[Any]:
        """Lock held during a commit or deletion."""
        return self.root.locked(self.key)

    def open(self) -> Any:
        """The latest version, None if there is none yet; StoreError if it can't be read or has another format."""
        import lance

        # A first write that was killed leaves a folder without a version: nothing is lost.
        if not self.root.has_files(f"{self.name}/_versions", ".manifest"):
            return None
        with self.reading():
            dataset = lance.dataset(self.uri)
            format_ = (dataset.schema.metadata or {}).get(b"fec.format")
        if format_ != str(FORMAT).encode():
            raise StoreError(
                f"{self.uri}: written in store format {format_!r}, this version reads {FORMAT}; {self._way_out()}"
            )
        return dataset

    def attempts(self) -> Iterator[Any]:
        """Yield the latest version, again each time another writer commits first; finally raise StoreError."""
        for attempt in range(MAX_ATTEMPTS):
            if attempt:
                time.sleep(random.uniform(0, min(2.0, 0.05 * 2**attempt)))
            yield self.open()
        raise StoreError(
            f"{self.uri}: {MAX_ATTEMPTS} times in a row, another process committed first; run the same command again "
            "when fewer extractions write to this encoder's features: committed features are kept"
        )

    def write(self, table: "pa.Table", dataset: Any) -> "list[FragmentMetadata]":
        """Write data files that belong to no version yet; columns have the same ids in the first version and
        in later ones."""
        from lance.fragment import write_fragments

        mode = "create" if dataset is None else "append"
        try:
            written: list[FragmentMetadata] = write_fragments(table, self.uri, schema=table.schema, mode=mode)
        except OSError:
            if mode == "append" or (now := self.open()) is None:
                raise
            return self.write(table, now)  # another writer has made the first version in the meantime
        return written

    def swap(self, dataset: Any, schema: "pa.Schema", pieces: "list[FragmentMetadata]") -> bool:
        """Append fragments to `dataset` and commit; False if another writer has committed since it was opened.

        Lance permits concurrent appends, so a text could be stored twice. An overwrite without retries is rejected
        unless the version it is based on is still the latest. A lock ensures this on a disk. Object storage has no
        locks, but writes the file of a version only once.
        """
        import lance

        version = _version(dataset)
        before = [] if dataset is None else [part.metadata for part in dataset.get_fragments()]
        operation = lance.LanceOperation.Overwrite(schema if dataset is None else dataset.schema, before + pieces)
        try:
            lance.LanceDataset.commit(self.uri, operation, read_version=version, max_retries=0)
        except OSError:
            # If this commit succeeded and only its response was lost, the next attempt finds the texts in the store.
            if _version(self.open()) == version:
                raise
            return False
        return True

    @contextmanager
    def writing(self, *, locked: bool = True) -> Iterator[None]:
        """Hold the lock, unless disabled, and convert errors of the file system into StoreError."""
        try:
            with self.lock() if locked else nullcontext():
                yield
        except OSError as error:
            raise StoreError(
                f"{self.uri} can't be written ({reason(error)}); fix that and run the same command "
                "again: committed features are kept"
            ) from error

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Convert any error of a file or its contents into StoreError."""
        with library_errors(
            lambda why: StoreError(
                f"{self.uri} can't be read ({why}); try again, and if that does not help, {self._way_out()}"
            )
        ):
            yield

    def _way_out(self) -> str:
        # With the location: the default store may hold intact features of the same encoder.
        return (
            f"delete the features of key {self.key} in the store {self.root} (`fec store delete`), "
            "and the next extraction computes them again"
        )


def _version(dataset: Any) -> int:
    return 0 if dataset is None else int(dataset.version)
