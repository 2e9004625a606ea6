"""Memory that is freed in training is used again, and goes back to the system afterwards."""

import platform
import subprocess
import sys

import pytest

from fusion_classifier.support.heap import kept_memory

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back so eagerly")

# In a process of its own: what other tests have left in the heap decides where a block finds room.
PROGRAM = """
import resource
import psutil
import torch
from fusion_classifier.support.heap import kept_memory

BLOCK = 64 * 2**20  # bytes

def pages_fetched(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(BLOCK // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

outside = pages_fetched(10)
with kept_memory():
    pages_fetched(30)  # until the heap has room for the block wherever its allocations put it
    inside = pages_fetched(10)
    held = psutil.Process().memory_info().rss
assert inside < outside / 10, (inside, outside)
assert psutil.Process().memory_info().rss < held - BLOCK / 2
assert pages_fetched(10) > 10 * BLOCK / 2**21 / 2
"""


def test_freed_memory_is_used_again_and_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_an_error_inside_passes() -> None:
    with pytest.raises(RuntimeError, match="inside"), kept_memory():
        raise RuntimeError("inside")
