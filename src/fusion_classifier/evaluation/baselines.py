"""Baselines for judging a model: the majority class, and logistic regression.

    majority_class         each text gets the most frequent label; multi-label: those of more than half of them
    logistic_regression    the head `linear` on the pooled features of the same encoders, which agrees with
                           scikit-learn's; multi-label: one per label, with thresholds like every head

Both are heads with a decision, used and measured like any other. Nothing is chosen on the reported splits or on
validation: C and thresholds come from cross-validation on the training rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fusion_classifier.config import HeadConfig, LinearConfig, TrainingConfig
from fusion_classifier.features.arrays import FeatureShape
from fusion_classifier.fusion.head import Batch, Head, OutOfFold
from fusion_classifier.fusion.linear import LinearHead
from fusion_classifier.support.progress import QUIET
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.decision import Decision
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.train import train

MAX_WORK = 2e9  # rows × columns × labels per fit: about 20 seconds on one core
MIN_BASELINE_ROWS = 1000


@dataclass(frozen=True)
class Baseline:
    """A fitted baseline.

    Attributes:
        head: Features to logits.
        decision: Logits to labels.
        rows: Number of training rows used.
        C: Inverse strength of the L2 penalty. None: no penalty.
        out_of_fold: Predictions of training rows by models fitted without them.
        training: Settings with which its decision was fitted. None: it was not fitted.
    """

    head: Head
    decision: Decision
    rows: int
    C: float | None
    out_of_fold: OutOfFold
    training: TrainingConfig | None = None


def max_rows(columns: int, n_classes: int, memory: float) -> int:
    """Maximum number of rows for logistic regression, to bound the time and to fit into `memory` bytes."""
    return int(max(min(MAX_WORK / (columns * n_classes), memory / (4 * columns)), MIN_BASELINE_ROWS))


def majority_class(labels: np.ndarray, n_classes: int) -> Baseline:
    """The most frequent of the training labels (N,), or (N, C) of 0 and 1."""
    several = labels.ndim > 1
    counts = labels.sum(0) if several else np.bincount(labels, minlength=n_classes)
    share = (counts + 1) / (len(labels) + (2 if several else n_classes))
    logits = np.log(share) - (np.log1p(-share) if several else 0)
    constant = torch.from_numpy(logits).float()
    head = _Constant(HeadConfig(name="majority"), {}, n_classes, constant)
    decision = Decision(thresholds=(0.5,) * n_classes if several else None)
    out_of_fold = OutOfFold(np.arange(len(labels)), constant.expand(len(labels), -1))
    return Baseline(head, decision, len(labels), None, out_of_fold)


def logistic_regression(data: LabelledFeatures, n_classes: int, device: torch.device) -> Baseline:
    """Logistic regression on the training rows."""
    training = recipe("default", "linear")
    result = train(LinearConfig(), training, data, None, n_classes, 0, device, QUIET)
    assert isinstance(result.head, LinearHead)
    assert result.out_of_fold is not None
    return Baseline(result.head, result.decision, len(data), result.head.c, result.out_of_fold, training)


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


def sample_rows(labels: np.ndarray, most: int) -> np.ndarray:
    """Indices of at most `most` rows, ascending, stratified by label (multi-label: random)."""
    count = len(labels)
    if count <= most:
        return np.arange(count)
    order = np.random.default_rng(0).permutation(count)
    if labels.ndim == 1:  # every k-th row, sorted by label
        order = order[np.argsort(labels[order], kind="stable")]
        order = order[np.linspace(0, count - 1, most).round().astype(np.int64)]
    return np.sort(order[:most])
