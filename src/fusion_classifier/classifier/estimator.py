"""`FusionClassifier`: texts in, labels out; an estimator of scikit-learn.

clf = FusionClassifier()
clf.fit(texts, labels)
clf.predict(["what a day!"])
clf.save_pretrained("my-model")
FusionClassifier.from_pretrained("my-model")
"""

import os
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin

from fusion_classifier.classifier.inputs import (
    ClassWeight,
    Labels,
    check_texts,
    encode_labels,
    label_values,
    row_weights,
    used_rows,
    validation_rows,
)
from fusion_classifier.classifier.pipeline import Rows, label_texts, open_rows, with_names
from fusion_classifier.classifier.prediction import TextPredictor
from fusion_classifier.classifier.saved_encoders import saved_encoders
from fusion_classifier.classifier.trainable import TrainableClassifier
from fusion_classifier.classifier.tuned import tuned_on
from fusion_classifier.config import (
    DEFAULT_HEAD,
    Device,
    EncoderConfig,
    HeadConfig,
    TrainingChanges,
    TrainingConfig,
)
from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.presets import DEFAULT_ENCODERS
from fusion_classifier.encoders.protocol import Encoder, PrecomputedEncoder
from fusion_classifier.encoders.spec import as_encoders
from fusion_classifier.errors import DataError
from fusion_classifier.features.arrays import from_arrays
from fusion_classifier.features.extract import extract_features, memory_for_features
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.registry import head_config
from fusion_classifier.support.text import counted
from fusion_classifier.tasks.normalize import same_key
from fusion_classifier.tasks.split import MIN_ROWS_TO_SPLIT
from fusion_classifier.training.inference import predict_each


class FusionClassifier(
    TrainableClassifier,
    TextPredictor,
    ClassifierMixin,  # type: ignore[misc]  # scikit-learn has no types
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """A text classifier on the fused features of frozen encoders.

    Args:
        encoders: One or several encoders: names as on the command line (`minilm-l6`, `minilm-l6=PATH`, a Hub id, a
            folder; with settings `?pooling=tokens&layers=2,4,6`), `EncoderConfig`, or objects: an `Encoder`, a
            SentenceTransformer, a function with `name` and `version`. Default: minilm-l6 and mpnet-base.
        head: `ensemble`, `fusion`, `linear`, `llmembed` or the name of a registered head, a `HeadConfig`, a
            scikit-learn classifier with `predict_proba`, or a torch module or its class. Default: ensemble.
        recipe: Hyper-parameters to start from, `default` or `published`. Default: default.
        training: Changes to the recipe, such as `{"learning_rate": 1e-4}` (fields of `TrainingConfig`), or all
            hyper-parameters as a `TrainingConfig`. Each field is a parameter too: `training__learning_rate`.
        class_weight: Weight by label, or "balanced": inversely proportional to the labels' frequencies. Default: 1.
        seed: Random seed of weights, order of batches, dropout, and the validation rows. Default: 0.
        device: `auto`, `cpu`, `cuda` or `mps`. Default: auto.
        store: Folder of the feature store. Default: the user's cache.
        keep_features: Whether `predict` uses the store, too, if given two or more texts, so that cross-validation and
            grid search encode each text once. Default: True; `from_pretrained` sets it to False.
        verbose: Whether to show progress, on a terminal or in a notebook. Default: False.

    Attributes:
        classes_: Sorted labels (C,); for a table of indicator columns, its column names.
        history_: One `Epoch` per epoch of training.
        head_: Trained head, a torch module.
        config_: Content of `config.json`.
        card_: Model card, Markdown.
    """

    def __init__(
        self,
        encoders: str | EncoderConfig | Encoder | Sequence[str | EncoderConfig | Encoder | Any] = DEFAULT_ENCODERS,
        head: str | HeadConfig | Any = DEFAULT_HEAD,
        *,
        recipe: str = "default",
        training: TrainingChanges | TrainingConfig | None = None,
        class_weight: ClassWeight = None,
        seed: int = 0,
        device: Device = "auto",
        store: str | os.PathLike[str] | None = None,
        keep_features: bool = True,
        verbose: bool = False,
    ) -> None:
        self.encoders = encoders
        self.head = head
        self.recipe = recipe
        self.training = training
        self.class_weight = class_weight
        self.seed = seed
        self.device = device
        self.store = store
        self.keep_features = keep_features
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = True, False
        tags.classifier_tags.multi_label = True
        return tags

    def fit(
        self,
        X: Sequence[str],
        y: Labels,
        sample_weight: Sequence[float] | np.ndarray | None = None,
        *,
        X_valid: Sequence[str] | None = None,
        y_valid: Labels | None = None,
    ) -> Self:
        """Extract the features that are not in the store yet, and train the head.

        Args:
            X: N texts: a list, a NumPy array, or a pandas or polars column.
            y: N labels: strings, whole numbers, floats or bools. For a multi-label task N lists of strings, an
                indicator matrix (N, C) of 0 and 1 (its labels are 0 to C − 1), or a table of indicator columns (its
                labels are the columns' names).
            sample_weight: Weights (N,), at least 0, in the loss, the choice of the best epoch and the calibration;
                only their proportions matter. Default: 1.
            X_valid: Texts for early stopping and calibration. Default: none for head `linear`, nor for
                `ensemble` up to 5,000 texts, which train on all of X; otherwise a stratified tenth of X is held out.
            y_valid: Their labels.

        Raises:
            DataError: Invalid texts, labels or weights; the message names the index, such as `y[17]`.
            UsageError, WeightsError, NonFiniteError: See the messages.
        """
        self._check_seed()
        head = head_config(self.head)
        train_rows, valid_rows, classes = self._rows(head, X, y, sample_weight, X_valid, y_valid)
        training = self._training_config(head)
        device, store = resolve_device(self.device), FeatureStore(self.store)
        encoders = as_encoders(self.encoders, features=head.reads)
        for encoder in encoders:
            if isinstance(encoder, PrecomputedEncoder):  # here, because held-out rows have other indices
                encoder.check(check_texts(X, "X"), "X")
                encoder.check([] if X_valid is None else check_texts(X_valid, "X_valid"), "X_valid")
        if head.cross_validated_rows and not any(isinstance(encoder, PrecomputedEncoder) for encoder in encoders):
            train_rows = with_names(train_rows, label_texts(list(map(str, classes)), len(train_rows.texts)))
        identities = [identify(encoder, device) for encoder in encoders]
        parts = [train_rows] if valid_rows is None else [train_rows, valid_rows]
        calibrated_on = parts[-1].texts[: len(parts[-1].texts) - parts[-1].n_label_names]
        for warning in tuned_on(identities, calibrated_on, "texts used here for calibration"):
            self.say(warning)
        bars = self._bars()
        for identity in identities:
            texts = [text for part in parts for text in part.texts]
            report = extract_features(texts, identity, store, device, bars, say=bars.say if self.verbose else None)
            if report.truncated:
                self._say_cut(identity.config, report.truncated)
        train_data, *rest = open_rows(parts, identities, store, memory_for_features())
        valid_data = rest[0] if rest else None
        saved = saved_encoders(identities, train_data.shapes)
        self._train(head, training, classes, train_data, valid_data, identities, task="own data", encoders=saved)
        self._loaded, self._identities = None, identities
        self._objects = {i.config.name: i.encoder for i in identities if i.is_object}
        return self

    def _rows(
        self, head: HeadConfig, X: Any, y: Any, sample_weight: Any, X_valid: Any, y_valid: Any
    ) -> tuple[Rows, Rows | None, np.ndarray]:
        """Training rows, validation rows unless the head cross-validates, and the labels (C,)."""
        texts = check_texts(X, "X")
        classes, targets = encode_labels(y, "y", len(texts))
        weights = row_weights(sample_weight, self.class_weight, classes, targets)
        rows = Rows(texts, targets, weights).take(used_rows(targets, weights))
        if X_valid is not None:
            texts = check_texts(X_valid, "X_valid")
            _, targets = encode_labels(y_valid, "y_valid", len(texts), classes)
            return rows, Rows(texts, targets, row_weights(None, self.class_weight, classes, targets)), classes
        keys = [same_key(text) for text in rows.texts]
        count = len(set(keys))
        if count >= MIN_ROWS_TO_SPLIT and len(rows.texts) <= head.cross_validated_rows:
            return rows, None, classes
        held = validation_rows(keys, rows.targets, self.seed)
        if count < MIN_ROWS_TO_SPLIT or not held.any():
            raise DataError(
                f"`X`: {counted(count, 'different text')}, too few to hold some out for early stopping; give at "
                f"least {MIN_ROWS_TO_SPLIT}, with two or more per label, or give `X_valid` and `y_valid`"
            )
        return rows.take(~held), rows.take(held), classes

    def score(self, X: Iterable[str], y: Labels, sample_weight: Any = None) -> float:
        """Accuracy on N texts and their labels, as in `fit`. Multi-label: share of texts with all labels correct."""
        answers = self.predict(X)
        if answers.ndim == 1:
            labels = np.array(label_values(y, "y"))
            if labels.shape != answers.shape:
                raise DataError(f"`y`: labels of shape {labels.shape} for {len(answers)} texts")
            right = labels == answers
        else:
            _, targets = encode_labels(y, "y", len(answers), self.classes_)
            right = (targets == answers).all(1)
        return float(np.average(right, weights=sample_weight))

    def transform(self, X: Iterable[str]) -> np.ndarray:
        """Features of each text as the head uses them, fused or pooled: (N, D), float32.

        Raises:
            DataError: No texts, an empty text, or a value that is not a string.
        """
        chunks = self._encoded_chunks(self._chunks(X))
        parts = [self._run(one, lambda head, *of: predict_each(head, head.transform, *of)).numpy() for one in chunks]
        if not parts:
            raise DataError("`X`: give at least one text")
        return np.concatenate(parts)

    @property
    def _n_features_out(self) -> int:  # for get_feature_names_out
        features = {
            name: from_arrays([np.zeros((1, *shape.shape)[not shape.ragged :], np.float32)], ragged=shape.ragged)
            for name, shape in self.config_.shapes.items()
        }
        head = self.head_.cpu()
        return predict_each(head, head.transform, features, 1, torch.device("cpu")).shape[1]

    @classmethod
    def _unfitted(cls, encoders: Sequence[Any], head: Any, seed: int) -> Self:
        return cls(encoders=encoders, head=head, seed=seed, keep_features=False)
