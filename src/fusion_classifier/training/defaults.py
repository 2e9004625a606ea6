"""Hyper-parameters by name.

`published` is that of LLM-FusionClassifier. `default` was chosen on the validation splits of go_emotion and
ED (docs/results.md, benchmarks/accuracy/recipes.py).
"""

from collections.abc import Mapping
from typing import Any

from fusion_classifier.config import TrainingConfig
from fusion_classifier.errors import UsageError
from fusion_classifier.support.validation import checked

PUBLISHED = TrainingConfig(learning_rate=1e-4, batch_size=10, max_epochs=200, patience=10)

DEFAULTS = {
    "fusion": TrainingConfig(
        learning_rate=2e-3,
        batch_size=128,
        max_epochs=6,
        patience=50,  # the schedule ends the training
        min_steps=400,
        weight_decay=0.01,
        clip_norm=1.0,
        schedule="cosine",
        warmup=0.1,
        label_smoothing=0.1,
        precision="bfloat16",
    ),
    "linear": TrainingConfig(learning_rate=3e-4, batch_size=256, max_epochs=100, patience=10),
    "llmembed": TrainingConfig(learning_rate=1e-4, batch_size=64, max_epochs=25, patience=5, clip_norm=1.0),
}
RECIPES = ("default", "published")


def recipe(name: str, head: str, **changes: float | None) -> TrainingConfig:
    """The recipe of this name for a head, with the changes that are not None.

    Raises:
        UsageError: No such recipe, or a value that can't be.
    """
    if name not in RECIPES:
        raise UsageError(f"no recipe {name!r}; there are {', '.join(RECIPES)}")
    base = PUBLISHED if name == "published" else DEFAULTS[head]
    return changed(base, {key: value for key, value in changes.items() if value is not None})


def changed(base: TrainingConfig, changes: Mapping[str, Any]) -> TrainingConfig:
    """The same hyper-parameters with some changed. With `max_epochs` alone, `min_steps` becomes 0.

    Raises:
        UsageError: A value that can't be.
    """
    min_steps = {"min_steps": 0} if "max_epochs" in changes else {}
    return checked(TrainingConfig, base.model_dump() | min_steps | dict(changes))
