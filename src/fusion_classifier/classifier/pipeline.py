"""The one pipeline from features to a trained classifier.

    rows of texts and labels ─► open_rows: features and labels ─► train_classifier: config.json, head, history

`fec run` and `fec train` (runs/pipeline.py), `FusionClassifier.fit` and `FusionHeadClassifier.fit` are made of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from fusion_classifier.classifier.folder import ModelConfig
from fusion_classifier.classifier.inputs import normalized
from fusion_classifier.config import TrainingConfig
from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.features.extract import open_splits
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.support.progress import Progress
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.loop import Epoch, Trained, train
from fusion_classifier.training.unknown import fit_known


@dataclass(frozen=True)
class Rows:
    """Rows to train or validate on.

    Attributes:
        texts: N texts.
        targets: Label indices (N,), or an indicator matrix (N, C); int64.
        weights: Weights (N,). None: all alike.
    """

    texts: Sequence[str]
    targets: np.ndarray
    weights: np.ndarray | None = None

    def take(self, chosen: np.ndarray) -> "Rows":
        """The rows where `chosen` (N,) is True."""
        texts = [text for text, one in zip(self.texts, chosen.tolist(), strict=True) if one]
        return Rows(texts, self.targets[chosen], None if self.weights is None else self.weights[chosen])


def open_rows(
    parts: Sequence[Rows], identities: Sequence[EncoderIdentity], store: FeatureStore, memory: int
) -> list[LabelledFeatures]:
    """The features of rows from the store; left there if all together need more than `memory` bytes.

    Raises:
        StoreError: Features are missing.
    """
    opened = open_splits([part.texts for part in parts], identities, store, memory)
    return [
        LabelledFeatures(features, part.targets, None if part.weights is None else normalized(part.weights))
        for part, features in zip(parts, opened, strict=True)
    ]


def train_classifier(
    model: ModelConfig,
    training: TrainingConfig,
    train_data: LabelledFeatures,
    valid_data: LabelledFeatures,
    device: torch.device,
    progress: Progress,
    *,
    head: object = None,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> tuple[ModelConfig, Trained]:
    """Train the head of a model; other arguments and errors as of `train`.

    Args:
        model: The model but for its calibration: labels, head, encoders or blocks, and seed.
        training: Hyper-parameters.
        train_data: Features and labels to train on.
        valid_data: Features and labels for early stopping and calibration.
        device: Device that computes.
        progress: Progress bars.
        head: Object that the head is made of. Default: the configuration in `model`.
        on_epoch: Function called after each epoch.

    Returns:
        The model with its calibration, and the trained head with its history.
    """
    given = model.head if head is None else head
    trained = train(
        given, training, train_data, valid_data, len(model.labels), model.seed, device, progress, on_epoch
    )
    if training.known_texts:
        known = fit_known(trained.head, trained.decision, train_data, valid_data, device, model.seed)
        trained = replace(trained, known=known)
    return model.model_copy(update={"decision": trained.decision}), trained
