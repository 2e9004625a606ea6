"""Extraction on this machine: encodes and commits every text that is not in the store yet.

The work is planned over all requested texts, not only the missing ones: texts sorted by length are divided into
windows, each window is tokenized and divided into batches, and committed texts are skipped. So a run that was killed
and resumed computes the same batches as an uninterrupted one, and its result is bit-identical.

Windows are processed in random order: the remaining time is estimated from a representative sample of lengths, and
two processes that write to the same store rarely work on the same texts.
"""

import logging
import random
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import psutil

from fusion_classifier.encoders.batches import Job, jobs_of
from fusion_classifier.encoders.encode import check_finite, encode_jobs
from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.encoders.loading import LoadedEncoder, ObjectEncoder, TransformerEncoder, load_identified
from fusion_classifier.encoders.protocol import PrecomputedEncoder
from fusion_classifier.features import hashing
from fusion_classifier.features.arrays import Features, FeatureShape
from fusion_classifier.features.estimate import estimate
from fusion_classifier.features.store import EncoderFeatures, FeatureStore
from fusion_classifier.features.stored import StoredFeatures
from fusion_classifier.support.progress import Progress

if TYPE_CHECKING:
    import torch

COMMIT_SECONDS = 5.0  # minimum time between commits: work lost by a kill
COMMIT_SHARE = 20  # and at least 20 times as long as a commit, which looks up all stored texts
WINDOW_TEXTS = 512  # texts tokenized ahead of the model

logger = logging.getLogger(__name__)

Part = TypeVar("Part")


@dataclass(frozen=True)
class ExtractionReport:
    """Result of an extraction for one encoder."""

    encoder: str
    texts: int  # distinct texts
    encoded: int  # the others were already in the store
    truncated: int  # of the encoded texts
    seconds: float


def extract_features(
    texts: Sequence[str],
    identity: EncoderIdentity,
    store: FeatureStore,
    device: "torch.device",
    progress: Progress,
    *,
    commit_seconds: float = COMMIT_SECONDS,
    load: Callable[[EncoderIdentity, "torch.device"], LoadedEncoder] = load_identified,
    say: Callable[[str], None] | None = None,
) -> ExtractionReport:
    """Extract the features of these texts that the store does not have.

    Can be killed at any time and run again: committed texts are not encoded again. The encoder is loaded, by `load`,
    only if texts are missing. `say` is called with a message before an extraction that takes minutes or gigabytes.

    Raises:
        WeightsError, UsageError: The encoder can't be loaded.
        DataError: An encoder object has no features for a text, or returned something else.
        NonFiniteError: The encoder computed NaN or infinity.
        StoreError: The store can't be written.
    """
    started = time.perf_counter()
    name = identity.config.name
    features = store.of(identity)
    unique = unique_by_length(texts)
    hashes = hashing.hash_texts(unique)
    lacking = ~features.contains(hashes)
    missing = int(lacking.sum())
    logger.info("features of %s", name, extra={"key": identity.key, "texts": len(unique), "missing": missing})
    if not missing:
        return ExtractionReport(name, len(unique), 0, 0, time.perf_counter() - started)
    if isinstance(identity.encoder, PrecomputedEncoder):
        identity.encoder.check(texts)
    with progress.bar(f"loading {name}", total=None):
        encoder = load(identity, device)
        cost = estimate(encoder, [unique[row] for row in np.flatnonzero(lacking)]) if say else None
    if say and cost and cost.note:
        say(cost.note)
    cut = 0

    def append(parts: list[tuple[np.ndarray, list[np.ndarray]]]) -> int:
        arrays = [array for _, of_batch in parts for array in of_batch]
        return features.append(np.concatenate([rows for rows, _ in parts]), arrays, shape_of(encoder))

    commits = Commits(append, commit_seconds)
    with progress.bar(f"encoding with {name}", total=missing) as bar:
        try:
            with closing(_encoded(encoder, unique, hashes, features)) as encoded:
                for (rows, truncated), arrays in encoded:
                    cut += truncated
                    commits.add((hashes[rows], arrays))
                    bar.advance(len(rows))
        finally:
            commits.commit()
    seconds = time.perf_counter() - started
    logger.info("encoded with %s", name, extra={"texts": commits.rows, "truncated": cut, "seconds": seconds})
    return ExtractionReport(name, len(unique), commits.rows, cut, seconds)


def unique_by_length(texts: Sequence[str]) -> list[str]:
    """The distinct texts, sorted by length, to be divided into windows."""
    return sorted(set(texts), key=lambda text: (len(text), text))


def windows(count: int) -> list[range]:
    """Rows of each window, in random order."""
    starts = range(0, count, WINDOW_TEXTS)
    # The order affects the progress, never the result.
    return [range(start, min(start + WINDOW_TEXTS, count)) for start in random.Random().sample(starts, len(starts))]


def window_jobs(
    encoder: TransformerEncoder, texts: Sequence[str], missing: np.ndarray
) -> Iterator[Job[tuple[np.ndarray, int]]]:
    """Batches of a window, restricted to `missing` (n,) texts; tags are a batch's rows and the number of truncated
    texts.

    `texts` are those of the whole window: batches do not depend on which texts are committed.
    """
    for job in jobs_of(encoder, texts):
        kept = [i for i, row in enumerate(job.tag) if missing[row]]
        if kept:
            of_kept = [[of_template[i] for i in kept] for of_template in job.by_template]
            truncated = sum(any(text.truncated for text in same) for same in zip(*of_kept, strict=True))
            yield Job((np.array([job.tag[i] for i in kept]), truncated), of_kept)


def _encoded(
    encoder: LoadedEncoder, texts: list[str], hashes: np.ndarray, features: EncoderFeatures
) -> Generator[tuple[tuple[np.ndarray, int], list[np.ndarray]]]:
    """Missing texts, batch by batch: rows, number of truncated texts, and features, all finite."""

    def missing_windows() -> Iterator[tuple[range, np.ndarray]]:
        for window in windows(len(texts)):
            missing = ~features.contains(hashes[window.start : window.stop])
            if missing.any():
                yield window, missing

    if isinstance(encoder, ObjectEncoder):
        stored = features.shape()
        encoder.shape = encoder.shape if stored is None else stored.shape
        for window, missing in missing_windows():
            rows = window.start + np.flatnonzero(missing)
            yield (rows, 0), encoder.encode([texts[row] for row in rows])
        return
    jobs = (
        Job((window.start + job.tag[0], job.tag[1]), job.by_template)
        for window, missing in missing_windows()
        for job in window_jobs(encoder, texts[window.start : window.stop], missing)
    )
    with closing(encode_jobs(encoder, jobs)) as encoded:
        for (rows, truncated), arrays in encoded:
            for row, array in zip(rows, arrays, strict=True):
                check_finite(encoder, texts[row], array)
            yield (rows, truncated), arrays


def shape_of(encoder: LoadedEncoder) -> FeatureShape:
    """Shape of an encoder's features; for an encoder object, known once it has encoded a text."""
    assert encoder.shape is not None
    return FeatureShape(encoder.shape, ragged=encoder.config.pooling == "tokens")


class Commits(Generic[Part]):
    """Collects parts and commits them every few seconds, by a function that returns the number of rows."""

    def __init__(self, commit: Callable[[list[Part]], int], seconds: float = COMMIT_SECONDS) -> None:
        self.rows = 0  # rows committed so far
        self._commit, self._seconds = commit, seconds
        self._waiting: list[Part] = []
        self._next = time.monotonic() + seconds

    def add(self, part: Part) -> None:
        """Add a part, and commit if it is due."""
        self._waiting.append(part)
        if time.monotonic() >= self._next:
            self.commit()

    def commit(self) -> None:
        """Commit the pending parts."""
        started = time.monotonic()
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            rows = self._commit(waiting)
            self.rows += rows
            logger.info("committed", extra={"texts": rows, "seconds": time.monotonic() - started})
        ended = time.monotonic()
        self._next = ended + max(self._seconds, COMMIT_SHARE * (ended - started))


def read_features(
    texts: Sequence[str], identities: Sequence[EncoderIdentity], store: FeatureStore
) -> dict[str, Features]:
    """Features of texts from the store, by encoder name; StoreError if some are missing."""
    hashes = hashing.hash_texts(texts)
    return {identity.config.name: store.of(identity).read(hashes) for identity in identities}


def open_features(
    texts: Sequence[str], identities: Sequence[EncoderIdentity], store: FeatureStore, memory: int | None
) -> dict[str, Features] | dict[str, StoredFeatures]:
    """Like `read_features`, but the features stay in the store if they exceed `memory` bytes."""
    hashes = hashing.hash_texts(texts)
    stored = {identity.config.name: store.of(identity).stored(hashes) for identity in identities}
    if memory is None or sum(values.text_bytes for values in stored.values()) * len(texts) <= memory:
        return {name: values.read(values.rows) for name, values in stored.items()}
    return {name: replace(values, memory=memory) for name, values in stored.items()}


def open_splits(
    splits: Sequence[Sequence[str]], identities: Sequence[EncoderIdentity], store: FeatureStore, memory: int
) -> list[dict[str, Features] | dict[str, StoredFeatures]]:
    """`open_features` for several splits, which share the memory in proportion to their numbers of texts."""
    rows = max(sum(map(len, splits)), 1)
    return [open_features(texts, identities, store, memory * len(texts) // rows) for texts in splits]


def memory_for_features() -> int:
    """Default memory limit for features, in bytes: half of the available memory."""
    return int(psutil.virtual_memory().available) // 2
