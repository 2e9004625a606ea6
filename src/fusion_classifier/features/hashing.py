"""The key of a text in the store: 16 bytes of its SHA-256."""

import hashlib
from collections.abc import Sequence

import numpy as np

# Fixed-width byte strings: all are 16 bytes long, so numpy's padding of shorter ones never matters. Never read single
# elements of such an array: numpy would strip trailing zero bytes.
HASH_DTYPE = np.dtype("S16")
HASH_BYTES = HASH_DTYPE.itemsize


def hash_texts(texts: Sequence[str]) -> np.ndarray:
    """Hash of each text: (N,), dtype S16."""
    return from_bytes(b"".join(hashlib.sha256(text.encode()).digest()[:HASH_BYTES] for text in texts))


def from_bytes(data: bytes) -> np.ndarray:
    """Hashes from the bytes of such an array: (N,), dtype S16."""
    return np.frombuffer(data, dtype=HASH_DTYPE)


def hexadecimal(hashes: np.ndarray) -> list[str]:
    """32 hexadecimal digits per hash."""
    data = np.ascontiguousarray(hashes).tobytes()
    return [data[i : i + HASH_BYTES].hex() for i in range(0, len(data), HASH_BYTES)]
