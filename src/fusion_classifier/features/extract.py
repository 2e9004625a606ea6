"""Extraction on this machine: every text that is not in the store yet is encoded and committed.

The work is planned over all texts asked for, not over those still missing: texts sorted by length are cut
into windows, a window is tokenized and cut into batches, and what is committed already is skipped. So a run that was
killed and resumed computes the same batches as one that was not, and ends with the same bits.

Windows are visited in random order: the remaining time is estimated on a fair sample of lengths, and two
processes that fill the same store seldom work on the same texts.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import psutil
import torch

from fusion_classifier.encoders.encode import Job, check_finite, encode_jobs, jobs_of
from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.encoders.loading import Encoder, load_identified
from fusion_classifier.features import hashing
from fusion_classifier.features.arrays import Features, FeatureShape
from fusion_classifier.features.store import EncoderFeatures, FeatureStore
from fusion_classifier.features.stored import StoredFeatures
from fusion_classifier.support.progress import Progress

COMMIT_SECONDS = 5.0  # between commits at least: work that a kill can cost
COMMIT_SHARE = 20  # and 20 times what a commit takes: it looks up all texts that are there
WINDOW_TEXTS = 512  # texts tokenized ahead of the model

logger = logging.getLogger(__name__)

Part = TypeVar("Part")


@dataclass(frozen=True)
class ExtractionReport:
    """What an extraction did for one encoder."""

    encoder: str
    texts: int
    encoded: int
    truncated: int
    seconds: float


def extract_features(
    texts: Sequence[str],
    identity: EncoderIdentity,
    store: FeatureStore,
    device: torch.device,
    progress: Progress,
    *,
    commit_seconds: float = COMMIT_SECONDS,
    load: Callable[[EncoderIdentity, torch.device], Encoder] = load_identified,
) -> ExtractionReport:
    """Make sure that the store holds the features of these texts.

    Can be stopped at any moment, by SIGKILL too, and run again: what was committed is not encoded again. The model is
    loaded, by `load`, only where texts are missing.

    Raises:
        WeightsError, UsageError: the encoder can't be loaded.
        NonFiniteError: the model gave NaN or infinity.
        StoreError: the store can't be written.
    """
    started = time.perf_counter()
    name = identity.config.name
    features = store.of(identity)
    unique = unique_by_length(texts)
    hashes = hashing.hash_texts(unique)
    missing = int((~features.contains(hashes)).sum())
    logger.info("features of %s", name, extra={"key": identity.key, "texts": len(unique), "missing": missing})
    if not missing:
        return ExtractionReport(name, len(unique), 0, 0, time.perf_counter() - started)
    with progress.bar(f"loading {name}", total=None):
        encoder = load(identity, device)
    shape, cut = shape_of(encoder), 0

    def append(parts: list[tuple[np.ndarray, list[np.ndarray]]]) -> int:
        arrays = [array for _, of_batch in parts for array in of_batch]
        return features.append(np.concatenate([rows for rows, _ in parts]), arrays, shape)

    commits = Commits(append, commit_seconds)
    with progress.bar(f"encoding with {name}", total=missing) as bar:
        try:
            with closing(encode_jobs(encoder, _jobs(encoder, unique, hashes, features))) as encoded:
                for (rows, truncated), arrays in encoded:
                    for row, array in zip(rows, arrays, strict=True):
                        check_finite(encoder, unique[row], array)
                    cut += truncated
                    commits.add((hashes[rows], arrays))
                    bar.advance(len(rows))
        finally:
            commits.commit()
    seconds = time.perf_counter() - started
    logger.info("encoded with %s", name, extra={"texts": commits.rows, "truncated": cut, "seconds": seconds})
    return ExtractionReport(name, len(unique), commits.rows, cut, seconds)


def unique_by_length(texts: Sequence[str]) -> list[str]:
    """Each text once, by length: what windows are cut from."""
    return sorted(set(texts), key=lambda text: (len(text), text))


def windows(count: int) -> list[range]:
    """The rows of each window, in random order."""
    starts = range(0, count, WINDOW_TEXTS)
    # The order affects only the course of the work, never a result.
    return [range(start, min(start + WINDOW_TEXTS, count)) for start in random.sample(starts, len(starts))]


def window_jobs(encoder: Encoder, texts: Sequence[str], missing: np.ndarray) -> Iterator[Job[tuple[np.ndarray, int]]]:
    """The batches of a window without what is committed; a tag is a batch's rows and how many of its texts were cut.

    Args:
        encoder: the model.
        texts: all of the window: batches are the same whatever is committed of them.
        missing: (n,), bool.
    """
    for job in jobs_of(encoder, texts):
        kept = [i for i, row in enumerate(job.tag) if missing[row]]
        if kept:
            of_kept = [[of_template[i] for i in kept] for of_template in job.by_template]
            truncated = sum(any(text.truncated for text in same) for same in zip(*of_kept, strict=True))
            yield Job((np.array([job.tag[i] for i in kept]), truncated), of_kept)


def _jobs(
    encoder: Encoder, texts: list[str], hashes: np.ndarray, features: EncoderFeatures
) -> Iterator[Job[tuple[np.ndarray, int]]]:
    """What is missing, window by window."""
    for window in windows(len(texts)):
        missing = ~features.contains(hashes[window.start : window.stop])
        if missing.any():
            for job in window_jobs(encoder, texts[window.start : window.stop], missing):
                rows, truncated = job.tag
                yield Job((window.start + rows, truncated), job.by_template)


def shape_of(encoder: Encoder) -> FeatureShape:
    """The shape of an encoder's features."""
    return FeatureShape(encoder.shape, ragged=encoder.config.pooling == "tokens")


class Commits(Generic[Part]):
    """Collects what is to be committed, and commits it every few seconds; `rows` are those committed so far."""

    def __init__(self, commit: Callable[[list[Part]], int], seconds: float = COMMIT_SECONDS) -> None:
        self.rows = 0
        self._commit, self._seconds = commit, seconds
        self._waiting: list[Part] = []
        self._next = time.monotonic() + seconds

    def add(self, part: Part) -> None:
        """Takes a part, and commits if it is time."""
        self._waiting.append(part)
        if time.monotonic() >= self._next:
            self.commit()

    def commit(self) -> None:
        """Commits what waits."""
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
    """The features of texts from the store, by encoder name.

    Raises:
        StoreError: some are not there.
    """
    hashes = hashing.hash_texts(texts)
    return {identity.config.name: store.of(identity).read(hashes) for identity in identities}


def open_features(
    texts: Sequence[str], identities: Sequence[EncoderIdentity], store: FeatureStore, memory: int | None
) -> dict[str, Features] | dict[str, StoredFeatures]:
    """The features of texts by encoder name: in memory if all fit into `memory` bytes, else left in the store.

    Without `memory` they are read in any case.

    Raises:
        StoreError: some are not there.
    """
    hashes = hashing.hash_texts(texts)
    stored = {identity.config.name: store.of(identity).stored(hashes) for identity in identities}
    if memory is None or sum(values.text_bytes for values in stored.values()) * len(texts) <= memory:
        return {name: values.read(values.rows) for name, values in stored.items()}
    return {name: replace(values, memory=memory) for name, values in stored.items()}


def open_splits(
    splits: Sequence[Sequence[str]], identities: Sequence[EncoderIdentity], store: FeatureStore, memory: int
) -> list[dict[str, Features] | dict[str, StoredFeatures]]:
    """`open_features` of several splits that are used together; each has its share of the memory by its texts."""
    rows = max(sum(map(len, splits)), 1)
    return [open_features(texts, identities, store, memory * len(texts) // rows) for texts in splits]


def memory_for_features() -> int:
    """Bytes that features in memory may take unless told otherwise: half of what is available now."""
    return int(psutil.virtual_memory().available) // 2
