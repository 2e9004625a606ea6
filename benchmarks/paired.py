"""Compare two runs on the same texts: the difference in accuracy, with a paired bootstrap interval.

    python benchmarks/paired.py RUN_A RUN_B --split test

Texts are resampled together for both runs and all seeds (percentile bootstrap, 10,000 resamples); the difference
is that of the means over seeds. An interval without zero is a difference that the choice of texts does not explain.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.stats import bootstrap


def hits(run: Path, split: str) -> tuple[list[str], np.ndarray]:
    """Text hashes, and for each text the share of seeds that predict it right, (N,)."""
    table = pq.read_table(run / "predictions.parquet")
    table = table.filter(pc.equal(table["split"], split))
    seeds = sorted(set(table["seed"].to_pylist()))
    parts = [table.filter(pc.equal(table["seed"], seed)) for seed in seeds]
    right = [pc.equal(part["label"], part["predicted"]).to_numpy(zero_copy_only=False) for part in parts]
    return parts[0]["text_hash"].to_pylist(), np.mean(np.asarray(right, dtype=np.float64), axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs=2, type=Path)
    parser.add_argument("--split", default="test")
    arguments = parser.parse_args()
    (texts_a, a), (texts_b, b) = (hits(run, arguments.split) for run in arguments.runs)
    if texts_a != texts_b:
        raise SystemExit("the two runs were not evaluated on the same texts")
    found = bootstrap((a - b,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(0))
    interval = found.confidence_interval
    result = {
        "split": arguments.split,
        "texts": len(a),
        "accuracy": [float(a.mean()), float(b.mean())],
        "difference": float((a - b).mean()),
        "ci95": [float(interval.low), float(interval.high)],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
