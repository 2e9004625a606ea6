"""`FusionHeadClassifier`: your own features in, labels out; the heads as a scikit-learn classifier.

clf = FusionHeadClassifier(head="fusion", blocks={"minilm": 384, "mpnet": 768})
clf.fit(np.hstack([minilm_vectors, mpnet_vectors]), labels)
clf.predict_proba(more)

For texts see `FusionClassifier`, which extracts the features itself.
"""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d, validate_data

from fusion_classifier.config import Device
from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.features.arrays import Features, PooledFeatures
from fusion_classifier.fusion.registry import parse_head
from fusion_classifier.support.progress import QUIET, Progress
from fusion_classifier.tasks.split import VALID_FRACTION, held_out
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.loop import predict_logits, train

Shape = int | Sequence[int]


class FusionHeadClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A head on features of your own: from `fec export`, sentence-transformers, or any other source.

    Equal rows with the same label are one row of their common weight, and none stands both among the rows that are
    trained on and those that are held out. So a row of weight 2 is the same as the row twice, and the order of rows
    does not matter.

    Args:
        head: `linear`, `fusion` or `llmembed`.
        blocks: whose features stand side by side in the columns of X: a width (384) or a shape ((5, 576): five
            layers of width 576, flattened) for each, by name or in order. One block of all columns unless given.
            Heads `fusion` and `llmembed` treat each block as an encoder.
        recipe: `default` or `published` hyper-parameters.
        training: changes to the recipe, such as `{"learning_rate": 1e-4}` (fields of `TrainingConfig`).
        seed: of the start, the order of batches, dropout, and the validation rows held out.
        device: `auto`, `cpu`, `cuda` or `mps`.
        progress: whether to show progress bars on a terminal.

    Attributes:
        classes_: the labels, sorted, (C,); for an indicator matrix the numbers of its columns.
        n_features_in_: columns D of X.
        feature_names_in_: their names, where X has some.
        head_: the trained head, a torch module.
        decision_: how its logits become calibrated probabilities, and for a multi-label task each label's threshold.
        history_: one `Epoch` an epoch of training.
    """

    def __init__(
        self,
        head: str = "linear",
        *,
        blocks: Mapping[str, Shape] | Sequence[Shape] | None = None,
        recipe: str = "default",
        training: Mapping[str, float] | None = None,
        seed: int = 0,
        device: Device = "auto",
        progress: bool = False,
    ) -> None:
        self.head = head
        self.blocks = blocks
        self.recipe = recipe
        self.training = training
        self.seed = seed
        self.device = device
        self.progress = progress

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(
        self,
        X: np.ndarray,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_valid: np.ndarray | None = None,
        y_valid: ArrayLike | None = None,
    ) -> Self:
        """Train the head.

        Args:
            X: features (N, D), finite numbers; computed with in float32.
            y: labels (N,), or for a multi-label task an indicator matrix (N, C) of 0 and 1.
            sample_weight: how much each row counts (N,), ≥ 0: in the loss, in the choice of the best epoch, in
                calibration. Only their proportions matter. All alike unless given.
            X_valid: features for early stopping and calibration; a tenth of X, stratified, is held out unless given.
            y_valid: their labels.

        Raises:
            DataError: labels that can't be used, or too few rows to hold some out.
            UsageError: parameters that can't be used.
            ValueError: X that can't be used, in scikit-learn's words.
        """
        X = validate_data(self, X, dtype=np.float32, ensure_min_samples=2)
        shapes = block_shapes(self.blocks, X.shape[1])
        head_config = parse_head(self.head)
        training = recipe(self.recipe, self.head, **(self.training or {}))
        device, progress = resolve_device(self.device), Progress() if self.progress else QUIET
        self.classes_, targets = _encoded(y, len(X))
        weights = _weights(sample_weight, len(X))
        if targets.ndim == 1 and len(np.unique(targets[weights > 0])) < 2:
            raise DataError("y: needs rows of at least two different classes (with a sample_weight above 0)")
        X, targets, weights, row_ids = _distinct(X, targets, weights)
        if X_valid is None:
            held = held_out(row_ids.tolist(), _strata(targets).tolist(), VALID_FRACTION, self.seed)
            if not held:
                raise DataError(
                    "X: too few rows to hold some out for early stopping: no class has two different ones; "
                    "give X_valid and y_valid"
                )
            valid = np.array([row in held for row in row_ids.tolist()])
            parts = [(X[~valid], targets[~valid], weights[~valid]), (X[valid], targets[valid], weights[valid])]
        else:
            if y_valid is None:
                raise DataError("y_valid: give the labels of X_valid")
            X_valid = validate_data(self, X_valid, reset=False, dtype=np.float32)
            _, valid_targets = _encoded(y_valid, len(X_valid), self.classes_)
            parts = [(X, targets, weights), (X_valid, valid_targets, np.ones(len(X_valid)))]
        train_data, valid_data = (
            LabelledFeatures(_in_blocks(values, shapes), labels, _normalized(of_rows))
            for values, labels, of_rows in parts
        )
        trained = train(
            head_config, training, train_data, valid_data, len(self.classes_), self.seed, device, progress
        )
        self.head_, self.decision_, self.history_ = trained.head, trained.decision, trained.history
        self.shapes_ = shapes
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The most probable label of each row: (N,). Multi-label: an indicator matrix (N, C) of 0 and 1."""
        probabilities = self.predict_proba(X)  # checks first that there is a model
        answers = self.decision_.labels(probabilities)
        labels: np.ndarray = self.classes_[answers] if answers.ndim == 1 else answers
        return labels

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """The calibrated probability of each label: (N, C), float32, columns as in `classes_`."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float32)
        device = resolve_device(self.device)
        logits = predict_logits(self.head_.to(device), _in_blocks(X, self.shapes_), len(X), device)
        return self.decision_.probabilities(logits)


def block_shapes(blocks: Mapping[str, Shape] | Sequence[Shape] | None, columns: int) -> dict[str, tuple[int, ...]]:
    """The shape of each block by name; blocks without a name are called `block0`, `block1`, and so on.

    Raises:
        UsageError: not shapes of one or two dimensions, or not as many columns as X has.
    """
    if blocks is None:
        return {"block0": (columns,)}
    named = blocks if isinstance(blocks, Mapping) else {f"block{i}": shape for i, shape in enumerate(blocks)}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, given in named.items():
        shape: tuple[Any, ...] = tuple(given) if isinstance(given, Sequence) else (given,)
        if len(shape) not in (1, 2) or not all(isinstance(size, Integral) and int(size) > 0 for size in shape):
            raise UsageError(f"blocks: {name} has the shape {given!r}; give a width or (layers, width)")
        shapes[str(name)] = tuple(int(size) for size in shape)
    total = sum(math.prod(shape) for shape in shapes.values())
    if total != columns:
        raise UsageError(f"blocks: they have {total} columns together, X has {columns}")
    return shapes


def _in_blocks(X: np.ndarray, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Features]:
    """The columns (N, D) block by block, (N, *shape) each."""
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    parts = np.split(X, ends[:-1], axis=1)
    return {n: PooledFeatures(x.reshape(len(X), *shape)) for (n, shape), x in zip(shapes.items(), parts, strict=True)}


def _encoded(y: Any, count: int, classes: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The different labels, and each row's: indices into them (N,), int64, or of several (N, C) of 0 and 1, int64.

    Args:
        y: labels as `fit` takes them.
        count: rows there must be.
        classes: the labels there are; those of `y` unless given.
    """
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    check_classification_targets(y)
    if type_of_target(y) == "multilabel-indicator":
        several = (y.toarray() if issparse(y) else np.asarray(y)).astype(np.int64)
        _check_count(len(several), count)
        if classes is not None and len(classes) != several.shape[1]:
            raise DataError(f"y_valid: {several.shape[1]} columns for {len(classes)} labels")
        return np.arange(several.shape[1]), several
    labels = column_or_1d(y, warn=True)
    _check_count(len(labels), count)
    found, targets = np.unique(labels, return_inverse=True)
    if classes is None:
        return found, targets.astype(np.int64)
    unknown = np.setdiff1d(found, classes)
    if len(unknown):
        raise DataError(f"y_valid: label {str(unknown[0])!r} does not occur in y")
    return classes, np.searchsorted(classes, labels).astype(np.int64)


def _check_count(labels: int, rows: int) -> None:
    if labels != rows:
        raise DataError(f"y: {labels} labels for {rows} rows of X")


def _weights(given: Any, count: int) -> np.ndarray:
    """The weight of each row: (N,), float64."""
    if given is None:
        return np.ones(count)
    weights: np.ndarray = check_array(given, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
    if weights.shape != (count,):
        raise DataError(f"sample_weight: has the shape {weights.shape}, X has {count} rows")
    if (weights < 0).any():
        raise DataError(f"sample_weight: row {(weights < 0).argmax()} has a weight below 0")
    if not weights.any():
        raise DataError("sample_weight: all weights are zero")
    return weights


def _distinct(
    X: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Each different pair of row and label once, with the sum of its weights, in an order of their contents.

    Returns:
        Features, targets and weights of the pairs, and a number for each different row of features.
    """
    some = weights > 0
    X, targets, weights = X[some] + 0.0, targets[some], weights[some]  # -0.0 becomes 0.0, which has other bytes
    as_bytes = np.ascontiguousarray(X).view(f"V{X.itemsize * X.shape[1]}").ravel()
    _, row_ids = np.unique(as_bytes, return_inverse=True)
    _, label_ids = np.unique(targets, axis=0, return_inverse=True)
    _, first, pair_ids = np.unique(np.stack([row_ids, label_ids]), axis=1, return_index=True, return_inverse=True)
    return X[first], targets[first], np.bincount(pair_ids, weights), row_ids[first]


def _strata(targets: np.ndarray) -> np.ndarray:
    """The label each row is stratified by: its own, or the rarest of several (−1 for a row without any)."""
    if targets.ndim == 1:
        return targets
    rarest: np.ndarray = np.where(targets, targets.sum(0), len(targets) + 1).argmin(1)
    return np.where(targets.any(1), rarest, -1)


def _normalized(weights: np.ndarray) -> np.ndarray | None:
    """Weights with mean 1 as training takes them; None where all are alike."""
    if (weights == weights[0]).all():
        return None
    normalized: np.ndarray = (weights / weights.mean()).astype(np.float32)
    return normalized
