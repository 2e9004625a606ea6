"""Default hyper-parameters per head. A recipe is a complete set of them.

`published` is the recipe of LLM-FusionClassifier. The default of `llmembed` was compared with others on the
validation splits of go_emotion and ED (docs/notebook/accuracy.md, benchmarks/accuracy/recipes.py). Those of `fusion`
and `ensemble` were chosen on the same splits while the heads were designed; no grid was kept. `linear` has none: it
is solved.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fusion_classifier.config import SOLVED_FIELDS, HeadConfig, TrainingChanges, TrainingConfig
from fusion_classifier.errors import UsageError
from fusion_classifier.support.validation import checked
from fusion_classifier.support.warn import warn_caller

FUSION = TrainingConfig(
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
    precision="auto",
)
DEFAULTS = {
    # For the members with attention.
    "ensemble": FUSION.model_copy(update={"batch_size": 32, "min_steps": 200}),
    "fusion": FUSION,
    # Its unscaled features keep it at chance for hundreds of steps, without progress in F1.
    "llmembed": TrainingConfig(
        learning_rate=1e-4,
        batch_size=64,
        max_epochs=200,
        min_steps=1000,
        patience=10,
        stopping="loss_or_score",
        clip_norm=1.0,
    ),
}
# For heads without a recipe: a schedule that is long enough for few rows, not tuned on data.
OTHER = TrainingConfig(
    learning_rate=2e-3,
    batch_size=64,
    max_epochs=20,
    min_steps=400,
    patience=50,  # the schedule ends the training
    weight_decay=0.01,
    clip_norm=1.0,
    schedule="cosine",
    warmup=0.1,
)
PUBLISHED = TrainingConfig(learning_rate=1e-4, batch_size=10, max_epochs=200, patience=10, stopping="loss_or_score")
RECIPES = ("default", "published")


def recipe(name: str, head: str, **changes: Any) -> TrainingConfig:
    """The recipe `default` or `published` for a head by name, with the changes that are not None (see `changed`)."""
    if name not in RECIPES:
        raise UsageError(f"`recipe`: unknown recipe {name!r}; choose from {', '.join(RECIPES)}")
    base = PUBLISHED if name == "published" else DEFAULTS.get(head, OTHER)
    return changed(base, {key: value for key, value in changes.items() if value is not None})


def changed(base: TrainingConfig, changes: Mapping[str, Any]) -> TrainingConfig:
    """The same hyper-parameters with some changed. With `max_epochs` alone, `min_steps` becomes 0."""
    _check_names(changes)
    min_steps = {"min_steps": 0} if "max_epochs" in changes else {}
    return checked(TrainingConfig, base.model_dump() | min_steps | dict(changes))


def changed_for(
    head: HeadConfig, base: TrainingConfig, changes: Mapping[str, Any], say: Callable[[str], None]
) -> TrainingConfig:
    """`changed` without the changes that have no effect for this head, which `say` reports."""
    every = changed(base, changes)  # their values are checked all the same
    without = [f"`{name}`" for name in changes if name not in SOLVED_FIELDS] if head.solved else []
    if not without:
        return every
    verb = "has" if len(without) == 1 else "have"
    say(f"{', '.join(without)} {verb} no effect: head {head.name} is solved, not trained by steps")
    return changed(base, {name: value for name, value in changes.items() if name in SOLVED_FIELDS})


def resolve_training(
    training: TrainingConfig | TrainingChanges | Mapping[str, Any] | None, name: str, head: HeadConfig
) -> TrainingConfig:
    """Training settings: `training` if it is complete, otherwise the named recipe with these changes."""
    if isinstance(training, TrainingConfig):
        return training
    return changed_for(head, recipe(name, head.name), dict(training or {}), warn_caller)


def change_training(
    training: TrainingConfig | TrainingChanges | Mapping[str, Any] | None, changes: Mapping[str, Any]
) -> TrainingConfig | dict[str, Any]:
    """`training` with further changes, as made by `set_params(training__learning_rate=…)`."""
    _check_names(changes)
    if isinstance(training, TrainingConfig):
        return changed(training, changes)
    return {**(training or {}), **changes}


def _check_names(changes: Mapping[str, Any]) -> None:
    for name in changes:
        if name not in TrainingConfig.model_fields:
            raise UsageError(
                f"`training`: unknown field {name!r}; the fields are {', '.join(TrainingConfig.model_fields)}"
            )
