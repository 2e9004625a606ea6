"""The peers of `accuracy.py`: functions from a `Problem` to a `Fitted`.

Every choice is made by weighted F1 on the validation split. A function never sees the test split: it returns a
`predict` from texts to probabilities, and the driver decides what to predict. Peers get all cores, bfloat16 if the
CPU supports it, and settings from their own documentation (linked below).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import hstack
from scipy.special import softmax
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import f1_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler, normalize

from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders.identity import identify
from fusion_classifier.features.arrays import PooledFeatures
from fusion_classifier.features.extract import read_features
from fusion_classifier.runs.context import RunContext
from fusion_classifier.tasks.loaded import LoadedTask, targets

Predict = Callable[[Sequence[str]], np.ndarray]


@dataclass(frozen=True)
class Problem:
    """Input of a system.

    `task` has only the splits train and valid; `encoders` are those whose features the system reads (or whose weights
    it fine-tunes); `settled` are the hyper-parameters chosen by an earlier seed, so that the search is done once;
    `quick` requests a single setting instead of a grid; `folder` is the system's working folder.
    """

    task: LoadedTask
    seed: int
    quick: bool
    settled: Mapping[str, Any] | None
    encoders: tuple[EncoderConfig, ...]
    work: RunContext
    folder: Path

    @property
    def n_classes(self) -> int:
        """C."""
        return len(self.task.labels)

    def texts(self, split: str) -> Sequence[str]:
        """The texts of a split."""
        return self.task.split(split).texts

    def labels(self, split: str) -> np.ndarray:
        """The labels of a split, (N,), int64."""
        return targets(self.task.split(split).labels, self.n_classes)


@dataclass(frozen=True)
class Fitted:
    """A trained system.

    `predict` returns probabilities (N, C); if a system has none, the softmax of its scores, and `probabilistic` is
    false. `chosen` are the hyper-parameters chosen on validation, `fixed` the other relevant ones.
    """

    predict: Predict
    chosen: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    search_seconds: float = 0.0
    train_seconds: float = 0.0
    probabilistic: bool = True
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidate:
    """One trained setting of a grid. `state` is what the caller needs for prediction."""

    setting: Mapping[str, Any]
    state: Any
    weighted_f1: float
    seconds: float


def weighted_f1(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Score for all choices."""
    return float(f1_score(labels, probabilities.argmax(1), average="weighted", zero_division=0))


def search(
    problem: Problem, grid: Sequence[Mapping[str, Any]], fit: Callable[[Mapping[str, Any]], tuple[Any, np.ndarray]]
) -> tuple[Candidate, float]:
    """Train every setting and keep the best one on validation.

    Args:
        problem: Data. With a settled choice, only that is trained; with `quick`, only the middle one.
        grid: Settings, ordered so that the middle one is the most likely.
        fit: Function from a setting to a state and the probabilities of the validation texts (N, C).

    Returns:
        The best candidate, and the total seconds for the others.
    """
    settings = [problem.settled] if problem.settled else [grid[len(grid) // 2]] if problem.quick else list(grid)
    best: Candidate | None = None
    total = 0.0
    for setting in settings:
        started = time.perf_counter()
        state, probabilities = fit(setting)
        seconds = time.perf_counter() - started
        total += seconds
        found = Candidate(setting, state, weighted_f1(problem.labels("valid"), probabilities), seconds)
        if best is None or found.weighted_f1 > best.weighted_f1:
            best = found
        del state
    assert best is not None
    return best, total - best.seconds


def spread(probabilities: np.ndarray, classes: np.ndarray, n_classes: int) -> np.ndarray:
    """Expand columns to all C classes from those that occur in the training texts."""
    if probabilities.shape[1] == n_classes:
        return probabilities
    every = np.zeros((len(probabilities), n_classes), dtype=probabilities.dtype)
    every[:, classes] = probabilities
    return every


def majority(problem: Problem) -> Fitted:
    """The most frequent training label, with the label frequencies as probabilities."""
    model = DummyClassifier(strategy="prior").fit(
        np.zeros((len(problem.labels("train")), 1)), problem.labels("train")
    )
    return Fitted(
        lambda texts: spread(model.predict_proba(np.zeros((len(texts), 1))), model.classes_, problem.n_classes)
    )


def tfidf_of(texts: Sequence[str], min_df: int) -> Callable[[Sequence[str]], Any]:
    """TF-IDF of word 1–2-grams and character 3–5-grams, fitted on these texts; returns a function to a sparse
    matrix."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=min_df, dtype=np.float32).fit(texts)
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, min_df=min_df, dtype=np.float32
    ).fit(texts)
    return lambda of: hstack([words.transform(of), characters.transform(of)]).tocsr()


def tfidf(problem: Problem) -> Fitted:
    """TF-IDF of word 1–2-grams and character 3–5-grams with logistic regression, C chosen on validation.

    https://scikit-learn.org/stable/modules/feature_extraction.html#text-feature-extraction
    """
    started = time.perf_counter()
    transform = tfidf_of(problem.texts("train"), min_df=2)
    train, valid = transform(problem.texts("train")), transform(problem.texts("valid"))
    prepared = time.perf_counter() - started

    def fit(setting: Mapping[str, Any]) -> tuple[LogisticRegression, np.ndarray]:
        model = LogisticRegression(C=setting["C"], max_iter=300).fit(train, problem.labels("train"))
        return model, spread(model.predict_proba(valid), model.classes_, problem.n_classes)

    best, others = search(problem, [{"C": c} for c in (1.0, 3.0, 10.0, 30.0)], fit)

    def predict(texts: Sequence[str]) -> np.ndarray:
        return spread(best.state.predict_proba(transform(texts)), best.state.classes_, problem.n_classes)

    fixed = {"features": train.shape[1], "words": "1-2", "characters": "3-5", "min_df": 2, "max_iter": 300}
    return Fitted(predict, best.setting, fixed, others, prepared + best.seconds)


@dataclass(frozen=True)
class Standardized:
    """The concatenated pooled features of all encoders, each standardized with the training texts' statistics."""

    problem: Problem
    scaler: StandardScaler

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(N, D), float32."""
        matrix: np.ndarray = self.scaler.transform(concatenated(self.problem, texts), copy=False)
        return matrix


def concatenated(problem: Problem, texts: Sequence[str]) -> np.ndarray:
    """The concatenated pooled features of all encoders (N, D), float32, which must be in the store."""
    identities = [identify(encoder, problem.work.device) for encoder in problem.encoders]
    parts = []
    for features in read_features(texts, identities, problem.work.store).values():
        assert isinstance(features, PooledFeatures)
        parts.append(features.values.reshape(len(texts), -1).astype(np.float32))
    return np.concatenate(parts, axis=1)


def standardized(problem: Problem) -> tuple[Standardized, np.ndarray, np.ndarray]:
    """The transformation, and the transformed training and validation features."""
    train = concatenated(problem, problem.texts("train"))
    transform = Standardized(problem, StandardScaler().fit(train))
    return transform, transform.scaler.transform(train, copy=False), transform(problem.texts("valid"))


def logistic(problem: Problem) -> Fitted:
    """Logistic regression (L-BFGS) on the standardized features, C chosen on validation."""
    started = time.perf_counter()
    transform, train, valid = standardized(problem)
    prepared = time.perf_counter() - started

    def fit(setting: Mapping[str, Any]) -> tuple[LogisticRegression, np.ndarray]:
        model = LogisticRegression(C=setting["C"], max_iter=200).fit(train, problem.labels("train"))
        return model, spread(model.predict_proba(valid), model.classes_, problem.n_classes)

    best, others = search(problem, [{"C": c} for c in (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)], fit)

    def predict(texts: Sequence[str]) -> np.ndarray:
        return spread(best.state.predict_proba(transform(texts)), best.state.classes_, problem.n_classes)

    fixed = {"features": train.shape[1], "max_iter": 200}
    return Fitted(predict, best.setting, fixed, others, prepared + best.seconds)


def decision_shares(model: Any, matrix: np.ndarray, n_classes: int) -> np.ndarray:
    """Softmax of a linear classifier's decision function (N, C): it ranks the labels but is not a probability."""
    scores = model.decision_function(matrix)
    every = np.full((len(matrix), n_classes), scores.min() - 1.0)
    every[:, model.classes_] = scores if scores.ndim == 2 else np.stack([-scores, scores], 1)
    return np.asarray(softmax(every, axis=1), dtype=np.float64)


def svm(problem: Problem) -> Fitted:
    """Linear support vector machine, one-vs-rest, on the standardized features; alpha chosen on validation.

    Averaged stochastic gradient descent: liblinear's Newton steps (`LinearSVC`) had not finished four settings with
    19,500 texts, 4,032 features and 32 labels after 55 minutes. The prediction is the label with the largest decision
    function; its softmax ranks the labels but is not a probability.
    https://scikit-learn.org/stable/modules/sgd.html#tips-on-practical-use
    """
    started = time.perf_counter()
    transform, train, valid = standardized(problem)
    prepared = time.perf_counter() - started

    def decide(model: SGDClassifier, matrix: np.ndarray) -> np.ndarray:
        return decision_shares(model, matrix, problem.n_classes)

    def fit(setting: Mapping[str, Any]) -> tuple[SGDClassifier, np.ndarray]:
        model = SGDClassifier(
            loss="hinge", alpha=setting["alpha"], average=True, max_iter=20, random_state=problem.seed
        )
        model.fit(train, problem.labels("train"))
        return model, decide(model, valid)

    best, others = search(problem, [{"alpha": alpha} for alpha in (1e-3, 1e-2, 1e-1, 1.0)], fit)
    fixed = {"features": train.shape[1], "max_iter": 20, "loss": "hinge", "average": True}
    return Fitted(
        lambda texts: decide(best.state, transform(texts)),
        best.setting,
        fixed,
        others,
        prepared + best.seconds,
        probabilistic=False,
    )


NEIGHBOURS = (1, 3, 5, 10, 20, 40, 80)


def neighbour_votes(weights: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Label shares (N, C) among neighbours: `weights` and `labels` are (N, k)."""
    counts = np.zeros((len(weights), n_classes))
    np.add.at(counts, (np.arange(len(weights))[:, None], labels), weights)
    shares: np.ndarray = counts / counts.sum(1, keepdims=True)
    return shares


def knn(problem: Problem) -> Fitted:
    """Cosine-weighted nearest neighbours on the standardized features; k chosen on validation."""
    started = time.perf_counter()
    transform, train, valid = standardized(problem)
    most = min(NEIGHBOURS[-1], len(train))
    index = NearestNeighbors(n_neighbors=most, metric="cosine", algorithm="brute").fit(normalize(train, copy=False))
    labels = problem.labels("train")

    def neighbours(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        distances, rows = index.kneighbors(normalize(matrix, copy=False))
        return np.maximum(1 - distances, 1e-6), labels[rows]

    def votes(found: tuple[np.ndarray, np.ndarray], k: int) -> np.ndarray:
        return neighbour_votes(found[0][:, :k], found[1][:, :k], problem.n_classes)

    of_valid = neighbours(valid)  # once for all k: there is no training
    prepared = time.perf_counter() - started
    grid = [{"k": k} for k in NEIGHBOURS if k <= most]
    best, others = search(problem, grid, lambda setting: (None, votes(of_valid, setting["k"])))
    k = best.setting["k"]
    return Fitted(
        lambda texts: votes(neighbours(transform(texts)), k),
        best.setting,
        {"features": train.shape[1], "metric": "cosine", "votes": "weighted by cosine"},
        others,
        prepared + best.seconds,
    )
