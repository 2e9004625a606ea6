"""What anyone gets without this package, to judge a model by: the majority class, and logistic regression.

    majority_class         each text gets the most frequent label; multi-label: those of more than half of them
    logistic_regression    on the pooled features of the same encoders, each layer's vector scaled to unit L2 norm;
                           multi-label: one for each label, with thresholds as every head has them

Both are heads with a decision, predicted and measured as every other. Nothing is chosen on the splits that are
reported: C is the one with the highest cross-validated log-likelihood on a sample of the training rows.
"""

# ruff: noqa: PLC0415  # scikit-learn is slow to import

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fusion_classifier.config import HeadConfig, LinearConfig
from fusion_classifier.features.arrays import FeatureShape
from fusion_classifier.fusion.head import Batch, Head
from fusion_classifier.fusion.linear import LinearHead
from fusion_classifier.fusion.scikit_learn import SklearnHead, sklearn_config
from fusion_classifier.support.progress import QUIET
from fusion_classifier.training.calibration import fit_decision, loss_of
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.decision import Decision
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.loop import predict_logits, predict_transform
from fusion_classifier.training.train import train

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

GRID = (0.1, 1.0, 10.0, 100.0)  # inverse strengths of the L2 penalty
FOLDS = 3
MOST_ITERATIONS = 200
# Rows × columns × labels of a fit and of the choice of C: about 20 and 5 seconds on a core.
MOST_WORK, MOST_WORK_OF_CHOICE = 2e9, 2e8
MOST_ROWS_OF_CHOICE = 4000
LEAST_ROWS = 1000


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline.

    Attributes:
        head: Features to logits.
        decision: Logits to labels.
        rows: Number of training rows that it was fitted to.
        C: Inverse strength of the L2 penalty. None: there is none.
        out_of_fold: Logits of the training rows (N, C) by fits without them, of a cross-validated task.
    """

    head: Head
    decision: Decision
    rows: int
    C: float | None = None
    out_of_fold: Tensor | None = None


def most_rows(columns: int, n_classes: int, memory: float) -> int:
    """Number of rows that logistic regression is fitted to at most, in seconds and in so many bytes."""
    return int(max(min(MOST_WORK / (columns * n_classes), memory / (4 * columns)), LEAST_ROWS))


def majority_class(labels: np.ndarray, n_classes: int) -> Baseline:
    """The most frequent of the training labels (N,), or (N, C) of 0 and 1."""
    several = labels.ndim > 1
    counts = labels.sum(0) if several else np.bincount(labels, minlength=n_classes)
    share = (counts + 1) / (len(labels) + (2 if several else n_classes))
    logits = np.log(share) - (np.log1p(-share) if several else 0)
    head = _Constant(HeadConfig(name="majority"), {}, n_classes, torch.from_numpy(logits).float())
    return Baseline(head, Decision(thresholds=(0.5,) * n_classes if several else None), len(labels))


def cross_validated(train_data: LabelledFeatures, n_classes: int, device: torch.device) -> dict[str, Baseline]:
    """Every baseline with out-of-fold logits of all training rows, for a task without validation rows."""
    one = train(LinearConfig(), recipe("default", "linear"), train_data, None, n_classes, 0, device, QUIET)
    assert isinstance(one.head, LinearHead)
    assert one.out_of_fold is not None
    majority = majority_class(train_data.labels, n_classes)
    constant = majority.head({"": torch.empty(len(train_data), 0)})
    return {
        "logistic_regression": Baseline(one.head, one.decision, len(train_data), one.head.c, one.out_of_fold),
        "majority_class": replace(majority, out_of_fold=constant),
    }


def logistic_regression(
    train_data: LabelledFeatures, valid_data: LabelledFeatures, n_classes: int, device: torch.device
) -> Baseline:
    """Logistic regression of the training rows; on validation only a multi-label task's thresholds are chosen."""
    several = train_data.labels.ndim > 1
    probe = SklearnHead(sklearn_config(_classifier(1.0, several)), train_data.shapes, n_classes)
    x = predict_transform(probe, train_data.features, len(train_data), device).numpy()
    best = _best_c(x, train_data.labels, train_data.weights, n_classes)
    classifier = _classifier(best, several)
    head = SklearnHead(sklearn_config(classifier), train_data.shapes, n_classes, classifier)
    with _quiet():
        head.solve(x, train_data.labels, train_data.weights, seed=0)
    decision = Decision()
    if several:
        logits = predict_logits(head, valid_data.features, len(valid_data), device)
        decision = fit_decision(logits, valid_data.labels, calibrate=False)
    return Baseline(head, decision, len(train_data), best)


class _Constant(Head):
    """The same logits for every text."""

    logits: Tensor

    def __init__(
        self, config: HeadConfig, shapes: Mapping[str, FeatureShape], n_classes: int, logits: Tensor
    ) -> None:
        super().__init__(config, shapes, n_classes)
        self.register_buffer("logits", logits)

    def forward(self, batch: Batch) -> Tensor:
        return self.logits.expand(len(next(iter(batch.values()))), -1)


def _classifier(c: float, several: bool) -> "ClassifierMixin":
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    one = LogisticRegression(C=c, max_iter=MOST_ITERATIONS)
    return OneVsRestClassifier(one) if several else one


def _best_c(x: np.ndarray, labels: np.ndarray, weights: np.ndarray | None, n_classes: int) -> float:
    """The C with the highest cross-validated log-likelihood on a sample of the rows; 1 where they are too few."""
    most = min(max(MOST_WORK_OF_CHOICE / (x.shape[1] * n_classes), LEAST_ROWS), MOST_ROWS_OF_CHOICE)
    chosen = sample_rows(labels, int(most))
    x, labels, weights = x[chosen], labels[chosen], None if weights is None else weights[chosen]
    folds = list(_folds(labels)) if len(x) >= 2 * FOLDS else []
    if not folds or any(len(np.unique(labels[fitted], axis=0)) < 2 for fitted, _ in folds):
        return 1.0
    losses = [sum(_loss(c, x, labels, weights, n_classes, *fold) for fold in folds) for c in GRID]
    return GRID[int(np.argmin(losses))]


def _loss(
    c: float,
    x: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray | None,
    n_classes: int,
    fitted: np.ndarray,
    held: np.ndarray,
) -> float:
    """Negative log-likelihood of the held-out rows."""
    classifier = _classifier(c, labels.ndim > 1)
    head = SklearnHead(sklearn_config(classifier), {}, n_classes, classifier)
    with _quiet():
        head.solve(x[fitted], labels[fitted], None if weights is None else weights[fitted], seed=0)
        logits = torch.from_numpy(head.logits_of(x[held]))
    of_held = None if weights is None else torch.from_numpy(weights[held])
    return float(loss_of(logits, torch.from_numpy(labels[held]), weights=of_held)) * len(held)


def _folds(labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import KFold, StratifiedKFold

    # A label with fewer rows than folds is not in all of them, of which scikit-learn warns.
    stratified = labels.ndim == 1 and np.bincount(labels).max() >= FOLDS
    kind = StratifiedKFold if stratified else KFold
    with _quiet():
        yield from kind(FOLDS, shuffle=True, random_state=0).split(labels, labels if stratified else None)


def sample_rows(labels: np.ndarray, most: int) -> np.ndarray:
    """Numbers of at most `most` rows, ascending, stratified by label (multi-label: at random)."""
    count = len(labels)
    if count <= most:
        return np.arange(count)
    order = np.random.default_rng(0).permutation(count)
    if labels.ndim == 1:  # every k-th row of the rows sorted by label
        order = order[np.argsort(labels[order], kind="stable")]
        order = order[np.linspace(0, count - 1, most).round().astype(np.int64)]
    return np.sort(order[:most])


class _quiet(warnings.catch_warnings):  # noqa: N801 - used like the function that it is
    """Without scikit-learn's warnings: not converged, or a label that no or every row of a fold has."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")
