"""What torch keeps of the batches it has computed."""

import subprocess
import sys

from fusion_classifier.serving.kernels import KEPT, keep_few_kernels

# As `fec serve` would: instead of a server, products of hundreds of batches of different sizes.
SERVE = """
import random, resource, sys
from fusion_classifier.cli.main import main
from fusion_classifier.serving import server

def multiply(*_, **__):
    import torch
    weights, draw = torch.randn(96, 96, dtype=torch.bfloat16), random.Random(0)
    def grown(batches):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for _ in range(batches):
            torch.nn.functional.linear(torch.randn(draw.randrange(1, 2000), 96, dtype=torch.bfloat16), weights)
        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    grown(100)
    print(grown(500))

server.serve = multiply
sys.argv = ["fec", "serve", "go-emotions"]
main()
"""


def test_memory_does_not_grow_with_batch_sizes() -> None:
    done = subprocess.run([sys.executable, "-c", SERVE], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 60  # MB; over 200 without bounds


def test_a_users_own_bound_is_left_alone() -> None:
    environment = {"LRU_CACHE_CAPACITY": "9"}
    keep_few_kernels(environment)
    assert environment == KEPT | {"LRU_CACHE_CAPACITY": "9"}
