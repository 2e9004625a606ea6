"""The name of a text in the store: 16 bytes of its SHA-256."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

# Fixed-width byte strings: all are 16 bytes long, so numpy's padding of shorter ones never matters. Never take
# single elements out of such an array: numpy would strip trailing zero bytes.
HASH_DTYPE = np.dtype("S16")
HASH_BYTES = HASH_DTYPE.itemsize
HASH_TYPE = pa.binary(HASH_BYTES)


def hash_texts(texts: Sequence[str]) -> np.ndarray:
    """The hash of each text: (N,), dtype S16."""
    data = b"".join(hashlib.sha256(text.encode()).digest()[:HASH_BYTES] for text in texts)
    return np.frombuffer(data, dtype=HASH_DTYPE)


def to_arrow(hashes: np.ndarray) -> pa.FixedSizeBinaryArray:
    """An Arrow column of hashes."""
    data = pa.py_buffer(np.ascontiguousarray(hashes).tobytes())
    return pa.FixedSizeBinaryArray.from_buffers(HASH_TYPE, len(hashes), [None, data])


def from_arrow(column: pa.ChunkedArray) -> np.ndarray:
    """The hashes of an Arrow column: (N,), dtype S16."""
    parts = []
    for chunk in column.chunks:
        data = np.frombuffer(chunk.buffers()[1], dtype=HASH_DTYPE)
        parts.append(data[chunk.offset : chunk.offset + len(chunk)])
    return np.concatenate(parts) if parts else np.empty(0, dtype=HASH_DTYPE)


def from_bytes(data: bytes) -> np.ndarray:
    """The hashes that `tobytes` of such an array gave: (N,), dtype S16."""
    return np.frombuffer(data, dtype=HASH_DTYPE)


def hexadecimal(hashes: np.ndarray) -> list[str]:
    """32 hexadecimal digits a hash."""
    data = np.ascontiguousarray(hashes).tobytes()
    return [data[i : i + HASH_BYTES].hex() for i in range(0, len(data), HASH_BYTES)]
