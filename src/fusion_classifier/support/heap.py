"""Lets training steps reuse freed memory. For processes of our own only, such as a run of `fec`.

glibc returns large blocks to the system as soon as they are freed and gets them again page by page, each zeroed
first. A training step on a CPU frees and allocates hundreds of megabytes. The setting can't be undone entirely: the
first call of mallopt ends glibc's own adjustment of its thresholds. So the library never calls this in somebody
else's process; there MALLOC_MMAP_MAX_=0 and MALLOC_TRIM_THRESHOLD_=2147483647 in the environment do the same.

Source: mallopt(3), https://man7.org/linux/man-pages/man3/mallopt.3.html.
"""

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# Of malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
MAX_INT = 2**31 - 1
DEFAULT_MMAP_MAX, ADJUSTED_MMAP_THRESHOLD = 65536, 32 * 2**20  # the latter is where glibc's own adjustment ends


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed memory in the process inside; return it to the system afterwards. Without glibc: nothing."""
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
