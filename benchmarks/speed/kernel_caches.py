"""Cost in time, and savings in memory, of limiting the number of compiled kernels in a server.

    python benchmarks/speed/kernel_caches.py

MiniLM with a linear head answers texts of 3 to 60 words one at a time, in a separate process per variant: `bounded`
like `fec serve` (64 kernels per cache, numbers of tokens rounded up to a multiple of 8), `not rounded` the same
without rounding, `unbounded` with 1,024 kernels, the default of oneDNN and ideep, without rounding. The variants
alternate. Prints, as JSON, milliseconds per text for each round and megabytes of memory at the end. Use an idle
machine.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time

import psutil

from fusion_classifier import FusionClassifier
from fusion_classifier.config import TaskConfig
from fusion_classifier.encoders import packed
from fusion_classifier.serving.kernels import KEPT
from fusion_classifier.tasks.registry import load_task

WARM_UP, TEXTS = 300, 1200
VARIANTS = {"bounded": (KEPT, packed.TOKENS_MULTIPLE), "not rounded": (KEPT, 1), "unbounded": ({}, 1)}


def answer() -> None:
    """The measured process."""
    task = load_task(TaskConfig(name="demo"))
    train = task.split("train").take(range(200))
    labels = [task.labels[label] for label in train.labels if isinstance(label, int)]
    with tempfile.TemporaryDirectory() as store:
        model = FusionClassifier(["minilm-l6"], head="linear", store=store, training={"max_epochs": 3})
        model.fit(train.texts, labels)
    draw, words = random.Random(0), " ".join(train.texts).split()
    model.keep_features = False
    began = 0.0
    for number in range(WARM_UP + TEXTS):
        if number == WARM_UP:
            began = time.perf_counter()
        model.predict_proba([" ".join(draw.choices(words, k=draw.randint(3, 60)))])
    seconds = time.perf_counter() - began
    print(json.dumps({"ms": 1000 * seconds / TEXTS, "mb": psutil.Process().memory_info().rss / 1e6}))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--multiple", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.multiple:
        packed.TOKENS_MULTIPLE = given.multiple
        answer()
        return
    result: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for _ in range(given.rounds):
        for name, (environment, multiple) in VARIANTS.items():
            command = [sys.executable, __file__, "--multiple", str(multiple)]
            done = subprocess.run(command, env=os.environ | environment, check=True, stdout=subprocess.PIPE)
            result[name].append(json.loads(done.stdout))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
