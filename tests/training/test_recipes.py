"""Recipes by name."""

import pytest

from fusion_classifier.config import HEAD_CONFIGS
from fusion_classifier.errors import UsageError
from fusion_classifier.training.defaults import recipe


@pytest.mark.parametrize("head", HEAD_CONFIGS)
def test_published_is_what_the_paper_says_for_every_head(head: str) -> None:
    config = recipe("published", head)
    assert (config.learning_rate, config.batch_size, config.max_epochs, config.patience) == (1e-4, 10, 200, 10)
    assert config.weight_decay == 0
    assert config.clip_norm is None


@pytest.mark.parametrize("head", HEAD_CONFIGS)
def test_changes_hold_and_the_rest_stays(head: str) -> None:
    changed = recipe("default", head, batch_size=3, learning_rate=None)
    assert changed.batch_size == 3
    assert changed.learning_rate == recipe("default", head).learning_rate


@pytest.mark.parametrize(
    ("name", "changes"), [("secret", {}), ("default", {"learning_rate": -1.0}), ("default", {"warp": 9.0})]
)
def test_what_does_not_exist_is_wrong_use(name: str, changes: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        recipe(name, "linear", **changes)


@pytest.mark.parametrize("changes", [{"max_epochs": 0}, {"batch_size": 0}, {"patience": 0}, {"clip_norm": 0}])
def test_a_value_that_can_not_be_is_named(changes: dict[str, float]) -> None:
    (field,) = changes
    with pytest.raises(UsageError, match=rf"{field}.*not 0"):
        recipe("default", "llmembed", **changes)


def test_so_many_epochs_are_so_many() -> None:
    assert recipe("default", "fusion").min_steps > 0
    assert recipe("default", "fusion", max_epochs=2).min_steps == 0
    assert recipe("default", "fusion", max_epochs=2, min_steps=7).min_steps == 7
