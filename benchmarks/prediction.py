"""How fast a fused classifier answers: one text at a time, and in bulk; and what the fusion adds to its encoders.

    python benchmarks/prediction.py --task go_emotion --data DATA/go_emotion
    python benchmarks/prediction.py --quick --json

A classifier of the three small encoders is trained on a few texts (its size matters here, its answers don't), then:

- `p50_ms`, `p99_ms`: `predict_proba` of one text, texts of all lengths in turn.
- `rows_per_second`: `predict_proba_stream` over many texts, as `fec predict --file` calls it.
- `fusion_overhead`: its time in bulk over that of the encoders alone on the same texts, less 1; both sides in turns,
  the median of the rounds. `fusion_overhead_processor` is the same of the processor's time, on which other work
  has less effect.

Use an idle machine.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from fusion_classifier import FusionClassifier
from fusion_classifier.classifier import CHUNK_TEXTS
from fusion_classifier.config import TaskConfig
from fusion_classifier.encoders import encode
from fusion_classifier.errors import FecError
from fusion_classifier.tasks import load_task

ENCODERS = ("smollm2-135m", "minilm-l6", "mpnet-base")
TRAINED_TEXTS = 400


def now() -> np.ndarray:
    """Seconds on the clock, and of the processor, all threads together: (2,)."""
    return np.array([time.perf_counter(), time.process_time()])


def encoded_alone(classifier: FusionClassifier, texts: Sequence[str]) -> np.ndarray:
    """Seconds of the encoders, chunk by chunk as the classifier calls them, as `now` counts them."""
    started = now()
    for start in range(0, len(texts), CHUNK_TEXTS):
        for encoder in classifier.load_encoders():
            encode(encoder, texts[start : start + CHUNK_TEXTS])
    seconds: np.ndarray = now() - started
    return seconds


def predicted(classifier: FusionClassifier, texts: Sequence[str]) -> np.ndarray:
    """Seconds of the whole prediction, as `now` counts them."""
    started = now()
    for _ in classifier.predict_proba_stream(texts):
        pass
    seconds: np.ndarray = now() - started
    return seconds


def measure(texts: list[str], labels: list[str], *, quick: bool) -> dict[str, Any]:
    """All figures."""
    classifier = FusionClassifier(encoders=list(ENCODERS)).fit(texts[:TRAINED_TEXTS], labels[:TRAINED_TEXTS])
    classifier.keep_features = (
        False  # as `from_pretrained` sets it: through the store, a second round encodes nothing
    )
    others = texts[TRAINED_TEXTS:]
    single, bulk, rounds = others[: 60 if quick else 300], others[: 512 if quick else 2048], 2 if quick else 3
    classifier.predict_proba(single[:5])
    latencies = []
    for text in single:
        started = time.perf_counter()
        classifier.predict_proba([text])
        latencies.append(1000 * (time.perf_counter() - started))
    ratios, rates = [], []
    for _ in range(rounds):
        alone, whole = encoded_alone(classifier, bulk), predicted(classifier, bulk)
        ratios.append(whole / alone)
        rates.append(len(bulk) / whole[0])
    return {
        "texts": len(bulk),
        "p50_ms": float(np.percentile(latencies, 50)),
        "p99_ms": float(np.percentile(latencies, 99)),
        "rows_per_second": statistics.median(rates),
        "fusion_overhead": float(np.median(ratios, axis=0)[0] - 1),
        "fusion_overhead_processor": float(np.median(ratios, axis=0)[1] - 1),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="demo")
    parser.add_argument("--data")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    task = load_task(TaskConfig(name=given.task, data=given.data))
    train = task.split("train")
    order = np.random.default_rng(0).permutation(len(train.texts))
    texts = [train.texts[i] for i in order]
    result = measure(texts, [task.labels[int(task.targets("train")[i])] for i in order], quick=given.quick)
    if given.json:
        print(json.dumps(result, indent=1))
        return
    print(f"one text: {result['p50_ms']:.0f} ms (median), {result['p99_ms']:.0f} ms (99 %)")
    print(
        f"in bulk: {result['rows_per_second']:.1f} texts/s; fusion adds {100 * result['fusion_overhead']:.1f} %, "
        f"of the processor's time {100 * result['fusion_overhead_processor']:.1f} %"
    )


if __name__ == "__main__":
    try:
        main()
    except FecError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
