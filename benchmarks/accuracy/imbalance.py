"""Two classes, one of them rare: comparison with the majority class and logistic regression.

    python benchmarks/accuracy/imbalance.py --data DATA --out imbalance.jsonl
    python benchmarks/accuracy/imbalance.py --summary imbalance.jsonl

One label of each data set against all others, in draws with a given share of positives, scored on the largest subset
of the validation split with the same share (the split is described in `learning_curve.py`). Logistic regression (C of
1, 10 and 100) uses the L2-normalized mean-pooled vectors of the same encoder. Every training run is one row of the
JSONL file; existing ones are skipped.
"""

import argparse
import sys
from collections import defaultdict
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from curve_data import Corpus, load_corpus
from curve_rows import append_row, read_rows
from curve_systems import Training, system_of
from learning_curve import Prepared, names, prepare, say
from sklearn.metrics import f1_score

POSITIVE = {"trec": "human", "subj": "subjective", "go_emotion": "gratitude", "sst5": "very positive"}
SHARES = (5, 10, 20, 50)
SIZES = (200, 1000, 5000)
HEADS = ("ensemble", "linear")
CELL = ("dataset", "split", "n", "share", "draw", "system")
REGRESSIONS = ("lr-1", "lr-10", "lr-100")


@dataclass(frozen=True)
class Draw:
    """Training rows (N,) and scored rows (M,) of a draw, with the same share of positives."""

    train: np.ndarray
    judged: np.ndarray


def positives(corpus: Corpus, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels of the pool and the validation split as 0 and 1: (N,) and (M,)."""
    if name not in corpus.classes:
        raise ValueError(f"{corpus.name} has no label {name!r}; it has {', '.join(corpus.classes)}")
    number = corpus.classes.index(name)
    return (corpus.pool.labels == number).astype(np.int64), (corpus.valid.labels == number).astype(np.int64)


def draw_rows(pool: np.ndarray, valid: np.ndarray, size: int, share: int, draw: int) -> Draw | None:
    """`size` rows with `share` % positives; None if there are too few rows of either class."""
    order = np.random.default_rng([18, draw]).permutation(len(pool))
    wanted = {1: size * share // 100, 0: size - size * share // 100}
    if any((pool == label).sum() < count for label, count in wanted.items()):
        return None
    train = np.concatenate([order[pool[order] == label][:count] for label, count in wanted.items()])
    yes, no = np.flatnonzero(valid == 1), np.flatnonzero(valid == 0)
    count = min(len(yes), len(no) * share // (100 - share))  # positives for which there are enough negatives
    judged = np.concatenate([yes[:count], no[: round(count * (100 - share) / share)]])
    return Draw(np.sort(train), np.sort(judged))


def scores(
    prepared: Prepared, rows: np.ndarray, truth: np.ndarray, training: Training, system: str
) -> dict[str, float]:
    """Train a system and score it on the scored rows."""
    predict = system_of(system).fit(training)
    answers = predict(prepared.corpus.valid.take(rows).texts, prepared.judged[training.encoder][rows]).argmax(1)
    return {
        "judged": len(truth),
        "majority": float(max(truth.mean(), 1 - truth.mean())),
        "accuracy": float((answers == truth).mean()),
        "macro_f1": float(f1_score(truth, answers, average="macro")),
    }


def run(given: argparse.Namespace) -> None:
    """Train every unfinished cell."""
    from fusion_classifier.features.store import FeatureStore  # noqa: PLC0415 - --summary needs none of it

    done = {tuple(row[key] for key in CELL) for row in read_rows(given.out)}
    for name in given.datasets:
        corpus = load_corpus(given.data, name)
        pool, valid = positives(corpus, POSITIVE[name])
        prepared = prepare(corpus, "valid", given.encoder, HEADS, FeatureStore(given.store))
        for size, share, draw in product(given.sizes, SHARES, given.draws):
            drawn = draw_rows(pool, valid, size, share, draw)
            if drawn is None:
                continue
            texts, vectors = corpus.pool.take(drawn.train).texts, prepared.pool[given.encoder][drawn.train]
            training = Training(texts, pool[drawn.train], vectors, 2, draw, given.encoder, given.store)
            for system in (*HEADS, *REGRESSIONS):
                cell = dict(zip(CELL, (name, "valid", size, share, draw, system), strict=True))
                if tuple(cell.values()) not in done:
                    found = scores(prepared, drawn.judged, valid[drawn.judged], training, system)
                    append_row(given.out, {**cell, **found})
            say(f"{name}, {size} rows, {share}%, draw {draw}: done")


def summary(file: Path) -> str:
    """Table of means over draws, and the lowest differences."""
    found: dict[tuple[str, int, int], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in read_rows(file):
        found[row["dataset"], row["n"], row["share"]][row["system"]].append(row)
    lines = [
        "| data, rows, positives | draws | majority | `ensemble` | `linear` | regression, best C "
        "| macro F1: `ensemble` | regression |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    differences = []
    for (name, size, share), systems in found.items():
        mean = {
            system: [100 * np.mean([row[of] for row in rows]) for of in ("accuracy", "macro_f1", "majority")]
            for system, rows in systems.items()
        }
        best, best_f1 = (max(mean[c][i] for c in REGRESSIONS) for i in (0, 1))
        ours, linear = mean["ensemble"], mean["linear"]
        differences.append((ours[0] - best, ours[0] - ours[2], linear[0] - best, linear[0] - ours[2]))
        lines.append(
            f"| {name}, {size:,}, {share}% | {len(systems['ensemble'])} | {ours[2]:.1f} | {ours[0]:.1f} | "
            f"{linear[0]:.1f} | {best:.1f} | {ours[1]:.1f} | {best_f1:.1f} |"
        )
    table = np.array(differences)
    for title, columns in (("ensemble", table[:, :2]), ("linear", table[:, 2:])):
        against, majority = columns.min(0)
        lines.append(
            f"{title}: against the best C {columns[:, 0].mean():+.2f} on average, lowest {against:+.2f}; "
            f"against the majority class lowest {majority:+.2f}"
        )
    return "\n".join(lines)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, help="Folder of the data sets.")
    parser.add_argument("--out", type=Path, help="JSONL file that rows are appended to.")
    parser.add_argument("--encoder", default="minilm-l6", help="Encoder. Default: minilm-l6.")
    parser.add_argument("--store", type=Path, help="Folder of the feature store. Default: the user's cache.")
    parser.add_argument("--datasets", type=names, default=",".join(POSITIVE), help=f"Default: {','.join(POSITIVE)}.")
    parser.add_argument("--sizes", type=lambda t: [int(p) for p in names(t)], default=",".join(map(str, SIZES)))
    parser.add_argument("--draws", type=lambda t: [int(p) for p in names(t)], default="0,1,2,3,4")
    parser.add_argument("--summary", type=Path, help="Print the table for this JSONL file instead.")
    given = parser.parse_args()
    if given.summary:
        print(summary(given.summary))
        return 0
    if not given.data or not given.out:
        parser.error("give --data and --out, or --summary")
    run(given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
