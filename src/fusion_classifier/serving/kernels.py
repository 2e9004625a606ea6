"""Limits the number of compiled kernels that torch keeps on a CPU, and so the server's memory.

A matrix product in bfloat16 is compiled for each number of tokens in a batch, of which a server has hundreds. Two
caches keep the last 1,024 kernels, 0.3 MB each for a small model: oneDNN's own, and one of ideep, torch's layer over
oneDNN, in every thread. Both read their size from the environment when torch computes for the first time.
https://uxlfoundation.github.io/oneDNN/dev_guide_primitive_cache.html, https://github.com/intel/ideep/issues/14
"""

import os
from collections.abc import MutableMapping

KEPT = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}


def keep_few_kernels(environment: MutableMapping[str, str] = os.environ) -> None:
    """Limit both caches, unless the user has set them. Must be called before torch is imported."""
    for name, number in KEPT.items():
        environment.setdefault(name, number)
