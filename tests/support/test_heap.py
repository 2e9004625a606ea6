"""Memory that is freed in training is used again, and goes back to the system afterwards."""

import platform
import resource

import psutil
import pytest
import torch

from fusion_classifier.support.heap import kept_memory

BLOCK = 64 * 2**20  # bytes

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back so eagerly")


def pages_fetched(times: int) -> int:
    """Pages that the system had to hand out while a block was allocated, filled and freed so many times."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(BLOCK // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_freed_memory_is_used_again_inside_and_given_back_after() -> None:
    outside = pages_fetched(10)
    with kept_memory():
        pages_fetched(1)
        inside = pages_fetched(10)
        held = psutil.Process().memory_info().rss
    assert inside < outside / 10
    assert psutil.Process().memory_info().rss < held - BLOCK / 2


def test_an_error_inside_passes_and_the_setting_is_undone() -> None:
    with pytest.raises(RuntimeError, match="inside"), kept_memory():
        raise RuntimeError("inside")
    assert pages_fetched(10) > 10 * BLOCK / 2**21 / 2
