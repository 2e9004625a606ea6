"""The pipeline from features to a trained classifier.

    rows of texts and labels ─► open_rows: features and labels ─► train_classifier: config.json, head, history

`fec run` and `fec train` (runs/pipeline.py), `FusionClassifier.fit` and `FusionHeadClassifier.fit` are built on it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fusion_classifier.classifier.folder import ModelConfig
from fusion_classifier.classifier.inputs import normalized
from fusion_classifier.config import EnsembleConfig, HeadConfig, TrainingConfig
from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.encoders.upper_layers import describe_upper_layers, load_upper_layers
from fusion_classifier.features.extract import open_splits
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.ensemble import with_repeats
from fusion_classifier.support.progress import Progress
from fusion_classifier.tasks.label_names import name_as_text
from fusion_classifier.tasks.normalize import text_groups
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.result import Epoch, TrainingResult
from fusion_classifier.training.train import train
from fusion_classifier.training.unknown import fit_known
from fusion_classifier.training.upper_layers import suited

NAMED_ROWS = 50  # rows per label up to which names are tried


@dataclass(frozen=True)
class Rows:
    """Rows to train or validate on.

    Attributes:
        texts: N texts.
        targets: Label indices (N,), or an indicator matrix (N, C); int64.
        weights: Weights (N,). None: uniform.
        n_label_names: Number of rows at the end whose texts are the labels' names.
    """

    texts: Sequence[str]
    targets: np.ndarray
    weights: np.ndarray | None = None
    n_label_names: int = 0

    def take(self, chosen: np.ndarray) -> "Rows":
        """The rows where `chosen` (N,) is True."""
        texts = [text for text, one in zip(self.texts, chosen.tolist(), strict=True) if one]
        return Rows(texts, self.targets[chosen], None if self.weights is None else self.weights[chosen])


def label_texts(labels: Sequence[str], rows: int) -> list[str]:
    """The label names as texts; empty if a name is not a word, or if there are many rows per label.

    Whether they help is decided out of fold (fusion/linear.py).
    """
    texts = [name_as_text(label) for label in labels] if rows <= NAMED_ROWS * len(labels) else []
    return texts if all(texts) else []


def with_names(rows: Rows, names: Sequence[str]) -> Rows:
    """The rows, with the label names as additional rows of mean weight."""
    if not names:
        return rows
    own = np.arange(len(names))
    targets = np.concatenate([rows.targets, own if rows.targets.ndim == 1 else np.eye(len(names), dtype=np.int64)])
    weights = rows.weights
    if weights is not None:
        weights = np.concatenate([weights, np.full(len(names), weights.mean())])
    return Rows([*rows.texts, *names], targets, weights, len(names))


def open_rows(
    parts: Sequence[Rows], identities: Sequence[EncoderIdentity], store: FeatureStore, memory: int
) -> list[LabelledFeatures]:
    """The features of rows from the store; they stay there if they exceed `memory` bytes in total."""
    opened = open_splits([part.texts for part in parts], identities, store, memory)
    return [
        LabelledFeatures(
            features,
            part.targets,
            None if part.weights is None else normalized(part.weights),
            part.n_label_names,
            groups=text_groups(part.texts),
        )
        for part, features in zip(parts, opened, strict=True)
    ]


def complete(head: HeadConfig, data: LabelledFeatures, identities: Sequence[EncoderIdentity]) -> HeadConfig:
    """The configuration with all fields that depend on the training data and on the encoders."""
    head = with_repeats(head, data.n_texts)
    if not isinstance(head, EnsembleConfig):
        return head
    suited_ones = [one for one in identities if head.upper_layers and suited(data, one.config.name)]
    found = [upper for one in suited_ones if (upper := describe_upper_layers(one)) is not None]
    smallest = min(found, key=lambda upper: upper.layers * upper.inner_width, default=None)
    return head.model_copy(update={"upper": smallest})


def _upper_layers(head: HeadConfig, identities: Sequence[EncoderIdentity]) -> dict[str, Tensor] | None:
    """Weights of the encoder whose upper layers the head trains, if any."""
    if not isinstance(head, EnsembleConfig) or head.upper is None:
        return None
    (identity,) = (one for one in identities if one.config.name == head.upper.encoder)
    return load_upper_layers(identity, head.upper)


def train_classifier(
    model: ModelConfig,
    training: TrainingConfig,
    train_data: LabelledFeatures,
    valid_data: LabelledFeatures | None,
    device: torch.device,
    progress: Progress,
    *,
    head: object = None,
    identities: Sequence[EncoderIdentity] = (),
    on_epoch: Callable[[Epoch], None] = lambda _: None,
    every_text: bool = False,
) -> tuple[ModelConfig, TrainingResult]:
    """Train the head of a model; other arguments and errors as in `train`.

    Args:
        model: The model except for its calibration: labels, head, encoders or blocks, and seed.
        training: Hyper-parameters.
        train_data: Features and labels to train on.
        valid_data: Features and labels for early stopping and calibration. None: see `train`.
        device: Device for the computation.
        progress: Progress bars.
        head: Object from which the head is built. Default: the configuration in `model`.
        identities: Encoders of the features, for a head that trains layers of one. Default: none.
        on_epoch: Function called after each epoch.
        every_text: As in `train`.

    Returns:
        The model with its calibration, and the trained head with its history.
    """
    given = model.head if head is None or isinstance(head, str) else head
    upper_layers = None
    if isinstance(given, HeadConfig):
        given = complete(given, train_data, identities)
        upper_layers = _upper_layers(given, identities)
    trained = train(
        given,
        training,
        train_data,
        valid_data,
        len(model.labels),
        model.seed,
        device,
        progress,
        on_epoch,
        upper_layers,
        every_text=every_text,
    )
    if training.known_texts:
        texts = train_data.texts
        known = fit_known(
            trained.head,
            trained.decision,
            texts,
            texts if valid_data is None else valid_data,
            device,
            model.seed,
            trained.out_of_fold if valid_data is None else None,
        )
        trained = replace(trained, known=known)
    fitted = {"decision": trained.decision, "head": trained.head.config, "members": trained.members}
    return model.model_copy(update=fitted), trained
