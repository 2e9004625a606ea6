"""Accuracy against cost: milliseconds per text and training seconds.

    python benchmarks/accuracy/pareto.py --data DATA --out pareto.jsonl
    python benchmarks/accuracy/pareto.py --latency latency.json
    python benchmarks/accuracy/pareto.py --summary pareto.jsonl --latency latency.json --plot docs/pareto.svg

Encoders and heads of the package, and two peers, on the draws of `learning_curve.py`, scored on its validation
splits. Training seconds exclude extraction. Milliseconds per text are for one text at a time: the median over the
texts, with the systems alternating; measure them on an idle machine. Every training run is one row of the JSONL file;
existing ones are skipped.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from curve_data import Cell, Corpus, draw_rows, load_corpus
from curve_rows import PROCESSOR, append_row, read_rows, row_of
from learning_curve import names, say
from peers import spread, tfidf_of
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from fusion_classifier import FusionClassifier
from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.spec import as_encoders
from fusion_classifier.features.extract import extract_features
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.named.demo import Demo

SETS = {"trec": 64, "sst5": 64, "go_emotion": 16, "ED": 16, "banking77": 8}  # rows per label
ENCODERS = {"MiniLM": "minilm-l6", "SmolLM2": "smollm2-135m", "MPNet": "mpnet-base"}
TEXTS, TRAINED_ON = 60, 200  # number of texts for measuring latency, from the demo corpus

Predict = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class System:
    """Encoders and a head of the package, or logistic regression on the first encoder's vectors or on words."""

    encoders: tuple[str, ...]
    head: str | None = None

    @property
    def title(self) -> str:
        """Title in the table."""
        if not self.encoders:
            return "TF-IDF + logistic regression"
        read = " + ".join(self.encoders)
        return f"{read}, `{self.head}`" if self.head else f"{read}, logistic regression (C = 10)"


@dataclass(frozen=True)
class Given:
    """Training texts and their label numbers (N,), of `n_classes` labels."""

    texts: Sequence[str]
    labels: np.ndarray
    n_classes: int
    seed: int


SYSTEMS = (
    System(()),
    System(("MiniLM",)),
    System(("MiniLM",), "linear"),
    System(("MiniLM",), "ensemble"),
    System(("MiniLM", "SmolLM2"), "ensemble"),
    System(("MPNet",), "linear"),
    System(("MPNet",), "ensemble"),
    System(("MiniLM", "MPNet"), "ensemble"),
    System(("MiniLM", "SmolLM2", "MPNet"), "ensemble"),
)


def fit(system: System, given: Given, folders: Mapping[str, str], store: Path | None, *, keep: bool) -> Predict:
    """Train a system; returns a function from M texts to probabilities (M, C). `keep`: store their features."""
    if not system.encoders:
        words = tfidf_of(given.texts, min_df=1)
        model = LogisticRegression(C=10.0, max_iter=300).fit(words(given.texts), given.labels)
        return lambda texts: spread(model.predict_proba(words(texts)), model.classes_, given.n_classes)
    encoders = [folders[name] for name in system.encoders]
    ours = FusionClassifier(encoders, system.head or "linear", seed=given.seed, store=store, keep_features=keep)
    ours.fit(list(given.texts), given.labels)
    if system.head:
        return lambda texts: spread(ours.predict_proba(list(texts)), ours.classes_, given.n_classes)
    vectors = normalize(ours.transform(list(given.texts)))
    model = LogisticRegression(C=10.0, max_iter=1000).fit(vectors, given.labels)
    return lambda texts: spread(
        model.predict_proba(normalize(ours.transform(list(texts)))), model.classes_, given.n_classes
    )


def extract(corpus: Corpus, rows: np.ndarray, folders: Mapping[str, str], store: Path | None) -> None:
    """Extract all features that the systems read, so that training seconds exclude it."""
    texts = [*corpus.pool.take(rows).texts, *corpus.valid.texts]
    for folder in folders.values():
        for kind in ("pooled", "tokens"):
            (config,) = as_encoders(folder, features=kind)
            device = resolve_device("auto")
            extract_features(texts, identify(config, device), FeatureStore(store), device, QUIET)


def run(given: argparse.Namespace) -> None:
    """Train every unfinished cell."""
    done = {(row["dataset"], row["draw"], row["system"]) for row in read_rows(given.out)}
    for name in given.datasets:
        size, corpus = SETS[name], load_corpus(given.data, name)
        for draw in given.draws:
            systems = [system for system in SYSTEMS if (name, draw, system.title) not in done]
            rows = draw_rows(corpus.pool.labels, size, draw)
            part = corpus.pool.take(rows)
            data = Given(part.texts, part.labels, len(corpus.classes), draw)
            if systems:
                extract(corpus, rows, given.encoders, given.store)
            for system in systems:
                started = time.perf_counter()
                predict = fit(system, data, given.encoders, given.store, keep=True)
                trained = time.perf_counter()
                probabilities = predict(corpus.valid.texts)
                row = row_of(
                    Cell(name, size, draw, system.title),
                    "valid",
                    corpus,
                    probabilities,
                    rows=rows,
                    train_seconds=trained - started,
                    predict_seconds=time.perf_counter() - trained,
                    extra={"machine": PROCESSOR},
                )
                append_row(given.out, row)
                say(f"{name}, draw {draw}, {system.title}: {100 * row['accuracy']:.1f}%")


def latency(given: argparse.Namespace) -> dict[str, float]:
    """Milliseconds per text by system, the median of `TEXTS` texts."""
    task = Demo().load()
    texts = [*task.split("train").texts[:TRAINED_ON]]
    data = Given(texts, np.asarray(task.targets("train")[:TRAINED_ON]), len(task.labels), 0)
    predicts = {s.title: fit(s, data, given.encoders, given.store, keep=False) for s in SYSTEMS}
    spent: dict[str, list[float]] = {title: [] for title in predicts}
    for text in [*task.split("train").texts[TRAINED_ON : TRAINED_ON + TEXTS]]:
        for title, predict in predicts.items():
            predict([text])  # the caches contain the weights of another system
            started = time.perf_counter()
            predict([text])
            spent[title].append(1000 * (time.perf_counter() - started))
    return {title: float(np.median(of)) for title, of in spent.items()}


@dataclass(frozen=True)
class Point:
    """Means over data sets of means over draws: accuracy in %, training seconds; milliseconds per text."""

    title: str
    by_set: Mapping[str, float]
    seconds: float
    milliseconds: float | None
    best: bool = False

    @property
    def accuracy(self) -> float:
        """Mean over the data sets."""
        return float(np.mean(list(self.by_set.values())))


def gather(file: Path, milliseconds: Mapping[str, float]) -> list[Point]:
    """Points of the systems with results for every data set; `best`: no system is more accurate and as fast."""
    rows = read_rows(file)
    sets = [*dict.fromkeys(row["dataset"] for row in rows)]
    points = []
    for title in dict.fromkeys(row["system"] for row in rows):
        found = {name: [r for r in rows if (r["dataset"], r["system"]) == (name, title)] for name in sets}
        if all(found.values()):
            accuracy = {name: 100 * float(np.mean([r["accuracy"] for r in of])) for name, of in found.items()}
            seconds = float(np.mean([np.mean([r["train_seconds"] for r in of]) for of in found.values()]))
            points.append(Point(title, accuracy, seconds, milliseconds.get(title)))
    return [
        replace(point, best=not any(_beats(other, point) for other in points)) if point.milliseconds else point
        for point in points
    ]


def _beats(other: Point, point: Point) -> bool:
    if other.milliseconds is None or point.milliseconds is None:
        return False
    return other.accuracy > point.accuracy and other.milliseconds <= point.milliseconds


def table(points: Sequence[Point]) -> str:
    """Markdown table, the frontier in bold."""
    sets = [*points[0].by_set]
    lines = [
        f"| system | {' | '.join(sets)} | mean | ms per text | training, s |",
        f"|---|{'---:|' * (len(sets) + 3)}",
    ]
    for point in points:
        title = f"**{point.title}**" if point.best else point.title
        scores = " | ".join(f"{point.by_set[name]:.1f}" for name in sets)
        wait = "" if point.milliseconds is None else f"{point.milliseconds:.1f}"
        lines.append(f"| {title} | {scores} | {point.accuracy:.1f} | {wait} | {point.seconds:.0f} |")
    return "\n".join(lines)


def plot(points: Sequence[Point], file: Path) -> None:
    """Plot accuracy against milliseconds per text, with the frontier as a line."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - of the extra `report`

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    timed = sorted((p for p in points if p.milliseconds), key=lambda p: p.milliseconds or 0)
    best = [p for p in timed if p.best]
    axes.plot([p.milliseconds or 0 for p in best], [p.accuracy for p in best], color="black", linewidth=1)
    for point in timed:
        axes.plot(point.milliseconds or 0, point.accuracy, "o", color="black" if point.best else "C7")
        axes.annotate(point.title.replace("`", ""), (point.milliseconds or 0, point.accuracy), (5, -9),
                      textcoords="offset points", fontsize=8)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds per text, one at a time")
    axes.set_ylabel("accuracy, %, mean of the data sets")
    axes.margins(x=0.25)
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else {})


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, help="Folder of the data sets.")
    parser.add_argument("--out", type=Path, help="JSONL file that rows are appended to.")
    parser.add_argument("--encoders", type=names, help="MiniLM, SmolLM2 and MPNet. Default: the presets.")
    parser.add_argument("--store", type=Path, help="Folder of the feature store. Default: the user's cache.")
    parser.add_argument("--datasets", type=names, default=",".join(SETS), help=f"Default: {','.join(SETS)}.")
    parser.add_argument("--draws", type=lambda t: [int(p) for p in names(t)], default="0,1,2,3,4")
    parser.add_argument("--summary", type=Path, help="Print the table for this JSONL file instead.")
    parser.add_argument(
        "--latency", type=Path, help="JSON file with milliseconds, written unless --summary is given."
    )
    parser.add_argument("--plot", type=Path, help="With --summary: picture file to write.")
    given = parser.parse_args()
    given.encoders = dict(zip(ENCODERS, given.encoders or ENCODERS.values(), strict=True))
    if given.summary:
        points = gather(given.summary, json.loads(given.latency.read_text()) if given.latency else {})
        print(table(points))
        if given.plot:
            plot(points, given.plot)
    elif given.latency:
        given.latency.write_text(json.dumps(latency(given), indent=1) + "\n")
    elif given.data and given.out:
        run(given)
    else:
        parser.error("give --data and --out, --latency, or --summary")
    return 0


if __name__ == "__main__":
    sys.exit(main())
