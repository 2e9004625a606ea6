"""Checks that the header of a GGUF file is consistent with the size of the file.

The gguf package does not check the lengths in a header: a file of a hundred bytes that claims an array of 2⁴⁰ numbers
would keep it busy, with growing memory, for days. So the lengths are added up first.
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from fusion_classifier.errors import WeightsError

MAGIC = b"GGUF"
VERSIONS = (2, 3)  # those that the gguf package reads
STRING, ARRAY = 8, 9
BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # of a value of each other type
MAX_NESTING = 4  # arrays within arrays
MAX_DIMENSIONS = 4


def check_header(path: Path) -> None:
    """Walk over a file's metadata and the list of its tensors."""
    try:
        with path.open("rb") as file:
            fault = _fault(file, path.stat().st_size)
    except OSError as error:
        fault = error.strerror or str(error)
    if fault:
        raise WeightsError(f"{path} is not a readable GGUF file ({fault}); download it again")


def _fault(file: BinaryIO, size: int) -> str | None:
    if file.read(len(MAGIC)) != MAGIC:
        return "it does not begin with GGUF"
    (version,) = struct.unpack("<I", file.read(4).ljust(4, b"\0"))
    if version not in VERSIONS:
        return f"version {version}; {' and '.join(map(str, VERSIONS))} are read"

    def number(code: str) -> int:
        width = struct.calcsize(code)
        value: int = struct.unpack(f"<{code}", file.read(width))[0]
        return value

    def skip(length: int) -> None:
        if file.tell() + length > size:
            raise ValueError(f"{length:,} bytes are declared at byte {file.tell():,} of {size:,}")
        file.seek(length, 1)

    try:
        tensors, fields = number("Q"), number("Q")
        for _ in range(fields):
            skip(number("Q"))  # its name
            _skip_value(number("I"), number, skip)
        for _ in range(tensors):
            skip(number("Q"))
            dimensions = number("I")
            if dimensions > MAX_DIMENSIONS:
                return f"a tensor of {dimensions} dimensions"
            skip(8 * dimensions + 4 + 8)  # lengths, type, offset
    except struct.error:
        return "the file ends within its header"
    except ValueError as error:
        return str(error)
    return None


def _skip_value(kind: int, number: Callable[[str], int], skip: Callable[[int], None], depth: int = 0) -> None:
    if kind == STRING:
        skip(number("Q"))
    elif kind == ARRAY and depth < MAX_NESTING:
        of, count = number("I"), number("Q")
        if of in BYTES:
            skip(BYTES[of] * count)
        else:
            for _ in range(count):  # each takes bytes of the file, so its end ends this
                _skip_value(of, number, skip, depth + 1)
    elif kind in BYTES:
        skip(BYTES[kind])
    else:
        raise ValueError(f"a value of type {kind}")
