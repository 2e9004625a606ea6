"""The systems of `learning_curve.py`: functions that take a `Training` and return a function for probabilities.

No system sees the rows that it is scored on. Systems make their choices by cross-validation on the training rows.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from peers import decision_shares, neighbour_votes, spread, tfidf_of
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from fusion_classifier.classifier.estimator import FusionClassifier
from fusion_classifier.config import EnsembleConfig, HeadConfig

FROZEN = "ensemble-frozen"  # the head without the member that trains layers of an encoder
NEIGHBOURS = (1, 3, 5, 10, 20)
FOLDS = 5
TEXT_C = 10.0

Predict = Callable[[Sequence[str], np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Training:
    """Input for training a system.

    `vectors` are the texts' L2-normalized mean-pooled vectors (N, D); for prediction, vectors are passed, too.
    `encoder` may be several, joined by +.
    """

    texts: tuple[str, ...]
    labels: np.ndarray
    vectors: np.ndarray
    n_classes: int
    seed: int
    encoder: str
    store: Path | None
    classes: Sequence[str] = ()  # labels as the user has them. Default: their numbers


@dataclass(frozen=True)
class System:
    """A system. `seeded`: the result depends on the seed; `probabilistic`: it has an ECE."""

    title: str
    fit: Callable[[Training], Predict]
    seeded: bool = False
    probabilistic: bool = True


def five_lines(training: Training, *, c: float) -> Predict:
    """Plain logistic regression on the vectors."""
    model = LogisticRegression(C=c, max_iter=1000).fit(training.vectors, training.labels)
    return lambda _, vectors: spread(model.predict_proba(vectors), model.classes_, training.n_classes)


def svm(training: Training) -> Predict:
    """Linear support vector machine on the vectors, with scikit-learn's defaults."""
    model = LinearSVC(random_state=0).fit(training.vectors, training.labels)
    return lambda _, vectors: decision_shares(model, vectors, training.n_classes)


def knn(training: Training) -> Predict:
    """Cosine-weighted nearest neighbours; k is chosen by cross-validated accuracy, the smallest of the best."""

    def neighbours(
        known: np.ndarray, of: np.ndarray, vectors: np.ndarray, most: int
    ) -> tuple[np.ndarray, np.ndarray]:
        index = NearestNeighbors(n_neighbors=most, metric="cosine", algorithm="brute").fit(known)
        distances, rows = index.kneighbors(vectors)
        return np.maximum(1 - distances, 1e-6), of[rows]

    right = dict.fromkeys(NEIGHBOURS, 0)
    for fold, rest in folds(training.labels):
        most = min(NEIGHBOURS[-1], len(fold))
        known, of = training.vectors[fold], training.labels[fold]
        weights, labels = neighbours(known, of, training.vectors[rest], most)
        for k in NEIGHBOURS:
            answers = neighbour_votes(weights[:, :k], labels[:, :k], training.n_classes).argmax(1)
            right[k] += int((answers == training.labels[rest]).sum())
    k = min(max(right, key=lambda k: (right[k], -k)), len(training.labels))

    def predict(_: Sequence[str], vectors: np.ndarray) -> np.ndarray:
        weights, labels = neighbours(training.vectors, training.labels, vectors, k)
        return neighbour_votes(weights, labels, training.n_classes)

    return predict


def folds(labels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training and validation rows of five folds, stratified if classes have enough rows."""
    most = int(np.bincount(labels).max())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        stratified = StratifiedKFold if most > 1 else KFold
        kfold = stratified(min(FOLDS, max(most, 2)), shuffle=True, random_state=0)
        return list(kfold.split(np.zeros((len(labels), 1)), labels))


def tfidf(training: Training) -> Predict:
    """TF-IDF of words and characters, logistic regression with C = 10."""
    transform = tfidf_of(training.texts, min_df=1)
    model = LogisticRegression(C=TEXT_C, max_iter=300).fit(transform(training.texts), training.labels)
    return lambda texts, _: spread(model.predict_proba(transform(texts)), model.classes_, training.n_classes)


def static(training: Training) -> Predict:
    """Static embeddings distilled by model2vec from the same encoder, L2-normalized; logistic regression, C = 10.

    Distillation needs no labels and is done once, before training.
    https://github.com/MinishLab/model2vec#distillation
    """
    model = distilled(str(encoder_folder(training.encoder)))
    vectors = normalize(model.encode(list(training.texts)))
    head = LogisticRegression(C=TEXT_C, max_iter=1000).fit(vectors, training.labels)

    def predict(texts: Sequence[str], _: np.ndarray) -> np.ndarray:
        return spread(head.predict_proba(normalize(model.encode(list(texts)))), head.classes_, training.n_classes)

    return predict


@cache
def distilled(folder: str) -> Any:
    """model2vec's static model of an encoder, with its defaults: 256 dimensions, tokens weighted by rank."""
    from model2vec.distill import distill  # noqa: PLC0415 - may not be installed

    return distill(folder)


def head_of(name: str) -> str | HeadConfig:
    """The head that a name of `--heads` means."""
    return EnsembleConfig(upper_layers=False) if name == FROZEN else name


def ours(training: Training, *, head: str) -> Predict:
    """`FusionClassifier` with a head and default options; its features are in the store."""
    names = np.array(training.classes or list(map(str, range(training.n_classes))))
    model = FusionClassifier(training.encoder.split("+"), head_of(head), seed=training.seed, store=training.store)
    model.fit(list(training.texts), names[training.labels])
    columns = [names.tolist().index(label) for label in model.classes_]  # sorted as words, not by number

    def predict(texts: Sequence[str], _: np.ndarray) -> np.ndarray:
        probabilities = np.zeros((len(texts), training.n_classes))
        probabilities[:, columns] = model.predict_proba(list(texts))
        return probabilities

    return predict


def heavy(training: Training, *, system: str, folder: Callable[[str], Path]) -> Predict:
    """SetFit or full fine-tuning, as in `learning_curve_peers.py`."""
    from learning_curve_peers import train_part  # noqa: PLC0415 - slow to import, and may not be installed

    predict, _ = train_part(
        system, training.texts, training.labels, training.n_classes, training.seed, folder(training.encoder)
    )
    return lambda texts, _: predict(texts)


def encoder_folder(encoder: str) -> Path:
    """The folder of an encoder's weights."""
    from fusion_classifier.encoders.spec import parse_encoders  # noqa: PLC0415
    from fusion_classifier.encoders.weights import locate  # noqa: PLC0415

    (config,) = parse_encoders([encoder])
    return Path(locate(config).folder)


PEERS: Mapping[str, System] = {
    "lr-1": System("five lines, C = 1", partial(five_lines, c=1.0)),
    "lr-10": System("five lines, C = 10", partial(five_lines, c=10.0)),
    "lr-100": System("five lines, C = 100", partial(five_lines, c=100.0)),
    "svm": System("linear SVM", svm, probabilistic=False),
    "knn": System("k nearest neighbours", knn),
    "tfidf": System("TF-IDF + logistic regression", tfidf),
    "static": System("static embeddings + logistic regression", static),
    "setfit": System("SetFit", partial(heavy, system="setfit", folder=encoder_folder), seeded=True),
    "finetune": System("full fine-tuning", partial(heavy, system="finetune", folder=encoder_folder), seeded=True),
}
CHEAP = ("lr-1", "lr-10", "lr-100", "svm", "knn", "tfidf")  # the default: needs no other library


def system_of(name: str) -> System:
    """A peer by name, without its encoder; any other name is a head of the package."""
    name, _, _ = name.partition("@")
    found: Any = PEERS.get(name)
    return found or System(f"head {name}", partial(ours, head=name), seeded=True)
