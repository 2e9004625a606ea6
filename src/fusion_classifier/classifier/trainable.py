"""Base class of both estimators: training and its parameters, with scikit-learn's interface."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np

from fusion_classifier.classifier.card import model_card
from fusion_classifier.classifier.folder import ModelConfig, labels_of
from fusion_classifier.classifier.pipeline import train_classifier
from fusion_classifier.classifier.pretrained import PretrainedClassifier
from fusion_classifier.config import MAX_SEED, Device, HeadConfig, TrainingChanges, TrainingConfig
from fusion_classifier.encoders.device import resolve_device
from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.errors import UsageError
from fusion_classifier.support.progress import QUIET, Progress
from fusion_classifier.training.data import LabelledFeatures
from fusion_classifier.training.defaults import change_training, resolve_training
from fusion_classifier.training.result import Epoch

PREFIX = "training__"


class TrainableClassifier(PretrainedClassifier):
    """A classifier with `fit`. Fields of `training` are parameters: `set_params(training__learning_rate=1e-3)`."""

    head: Any
    recipe: str
    training: TrainingChanges | TrainingConfig | None
    seed: int
    device: Device
    verbose: bool
    history_: tuple[Epoch, ...]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters by name.

        Args:
            deep: Whether to include the fields of `training`, as `training__…`; None for the recipe's value.
        """
        parameters: dict[str, Any] = super().get_params(deep)  # type: ignore[misc]  # of BaseEstimator
        if deep:
            given = self.training
            changes: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
            if isinstance(given, TrainingConfig):
                changes = given.model_dump()
            parameters |= {f"{PREFIX}{name}": changes.get(name) for name in TrainingConfig.model_fields}
        return parameters

    def set_params(self, **params: Any) -> Self:
        """Set parameters, the fields of `training` as `training__…`; None restores the recipe's value.

        Raises:
            ValueError: Unknown parameter.
        """
        fields = {key.removeprefix(PREFIX): params.pop(key) for key in list(params) if key.startswith(PREFIX)}
        super().set_params(**params)  # type: ignore[misc]  # of BaseEstimator
        if fields:
            changed = change_training(self.training, fields)
            if not isinstance(changed, TrainingConfig):
                changed = {key: value for key, value in changed.items() if value is not None or key not in fields}
            self.training = changed or None  # type: ignore[assignment]  # its fields are checked by `fit`
        return self

    def _check_seed(self) -> None:
        seed: Any = self.seed
        if not isinstance(seed, Integral) or not 0 <= int(seed) <= MAX_SEED:
            raise UsageError(f"`seed`: {seed!r} is not a whole number from 0 to {MAX_SEED:,}")

    def _bars(self) -> Progress:
        return Progress() if self.verbose else QUIET

    def _training_config(self, head: HeadConfig) -> TrainingConfig:
        if not isinstance(self.training, Mapping | TrainingConfig | None):
            raise UsageError(f"`training`: {self.training!r} is neither a mapping nor a TrainingConfig")
        return resolve_training(self.training, self.recipe, head)

    def _train(
        self,
        head: HeadConfig,
        training: TrainingConfig,
        classes: np.ndarray,
        train_data: LabelledFeatures,
        valid_data: LabelledFeatures | None,
        identities: Sequence[EncoderIdentity],
        **described: Any,
    ) -> None:
        """Train the head and set the fitted attributes; `described` are the other fields of `ModelConfig`."""
        model = ModelConfig(**labels_of(classes), head=head, seed=self.seed, **described)
        device = resolve_device(self.device)
        config, trained = train_classifier(
            model, training, train_data, valid_data, device, self._bars(), head=self.head, identities=identities
        )
        self.history_ = trained.history
        self._restore(config, trained.head, model_card(config, training=training), trained.known)
        self.classes_ = classes  # with exactly the dtype of `y`
