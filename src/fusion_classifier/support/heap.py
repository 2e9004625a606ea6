"""Lets a training step use the memory that the step before has freed.

glibc gives large blocks back to the system as soon as they are freed, and gets them again page by page, each cleared
first. A training step on a CPU frees and allocates hundreds of megabytes: with wide features more than half of its
time went into that (docs/results.md, benchmarks/speed/training.py).

Source: mallopt(3), https://man7.org/linux/man-pages/man3/mallopt.3.html.
"""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# Of malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
MOST = 2**31 - 1
# Where glibc's own adjustment ends, which the first call of mallopt turns off.
DEFAULT_MMAP_MAX, ADJUSTED_MMAP_THRESHOLD = 65536, 32 * 2**20


@contextmanager
def kept_memory() -> Iterator[None]:
    """Inside, freed memory stays with the process; afterwards it goes back. Without glibc it does nothing."""
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, MOST)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, DEFAULT_MMAP_MAX)
        libc.mallopt(M_MMAP_THRESHOLD, ADJUSTED_MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, 2 * ADJUSTED_MMAP_THRESHOLD)
        libc.malloc_trim(0)
