"""Which score best detects unknown texts: the AUROC of candidates, and of the package's score.

    python benchmarks/accuracy/unknown.py --data DATA --encoder minilm-l6

DATA has `small/clinc150` (`train.csv`, `valid.csv`, `oos_valid.csv` of unknown texts), `small/banking77` and
`small/trec` (`train.csv`); columns text and label. On clinc150 known texts are those of `valid.csv`. On the others, a
fifth of the labels (trec: one label) is excluded from training, and a fifth of the training rows is held out: its
rows with an excluded label are the unknown texts. Each data set is measured with all rows and with 16 per class;
unknown texts are never used for fitting, and no test split is read.

Candidates are computed by numpy and scikit-learn on the pooled features of the encoder, each layer's vector scaled
to unit length: logistic regression (C = 10), class means, and distances. The last rows are the head given by
`--head`, with `training/unknown.py` as in `fec run`: the epoch and the threshold are chosen on half of the
held-out known texts; the AUROC, and the share that is rejected at a rate of 0.05, are measured on the other half.

    python benchmarks/accuracy/unknown.py --data DATA --encoder minilm-l6 --false-alarms --datasets demo subj trec

With `--false-alarms`, the share of known texts that are rejected, for several rates: `FusionClassifier.fit` on a few
hundred rows, as many of each label, without validation rows; new texts are other rows of the same file, as many of
each label (`demo`: of the demo corpus). Mean and standard deviation over `--draws` draws of the rows.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import normalize

from fusion_classifier import FusionClassifier
from fusion_classifier.config import HEAD_CONFIGS, TaskConfig
from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.encoders.identity import EncoderIdentity, identify
from fusion_classifier.encoders.spec import as_encoders
from fusion_classifier.errors import FecError
from fusion_classifier.features.extract import extract_features, read_features
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.registry import parse_head
from fusion_classifier.support.progress import QUIET, Progress
from fusion_classifier.tasks.readers import read_rows
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.inference import predict_each, predict_logits
from fusion_classifier.training.train import train
from fusion_classifier.training.unknown import fit_known

CPU = torch.device("cpu")
FEW = 16
DRAWS = 2
SHRINKAGE = 0.3  # shrinkage of the shared covariance
RATE = 0.05
RATES = (0.05, 0.1, 0.2)
LABEL_ROWS = 48  # training rows per label with --false-alarms
ALL_ROWS = 1200  # in all
NEW_TEXTS = 1000
SUMS = (
    ("max logit", "kNN 3"),
    ("energy", "kNN 3"),
    ("log-odds", "centroid"),
    ("log-odds", "LDA cosine"),
    ("log-odds", "kNN 1"),
    ("log-odds", "kNN 3"),
)


@dataclass(frozen=True)
class Case:
    """Texts and labels to train on, held-out known texts with their labels, and unknown texts."""

    train: tuple[str, ...]
    labels: np.ndarray
    known: tuple[str, ...]
    known_labels: np.ndarray
    unknown: tuple[str, ...]


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Texts and labels of a file; labels are empty if there are none."""
    rows = [row.values for row in read_rows(path, ("text", "label"))]
    return np.array([row["text"] for row in rows], object), np.array([row.get("label", "") for row in rows], object)


def cases(folder: Path, name: str) -> Iterator[Case]:
    """The known and unknown parts of a data set."""
    texts, labels = read(folder / name / "train.csv")
    if name == "clinc150":
        known, unknown = (read(folder / name / f"{split}.csv") for split in ("valid", "oos_valid"))
        yield Case(tuple(texts), labels, tuple(known[0]), known[1], tuple(unknown[0]))
        return
    every = np.unique(labels.astype(str))
    for seed in range(len(every) if len(every) < 10 else DRAWS):
        order = np.random.default_rng(seed)
        out = every[[seed]] if len(every) < 10 else order.permutation(every)[: round(0.2 * len(every))]
        strange, held = np.isin(labels.astype(str), out), order.random(len(labels)) < 0.2
        inside, same = ~strange & ~held, ~strange & held
        yield Case(
            tuple(texts[inside]), labels[inside], tuple(texts[same]), labels[same], tuple(texts[strange & held])
        )


def fewer(case: Case, seed: int) -> Case:
    """At most FEW training rows per class."""
    order = np.random.default_rng(seed)
    rows = np.concatenate([order.permutation(np.flatnonzero(case.labels == one))[:FEW] for one in set(case.labels)])
    rows.sort()
    return Case(tuple(case.train[i] for i in rows), case.labels[rows], case.known, case.known_labels, case.unknown)


def candidates(x: np.ndarray, y: np.ndarray, queries: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of queries (N, D), higher for less typical texts, from unit vectors (M, D) and their labels (M,)."""
    fitted = LogisticRegression(C=10, max_iter=300).fit(x, y)
    logits = np.log(np.maximum(fitted.predict_proba(queries), 1e-12))
    top = logits.max(1)
    decisions = fitted.decision_function(queries)
    raw = decisions if decisions.ndim > 1 else np.stack([-decisions, decisions], 1) / 2
    found = {
        "max probability": -np.exp(top),
        "log-odds": np.log(np.maximum(-np.expm1(top), 1e-9)) - top,
        "max logit": -raw.max(1),
        "energy": -np.logaddexp.reduce(raw, axis=1),
    }
    return found | class_distances(x, y, queries) | neighbour_distances(x, queries)


def class_distances(x: np.ndarray, y: np.ndarray, queries: np.ndarray) -> dict[str, np.ndarray]:
    """Distances to the nearest class mean."""
    means, mean = np.stack([x[y == one].mean(0) for one in np.unique(y)]), x.mean(0)
    within, whole = (
        np.linalg.cholesky(np.linalg.inv(shrunk(rest)))
        for rest in (x - means[np.searchsorted(np.unique(y), y)], x - mean)
    )
    at, centres = (queries - mean) @ within, (means - mean) @ within
    squared = (at**2).sum(1)[:, None] - 2 * at @ centres.T + (centres**2).sum(1)
    return {
        "centroid": -(normalize(queries) @ normalize(means).T).max(1),
        "Mahalanobis": squared.min(1),
        "relative Mahalanobis": squared.min(1) - (((queries - mean) @ whole) ** 2).sum(1),
        "LDA cosine": -(normalize(at) @ normalize(centres).T).max(1),
    }


def shrunk(rest: np.ndarray) -> np.ndarray:
    """Covariance of vectors around their mean, shrunk towards a multiple of the identity."""
    covariance, width = rest.T @ rest / len(rest), rest.shape[1]
    shrunken: np.ndarray = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / width * np.eye(width)
    return shrunken


def neighbour_distances(x: np.ndarray, queries: np.ndarray) -> dict[str, np.ndarray]:
    """Mean cosine distance to the nearest training texts."""
    cosines = -np.sort(-(normalize(queries) @ normalize(x).T), axis=1)
    return {f"kNN {k}": -cosines[:, :k].mean(1) for k in (1, 3, 5, 10, 50)}


def vectors(texts: tuple[str, ...], identity: EncoderIdentity, store: FeatureStore) -> np.ndarray:
    """Concatenated pooled features of texts, each layer scaled to unit norm: (N, D)."""
    parts = []
    for start in range(0, len(texts), 512):
        features = read_features(texts[start : start + 512], [identity], store)[identity.config.name]
        batch = features.batch(np.arange(len(features)))
        pooled = batch if isinstance(batch, torch.Tensor) else batch.mean()
        pooled = pooled.float().reshape(len(pooled), -1, features.shape.width)
        parts.append(torch.nn.functional.normalize(pooled, dim=-1).flatten(1).numpy())
    return np.concatenate(parts)


def of_candidates(case: Case, identity: EncoderIdentity, store: FeatureStore) -> dict[str, float]:
    """AUROC of each candidate, and of some sums of two candidates standardized over known texts."""
    x, known, unknown = (vectors(texts, identity, store) for texts in (case.train, case.known, case.unknown))
    truth = np.repeat([0, 1], [len(known), len(unknown)])
    found = candidates(x, case.labels.astype(str), np.concatenate([known, unknown]))
    standard = {name: (one - one[: len(known)].mean()) / one[: len(known)].std() for name, one in found.items()}
    found |= {f"{a} + {b}": standard[a] + standard[b] for a, b in SUMS}
    return {name: float(roc_auc_score(truth, scores)) for name, scores in found.items()}


def of_product(case: Case, head: str, identity: EncoderIdentity, store: FeatureStore) -> dict[str, float]:
    """AUROC of a head's unknown score, and the share of rejected texts at this rate."""
    names = np.unique(case.labels.astype(str))

    def data(texts: tuple[str, ...], labels: np.ndarray) -> LabelledFeatures:
        return LabelledFeatures(read_features(texts, [identity], store), np.searchsorted(names, labels.astype(str)))

    half = np.random.default_rng(0).permutation(len(case.known)) % 2 == 0
    held, rest = (tuple(np.array(case.known, object)[rows]) for rows in (half, ~half))
    train_data, held_data = data(case.train, case.labels), data(held, case.known_labels[half])
    one = train(parse_head(head), recipe("default", head), train_data, held_data, len(names), 0, CPU, QUIET)
    known = fit_known(one.head, one.decision, train_data, held_data, CPU)
    assert known is not None

    def scores(texts: tuple[str, ...]) -> np.ndarray:
        features = read_features(texts, [identity], store)
        x = predict_each(one.head, one.head.unit_vectors, features, len(texts), CPU).numpy()
        return known.score(x, one.decision.log_odds(predict_logits(one.head, features, len(texts), CPU)))

    low, high = scores(rest), scores(case.unknown)
    truth = np.repeat([0, 1], [len(low), len(high)])
    threshold = known.threshold(RATE)
    return {
        f"{head}: AUROC": float(roc_auc_score(truth, np.concatenate([low, high]))),
        f"{head}: known texts rejected": float((low > threshold).mean()),
        f"{head}: unknown texts rejected": float((high > threshold).mean()),
    }


def known_texts(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Texts and labels of a training file, or of all splits of the demo corpus."""
    if name != "demo":
        return read(folder / name / "train.csv")
    demo = load_task(TaskConfig(name="demo"))
    parts = [(demo.split(split).texts, demo.targets(split)) for split in demo.splits]
    return np.concatenate([np.array(one, object) for one, _ in parts]), np.concatenate([one for _, one in parts])


def false_alarms(texts: np.ndarray, labels: np.ndarray, draw: int, classifier: FusionClassifier) -> list[float]:
    """Share of new texts that are rejected at each of RATES, after training on a draw of rows."""
    every = np.unique(labels.astype(str))
    rows, order = min(LABEL_ROWS, ALL_ROWS // len(every)), np.random.default_rng(draw)
    parts = [order.permutation(np.flatnonzero(labels.astype(str) == one)) for one in every]
    learned = np.concatenate([part[:rows] for part in parts])
    new = np.concatenate([part[rows:][: max(NEW_TEXTS // len(every), 1)] for part in parts])
    classifier.set_params(seed=draw).fit(texts[learned].tolist(), labels[learned].astype(str).tolist())
    scores = classifier.unknown_score(texts[new].tolist())
    return [float((scores > classifier.unknown_threshold(rate)).mean()) for rate in RATES]


def show_false_alarms(given: argparse.Namespace) -> None:
    """Print the measured false-alarm rates in percent, one line per data set and head."""
    sys.stdout.write(f"{'':22}" + "".join(f"{100 * rate:>16g}%" for rate in RATES) + "\n")
    for name in given.datasets:
        texts, labels = known_texts(given.data / "small", name)
        for head in given.head:
            classifier = FusionClassifier(given.encoder, head, store=given.store)
            found = 100 * np.array([false_alarms(texts, labels, draw, classifier) for draw in range(given.draws)])
            spread = found.std(0, ddof=1) if len(found) > 1 else np.zeros(len(RATES))
            cells = (f"{mean:9.1f} ± {std:4.1f} " for mean, std in zip(found.mean(0), spread, strict=True))
            sys.stdout.write(f"{name + ', ' + head:22}" + "".join(cells) + "\n")
            sys.stdout.flush()


def show(columns: Mapping[str, Mapping[str, float]]) -> None:
    """Print the figures in percent, one column per data set."""
    sys.stdout.write(f"{'':42}" + "".join(f"{name:>15}" for name in columns) + f"{'mean':>9}\n")
    for name in next(iter(columns.values())):
        values = [100 * one[name] for one in columns.values()]
        sys.stdout.write(f"{name:42}" + "".join(f"{value:15.2f}" for value in values) + f"{np.mean(values):9.2f}\n")


def main() -> int:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--datasets", nargs="+", default=["clinc150", "banking77", "trec"])
    parser.add_argument("--encoder", default="minilm-l6")
    parser.add_argument("--head", nargs="+", default=["linear"], choices=list(HEAD_CONFIGS))
    parser.add_argument("--store")
    parser.add_argument("--no-few", action="store_true", help=f"skip the runs with {FEW} rows per class")
    parser.add_argument("--false-alarms", action="store_true", help="measure the share of rejected known texts")
    parser.add_argument("--draws", type=int, default=5, help="draws of the rows, with --false-alarms. Default: 5")
    given = parser.parse_args()
    try:
        if given.false_alarms:
            show_false_alarms(given)
            return 0
        tokens = any(HEAD_CONFIGS[head].reads == "tokens" for head in given.head)
        (encoder,) = as_encoders(given.encoder, features="tokens" if tokens else "pooled")
        device, store = resolve_device("auto"), FeatureStore(given.store)
        identity = identify(encoder, device)
        columns: dict[str, dict[str, float]] = {}
        for name in given.datasets:
            whole = list(cases(given.data / "small", name))
            few = [fewer(case, seed) for case in whole for seed in range(DRAWS if len(whole) == 1 else 1)]
            parts = {name: whole} if given.no_few else {name: whole, f"{name}, {FEW}": few}
            for title, these in parts.items():
                figures = []
                for case in these:
                    extract_features([*case.train, *case.known, *case.unknown], identity, store, device, Progress())
                    figures.append(of_candidates(case, identity, store))
                    for head in given.head:
                        figures[-1] |= of_product(case, head, identity, store)
                columns[title] = {key: float(np.mean([one[key] for one in figures])) for key in figures[0]}
    except FecError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    show(columns)
    return 0


if __name__ == "__main__":
    sys.exit(main())
