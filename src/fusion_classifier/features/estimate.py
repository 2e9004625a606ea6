"""Estimates the time and disk space of an extraction from a few texts, before it starts."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.loading import LoadedEncoder, ObjectEncoder
from fusion_classifier.support.text import duration, size

SAMPLE_SHARE = 50  # the sample is at most a fiftieth of the texts
SAMPLE_TEXTS = 32
SAMPLE_SECONDS = 3.0  # after which no further texts are tried
TEXTS_AT_ONCE = 8
MIN_SECONDS = 120  # minimum costs for a message
MIN_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Cost:
    """Estimated cost of an extraction.

    Attributes:
        name: Name of the encoder.
        texts: Number of texts.
        seconds: Time.
        bytes: Size of their features in the store.
        pooled_bytes: Size of token states if they were pooled; None for pooled features.
    """

    name: str
    texts: int
    seconds: float
    bytes: float
    pooled_bytes: float | None

    @property
    def note(self) -> str | None:
        """Message with the cost and how to reduce it; None if it is small."""
        if self.seconds < MIN_SECONDS and self.bytes < MIN_BYTES:
            return None
        said = (
            f"{self.name}: {self.texts:,} texts will take about {duration(self.seconds)} and {size(self.bytes)} in "
            f"the store ({size(self.bytes / self.texts)} per text); you can stop it and continue later"
        )
        ways = []
        if self.seconds >= MIN_SECONDS:
            ways.append("Faster: a smaller encoder, a smaller `max_length`, or a GPU")
        if self.pooled_bytes is not None and self.bytes >= MIN_BYTES:
            ways.append(
                f"Smaller: pooled features (head linear, or `pooling` mean: {size(self.pooled_bytes)}), or a "
                "projection to 8 bits or fewer dimensions (`fec project`)"
            )
        return ". ".join([said, *ways])


def estimate(encoder: LoadedEncoder, texts: Sequence[str]) -> Cost | None:
    """The cost of texts that are sorted by length, from a few of them; None if they are too few."""
    count = min(SAMPLE_TEXTS, len(texts) // SAMPLE_SHARE)
    if not count or isinstance(encoder, ObjectEncoder):
        return None
    sample = [texts[(2 * i + 1) * len(texts) // (2 * count)] for i in range(count)]
    parts = max(count // TEXTS_AT_ONCE, 1)
    encoded, stored, pooled = 0, 0, 0
    encode(encoder, sample[:1])  # the first one is slower
    started = time.perf_counter()
    for part in range(parts):
        arrays = encode(encoder, sample[part::parts])  # of all lengths
        encoded += len(arrays)
        bytes_each = [1 if array.dtype.itemsize == 1 else 2 for array in arrays]
        stored += sum(array.size * each for array, each in zip(arrays, bytes_each, strict=True))
        pooled += sum(array.size * each // len(array) for array, each in zip(arrays, bytes_each, strict=True))
        if time.perf_counter() - started > SAMPLE_SECONDS:
            break
    factor = len(texts) / encoded
    tokens = encoder.config.pooling == "tokens"
    seconds = (time.perf_counter() - started) * factor
    return Cost(encoder.config.name, len(texts), seconds, stored * factor, pooled * factor if tokens else None)
