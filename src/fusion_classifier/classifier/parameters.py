"""Parameters that both estimators have, in scikit-learn's terms."""

from collections.abc import Mapping
from typing import Any, Self

from fusion_classifier.config import HeadConfig, TrainingChanges, TrainingConfig
from fusion_classifier.errors import UsageError
from fusion_classifier.training.defaults import change_training, resolve_training

PREFIX = "training__"


class TrainingParameters:
    """Makes the fields of `training` parameters of their own: `set_params(training__learning_rate=1e-3)`."""

    recipe: str
    training: TrainingChanges | TrainingConfig | None

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters by name.

        Args:
            deep: Whether to list the fields of `training` too, as `training__…`; None where the recipe's value holds.
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
            ValueError: A parameter that does not exist.
        """
        fields = {key.removeprefix(PREFIX): params.pop(key) for key in list(params) if key.startswith(PREFIX)}
        super().set_params(**params)  # type: ignore[misc]  # of BaseEstimator
        if fields:
            changed = change_training(self.training, fields)
            if not isinstance(changed, TrainingConfig):
                changed = {key: value for key, value in changed.items() if value is not None or key not in fields}
            self.training = changed or None  # type: ignore[assignment]  # its fields are checked by `fit`
        return self

    def _training_config(self, head: HeadConfig) -> TrainingConfig:
        """The hyper-parameters of this training."""
        if not isinstance(self.training, Mapping | TrainingConfig | None):
            raise UsageError(f"`training`: {self.training!r} is neither a mapping nor a TrainingConfig")
        return resolve_training(self.training, self.recipe, head)
