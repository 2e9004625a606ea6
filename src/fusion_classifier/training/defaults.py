"""Hyper-parameters by name.

`published` is that of LLM-FusionClassifier. `default` was chosen on the validation splits of go_emotion and
ED (docs/results.md, benchmarks/accuracy/recipes.py).
"""

from pydantic import ValidationError

from fusion_classifier.config import TrainingConfig
from fusion_classifier.errors import UsageError

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
# What the command line calls the fields of a training configuration.
OPTIONS = {"learning_rate": "--lr", "batch_size": "--batch-size", "max_epochs": "--epochs"}


def recipe(name: str, head: str, **changes: float | None) -> TrainingConfig:
    """The recipe of this name for a head, with the changes that are not None.

    With `max_epochs` among them `min_steps` is 0 unless it is, too: so many epochs are so many.

    Raises:
        UsageError: no such recipe, or a value that can't be.
    """
    if name not in RECIPES:
        raise UsageError(f"no recipe {name!r}; there are {', '.join(RECIPES)}")
    base = PUBLISHED if name == "published" else DEFAULTS[head]
    given = {key: value for key, value in changes.items() if value is not None}
    if "max_epochs" in given:
        given.setdefault("min_steps", 0)
    try:
        return TrainingConfig.model_validate(base.model_dump() | given)
    except ValidationError as error:
        problem = error.errors()[0]
        field = str(problem["loc"][0])
        shown = f"{field} ({OPTIONS[field]})" if field in OPTIONS else field
        raise UsageError(f"{shown}: {problem['msg']}, not {problem['input']!r}") from None
