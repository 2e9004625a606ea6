"""`FusionHeadClassifier`: features of your own in, labels out; the heads as an estimator of scikit-learn.

clf = FusionHeadClassifier(head="fusion", blocks={"minilm": 384, "mpnet": 768})
clf.fit(np.hstack([minilm_vectors, mpnet_vectors]), labels)
clf.predict_proba(more)

For texts see `FusionClassifier`, which extracts the features itself.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from fusion_classifier.classifier.folder import SavedModel
from fusion_classifier.classifier.inputs import (
    ClassWeight,
    column,
    encode_labels,
    normalized,
    row_weights,
    used_rows,
    validation_rows,
)
from fusion_classifier.classifier.pretrained import Objects, Paths
from fusion_classifier.classifier.trainable import TrainableClassifier
from fusion_classifier.config import Device, HeadConfig, TrainingChanges, TrainingConfig
from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.features.arrays import Features, PooledFeatures
from fusion_classifier.fusion.registry import head_config
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.inference import predict_each, predict_logits

Shape = int | Sequence[int]


class FusionHeadClassifier(
    TrainableClassifier,
    ClassifierMixin,  # type: ignore[misc]  # scikit-learn has no types
    BaseEstimator,  # type: ignore[misc]
):
    """A head on features of your own: from `fec export`, sentence-transformers, or any other source.

    Equal rows with the same label are merged, with the sum of their weights, and are never both trained on and held
    out. So a row with weight 2 equals the same row twice, and the order of rows does not matter.

    Args:
        head: `linear`, `ensemble`, `fusion`, `llmembed` or the name of a registered head, a `HeadConfig`, a
            scikit-learn classifier with `predict_proba`, or a torch module or its class. Default: linear.
        blocks: Columns of X by their source: a width (384) or a shape ((5, 576): five layers of width 576, flattened)
            for each, by name or in order. Heads `fusion` and `llmembed` treat each block as an encoder. Default: one
            block of all columns.
        recipe, training, class_weight, seed, device, verbose: As in `FusionClassifier`.

    Attributes:
        n_features_in_: Number of columns D of X.
        feature_names_in_: Column names of X, if it has any.
        classes_, history_, head_, config_, card_, known_: As in `FusionClassifier`.
    """

    def __init__(
        self,
        head: str | HeadConfig | Any = "linear",
        *,
        blocks: Mapping[str, Shape] | Sequence[Shape] | None = None,
        recipe: str = "default",
        training: TrainingChanges | TrainingConfig | None = None,
        class_weight: ClassWeight = None,
        seed: int = 0,
        device: Device = "auto",
        verbose: bool = False,
    ) -> None:
        self.head = head
        self.blocks = blocks
        self.recipe = recipe
        self.training = training
        self.class_weight = class_weight
        self.seed = seed
        self.device = device
        self.verbose = verbose

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
            X: Features (N, D), finite numbers; used as float32.
            y: Labels (N,): strings, whole numbers or bools; for a multi-label task an indicator matrix (N, C) of 0
                and 1, or a table of indicator columns.
            sample_weight: Weights (N,), as in `FusionClassifier.fit`. Default: 1.
            X_valid: Features for early stopping and calibration. Default: as in `FusionClassifier.fit`.
            y_valid: Their labels.

        Raises:
            ValueError: Invalid data or parameters: `DataError`, `UsageError`, or scikit-learn's own.
        """
        self._check_seed()
        X = validate_data(self, X, dtype=np.float32, ensure_min_samples=2)
        shapes = block_shapes(self.blocks, X.shape[1])
        head = head_config(self.head)
        training = self._training_config(head)
        parts, classes = self._parts(head, X, y, sample_weight, X_valid, y_valid)
        train_data, *rest = (
            LabelledFeatures(_in_blocks(values, shapes), targets, normalized(weights))
            for values, targets, weights in parts
        )
        valid_data = rest[0] if rest else None
        columns = getattr(self, "feature_names_in_", None)
        described = {"task": "own features", "blocks": shapes, "columns": columns}
        self._train(head, training, classes, train_data, valid_data, (), **described)
        return self

    def _parts(
        self, head: HeadConfig, X: np.ndarray, y: Any, sample_weight: Any, X_valid: Any, y_valid: Any
    ) -> tuple[list[tuple[np.ndarray, np.ndarray, np.ndarray]], np.ndarray]:
        """Features, targets and weights to train and to validate on, and the labels (C,)."""
        classes, targets = _encoded(y, "y", len(X))
        weights = row_weights(sample_weight, self.class_weight, classes, targets)
        used = used_rows(targets, weights)
        X, targets, weights, row_ids = _distinct(X[used], targets[used], weights[used])
        if X_valid is not None:
            X_valid = validate_data(self, X_valid, reset=False, dtype=np.float32)
            _, valid_targets = _encoded(y_valid, "y_valid", len(X_valid), classes)
            valid_weights = row_weights(None, self.class_weight, classes, valid_targets)
            return [(X, targets, weights), (X_valid, valid_targets, valid_weights)], classes
        if len(X) <= head.cross_validated_rows:
            return [(X, targets, weights)], classes
        held = validation_rows(row_ids.tolist(), targets, self.seed)
        if not held.any():
            raise DataError(
                "`X`: too few rows to hold some out for early stopping: no class has two different ones; "
                "give `X_valid` and `y_valid`"
            )
        return [(X[rows], targets[rows], weights[rows]) for rows in (~held, held)], classes

    def predict(self, X: np.ndarray, *, reject_unknown: float | None = None) -> np.ndarray:
        """The most probable label of each row: (N,). Multi-label: an indicator matrix (N, C) of 0 and 1.

        Args:
            X: Features (N, D).
            reject_unknown: As in `FusionClassifier.predict`. Default: every row gets a label.
        """
        logits, decision = self._logits(X), self.config_.decision
        answers = decision.labels(decision.probabilities(logits))
        if reject_unknown is not None:
            return self._rejecting(answers, self.unknown_score(X), reject_unknown)
        labels: np.ndarray = self.classes_[answers] if answers.ndim == 1 else answers
        return labels

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Calibrated probability of each label: (N, C), float32, columns as in `classes_`."""
        logits = self._logits(X)  # checks first that there is a model
        return self.config_.decision.probabilities(logits)

    def unknown_score(self, X: np.ndarray) -> np.ndarray:
        """Unknown score of each row, higher for rows unlike the training data: (N,), float32, as in
        `FusionClassifier`."""
        check_is_fitted(self)
        known = self._known()
        x = self._run(X, lambda head, *of: predict_each(head, head.unit_vectors, *of)).numpy()
        return known.score(x, self.config_.decision.log_odds(self._logits(X)))

    def _logits(self, X: np.ndarray) -> torch.Tensor:
        """Output of the head before calibration: (N, C)."""
        return self._run(X, predict_logits)

    def _run(self, X: np.ndarray, call: Callable[..., torch.Tensor]) -> torch.Tensor:
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float32)
        device = resolve_device(self.device)
        return call(self.head_.to(device), _in_blocks(X, self.config_.blocks), len(X), device)

    @classmethod
    def _of(cls, saved: SavedModel, card: str, name: str, device: Device, paths: Paths, encoders: Objects) -> Self:
        config = saved.config
        if not config.blocks:
            raise UsageError(f"{name} reads texts, not features; use FusionClassifier.from_pretrained")
        if paths or encoders:
            raise UsageError(
                f"`encoders`, `encoder_paths`: {name} reads features and has no encoders; leave them out"
            )
        loaded = cls(head=saved.made_of, blocks=config.blocks, seed=config.seed, device=device)
        loaded._restore(config, saved.head, card, saved.known)
        loaded.n_features_in_ = sum(map(math.prod, config.blocks.values()))
        if config.columns is not None:
            loaded.feature_names_in_ = np.array(config.columns, dtype=object)
        return loaded


def block_shapes(blocks: Mapping[str, Shape] | Sequence[Shape] | None, columns: int) -> dict[str, tuple[int, ...]]:
    """The shape of each block by name; blocks without a name are called `block0`, `block1`, and so on.

    Raises:
        UsageError: Shapes that do not have one or two dimensions, or do not add up to the columns of X.
    """
    if blocks is None:
        return {"block0": (columns,)}
    named = blocks if isinstance(blocks, Mapping) else {f"block{i}": shape for i, shape in enumerate(blocks)}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, given in named.items():
        shape: tuple[Any, ...] = tuple(given) if isinstance(given, Sequence) else (given,)
        if len(shape) not in (1, 2) or not all(isinstance(size, Integral) and int(size) > 0 for size in shape):
            raise UsageError(f"`blocks`: {name} has the shape {given!r}; give a width or (layers, width)")
        shapes[str(name)] = tuple(int(size) for size in shape)
    total = sum(map(math.prod, shapes.values()))
    if total != columns:
        raise UsageError(f"`blocks`: the blocks have {total} columns in total, but `X` has {columns}")
    return shapes


def _in_blocks(X: np.ndarray, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Features]:
    """The columns (N, D) by block, (N, *shape) each."""
    ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
    parts = np.split(X, ends[:-1], axis=1)
    return {n: PooledFeatures(x.reshape(len(X), *shape)) for (n, shape), x in zip(shapes.items(), parts, strict=True)}


def _encoded(y: Any, name: str, count: int, classes: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Labels (C,) and targets (N,) or (N, C), like `encode_labels`, with the checks that scikit-learn expects."""
    values = column(y)
    if np.ndim(values) == 2 and np.shape(values)[1] == 1:
        y = column_or_1d(values, warn=True)
    labels, targets = encode_labels(y, name, count, classes)
    if labels.dtype.kind == "f" and (labels % 1).any():
        raise DataError(f"`{name}`: Unknown label type: continuous; classes are strings, whole numbers or bools")
    return labels, targets


def _distinct(
    X: np.ndarray, targets: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Each distinct pair of row and label once, with the sum of its weights, ordered by content.

    Returns:
        Features, targets and weights of the pairs, and a number for each different row of features.
    """
    X = X + 0.0  # -0.0 becomes 0.0, which has other bytes
    as_bytes = np.ascontiguousarray(X).view(f"V{X.itemsize * X.shape[1]}").ravel()
    _, row_ids = np.unique(as_bytes, return_inverse=True)
    _, label_ids = np.unique(targets, axis=0, return_inverse=True)
    _, first, pair_ids = np.unique(np.stack([row_ids, label_ids]), axis=1, return_index=True, return_inverse=True)
    return X[first], targets[first], np.bincount(pair_ids, weights), row_ids[first]
