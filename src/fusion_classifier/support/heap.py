"""Lets training steps reuse freed memory. Only for our own processes, such as `fec run`.

glibc returns large blocks to the system as soon as they are freed and requests them again page by page, each zeroed
first. A training step on a CPU frees and allocates hundreds of megabytes. The setting can't be undone entirely: the
first call of mallopt disables glibc's dynamic thresholds. So the library never calls it in a user's process; there,
the environment variables MALLOC_MMAP_MAX_=0 and MALLOC_TRIM_THRESHOLD_=2147483647 have the same effect.

Source: mallopt(3), https://man7.org/linux/man-pages/man3/mallopt.3.html.
"""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# From malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
MAX_INT = 2**31 - 1
DEFAULT_MMAP_MAX, ADJUSTED_MMAP_THRESHOLD = (
    65536,
    32 * 2**20,
)  # the latter is the upper limit of glibc's dynamic threshold


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed memory in the process within the block; return it to the system afterwards. No effect without
    glibc."""
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, MAX_INT)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, DEFAULT_MMAP_MAX)
        libc.mallopt(M_MMAP_THRESHOLD, ADJUSTED_MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, 2 * ADJUSTED_MMAP_THRESHOLD)
        libc.malloc_trim(0)
