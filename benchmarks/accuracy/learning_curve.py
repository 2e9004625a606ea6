"""Learning curves: accuracy and training seconds from 8 rows per class to all, compared with simple classifiers.

    python benchmarks/accuracy/learning_curve.py --data DATA --out curve.jsonl
    python benchmarks/accuracy/learning_curve.py --summary curve.jsonl peers.jsonl --plots docs

DATA has `small/NAME`, `ED` and `go_emotion` with `train.csv`, `valid.csv`, `test.csv` (columns text and label). A
draw has at most n rows per class, the same for every system; smaller draws are subsets of larger ones. Scores are for
the validation split (if there is none, 2,000 training rows that are held out before drawing) or, with `--split test`,
the test split; the pool for draws is the same for both. ED has no test split here.

Every training run is one row of the JSONL file; existing ones are skipped, so stop at any time and run the same
command again. A size that draws every row is omitted: it equals `all`, on which systems without a seed are trained
once.

Systems: each head of `--heads`, as `FusionClassifier` with default options and the draw's number as seed (it may use
the labels' names, which the others can't); logistic
regression on the L2-normalized mean-pooled vectors of the same encoder with C of 1, 10 and 100 (`lr-1`, `lr-10`,
`lr-100`), scikit-learn's linear SVM, nearest neighbours with k chosen by cross-validation, TF-IDF with logistic
regression (C = 10); on request `static`, static embeddings distilled by model2vec from the same encoder (C = 10), and
`setfit` and `finetune`, which `learning_curve_peers.py` trains faster on a GPU. Its file can be added in `--summary`.
These three need `pip install --group bench`. The head `ensemble-frozen` is `ensemble` without upper layers.

With several encoders (`--encoder minilm-l6+mpnet-base`), the vectors are those of all encoders, concatenated. A
system on one of the encoders has its name after an @: `lr-10@mpnet-base`, `ensemble@mpnet-base`.

`train_seconds` is wall-clock time, with all features in the store. `extract_seconds` is the separate time for
extracting the training features, at a rate measured on 512 of the data set's texts; SetFit, fine-tuning, TF-IDF and
static embeddings need no extraction.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import learning_curve_report
import numpy as np
from curve_data import DATASETS, DRAWS, SIZES, Cell, Corpus, draw_rows, key_of, load_corpus, same_as_all
from curve_rows import PROCESSOR, append_row, read_rows, row_of
from curve_systems import CHEAP, PEERS, Training, distilled, encoder_folder, head_of, system_of
from sklearn.preprocessing import normalize

from fusion_classifier.config import DEFAULT_HEAD
from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.spec import as_encoders
from fusion_classifier.errors import FecError
from fusion_classifier.features.arrays import Features, PooledFeatures
from fusion_classifier.features.extract import extract_features, read_features
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.registry import head_config
from fusion_classifier.support.progress import QUIET

RATE_TEXTS = (16, 16, 512)  # the first to warm up, the second for the loading of the encoder, the third for the rate
WITHOUT_FEATURES = frozenset({"tfidf", "static", "setfit", "finetune"})


@dataclass(frozen=True)
class Prepared:
    """A data set with features in the store.

    `pool` and `judged` are the vectors of the pool and of the scored rows by encoder, and by all of them if there are
    several; `seconds_per_text` are extraction seconds, of all encoders.
    """

    corpus: Corpus
    pool: dict[str, np.ndarray]
    judged: dict[str, np.ndarray]
    seconds_per_text: float


def prepare(
    corpus: Corpus,
    split: str,
    encoder: str,
    heads: Sequence[str],
    store: FeatureStore,
    rows: np.ndarray | None = None,
) -> Prepared:
    """Extract the features for vectors and heads, and measure the time.

    Args:
        corpus: Data set.
        split: Scored split.
        encoder: Encoder, or several, joined by +.
        heads: Heads that will be trained.
        store: Feature store.
        rows: Rows of the pool that will be trained on; the vectors of the others are 0. Default: all.
    """
    device = resolve_device("auto")
    rows = np.arange(len(corpus.pool)) if rows is None else rows
    texts = [*corpus.pool.take(rows).texts, *corpus.judged(split).texts]
    # Vectors come from the last kind.
    kinds = sorted({head_config(head_of(head)).reads for head in heads}) or ["pooled"]
    pool, judged, rate = {}, {}, 0.0
    for name in encoder.split("+"):
        for kind in kinds:
            (config,) = as_encoders(name, features=kind)
            identity = identify(config, device)
            report = extract_features(texts, identity, store, device, QUIET)
            if report.encoded:
                say(f"{corpus.name}: {kind} features of {report.encoded:,} texts in {report.seconds:.0f} s")
        rate += seconds_per_text(corpus.pool.texts, identity)
        (features,) = read_features(texts, [identity], store).values()
        vectors = mean_vectors(features)
        pool[name] = np.zeros((len(corpus.pool), vectors.shape[1]), dtype=np.float32)
        pool[name][rows], judged[name] = vectors[: len(rows)], vectors[len(rows) :]
    for vectors_of in (pool, judged):
        vectors_of[encoder] = normalize(np.hstack(list(vectors_of.values())))
    return Prepared(corpus, pool, judged, rate)


def mean_vectors(features: Features) -> np.ndarray:
    """L2-normalized pooled features, or means over the tokens of the last layer, (N, D), float32."""
    if isinstance(features, PooledFeatures):
        vectors = features.values.reshape(len(features), -1).astype(np.float32)
    else:
        vectors = np.add.reduceat(features.values[:, -1].astype(np.float32), features.offsets[:-1], axis=0)
    return np.asarray(normalize(vectors))


def seconds_per_text(texts: Sequence[str], identity: EncoderIdentity) -> float:
    """Extraction seconds per text, without loading the encoder."""
    device, spent = resolve_device("auto"), []
    some = np.random.default_rng(0).permutation(len(texts))
    for count in RATE_TEXTS:
        with tempfile.TemporaryDirectory() as folder:
            sample = [texts[int(i)] for i in some[:count]]
            spent.append(extract_features(sample, identity, FeatureStore(folder), device, QUIET).seconds)
    return max(0.0, (spent[2] - spent[1]) / (RATE_TEXTS[2] - RATE_TEXTS[1]))


def train_cell(cell: Cell, split: str, prepared: Prepared, encoder: str, store: Path | None) -> dict[str, object]:
    """Train and score a cell."""
    corpus, system = prepared.corpus, system_of(cell.system)
    encoder = cell.system.partition("@")[2] or encoder
    rows = draw_rows(corpus.pool.labels, cell.size, cell.draw)
    part = corpus.pool.take(rows)
    vectors, classes = prepared.pool[encoder][rows], corpus.classes
    training = Training(part.texts, part.labels, vectors, len(classes), cell.draw, encoder, store, classes)
    started = time.perf_counter()
    predict = system.fit(training)
    trained = time.perf_counter()
    probabilities = predict(corpus.judged(split).texts, prepared.judged[encoder])
    ended = time.perf_counter()
    extract = 0.0 if cell.system in WITHOUT_FEATURES else prepared.seconds_per_text * len(rows)
    return row_of(
        cell,
        split,
        corpus,
        probabilities,
        rows=rows,
        train_seconds=trained - started,
        predict_seconds=ended - trained,
        probabilistic=system.probabilistic,
        extra={"extract_seconds": round(extract, 3), "machine": PROCESSOR},
    )


def run(given: argparse.Namespace) -> int:
    """Train every requested unfinished cell; the number of failures."""
    systems = [*dict.fromkeys([*given.heads, *given.systems])]
    done = {key_of(row) for row in read_rows(given.out)}
    store, failed = FeatureStore(given.store), 0
    if "static" in systems:  # here, so that it is not included in training times
        distilled(str(encoder_folder(given.encoder)))
    for name in given.datasets:
        corpus = load_corpus(given.data, name)
        if given.split == "test" and corpus.test is None:
            say(f"{name} has no test split; skipped")
            continue
        cells = [
            cell
            for size in given.sizes
            if not same_as_all(corpus.pool.labels, size)
            for draw in given.draws
            for system in systems
            if not (size == "all" and draw != given.draws[0] and not system_of(system).seeded)
            and (cell := Cell(name, size, draw, system)).key(given.split) not in done
        ]
        if not cells:
            continue
        rows = np.unique(np.concatenate([draw_rows(corpus.pool.labels, cell.size, cell.draw) for cell in cells]))
        heads = [head.partition("@")[0] for head in given.heads]
        prepared = prepare(corpus, given.split, given.encoder, heads, store, rows)
        for cell in cells:
            label = f"{cell.dataset}, {cell.size}, draw {cell.draw}, {cell.system}"
            try:
                row = train_cell(cell, given.split, prepared, given.encoder, given.store)
            except (FecError, ImportError) as error:
                failed += 1
                say(f"{label}: failed: {error}")
                continue
            append_row(given.out, row)
            say(f"{label}: {100 * float(str(row['accuracy'])):.1f}%, {float(str(row['train_seconds'])):.2f} s")
    return failed


def say(line: str) -> None:
    """Print a line of progress."""
    print(line, file=sys.stderr, flush=True)


def names(text: str) -> list[str]:
    """An option's comma-separated names."""
    return [part for part in text.split(",") if part]


def size(text: str) -> int | str:
    """A number of rows per class, or all."""
    if text == "all":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of rows per class, or all")
    return int(text)


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    heads = ",".join(dict.fromkeys((DEFAULT_HEAD, "linear", "fusion")))
    parser.add_argument("--data", type=Path, help="Folder of the data sets.")
    parser.add_argument("--out", type=Path, help="JSONL file that rows are appended to.")
    parser.add_argument(
        "--encoder", default="minilm-l6", help="Encoder, or several, joined by +. Default: minilm-l6."
    )
    parser.add_argument("--store", type=Path, help="Folder of the feature store. Default: the user's cache.")
    parser.add_argument(
        "--heads", type=names, default=heads, help=f"Heads of the package, or ensemble-frozen. Default: {heads}."
    )
    parser.add_argument(
        "--systems",
        type=names,
        default=",".join(CHEAP),
        help=f"Peers among {', '.join(PEERS)}. Default: {','.join(CHEAP)}.",
    )
    parser.add_argument("--datasets", type=names, default=",".join(DATASETS), help=f"Default: {','.join(DATASETS)}.")
    parser.add_argument(
        "--sizes",
        type=lambda t: [size(p) for p in names(t)],
        default=",".join(map(str, SIZES)),
        help="Rows per class, or all. Default: 8,16,64,256,all.",
    )
    parser.add_argument(
        "--draws",
        type=lambda t: [int(p) for p in names(t)],
        default=",".join(map(str, range(DRAWS))),
        help="Draws. Default: 0,1,2,3,4.",
    )
    parser.add_argument("--split", choices=("valid", "test"), default="valid", help="Split to score. Default: valid.")
    parser.add_argument("--summary", type=Path, nargs="+", help="Print the tables for these JSONL files instead.")
    parser.add_argument(
        "--main", default=DEFAULT_HEAD, help=f"System that the others are compared with. Default: {DEFAULT_HEAD}."
    )
    parser.add_argument("--plots", type=Path, help="With --summary: folder for the plots.")
    parser.add_argument("--format", choices=("svg", "png"), default="svg", help="Format of the plots. Default: svg.")
    return parser


def main() -> int:
    """The command line."""
    parser = arguments()
    given = parser.parse_args()
    try:
        if given.summary:
            rows = [row for file in given.summary for row in learning_curve_report.read(file)]
            points = learning_curve_report.gather(rows, given.split)
            print(learning_curve_report.tables(points, given.main))
            if given.plots:
                learning_curve_report.plot(points, given.main, given.plots, given.format)
            return 0
        if not given.data or not given.out:
            parser.error("give --data and --out, or --summary")
        unknown = [name for name in given.systems if name.partition("@")[0] not in PEERS]
        if unknown:
            parser.error(f"--systems: {unknown[0]} is none of {', '.join(PEERS)}")
        for name in (*given.heads, *given.systems):
            of = name.partition("@")[2]
            if of and of not in given.encoder.split("+"):
                parser.error(f"{name}: {of} is not an encoder of --encoder {given.encoder}")
        for head in given.heads:
            head_config(head_of(head.partition("@")[0]))
        return min(1, run(given))
    except (FecError, ImportError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
