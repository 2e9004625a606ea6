"""Recipes by name, and changes to them."""

import subprocess
import sys
from typing import Any, get_type_hints

import pytest

from fusion_classifier.config import (
    HEAD_CONFIGS,
    FusionConfig,
    HeadConfig,
    SklearnConfig,
    TrainingChanges,
    TrainingConfig,
)
from fusion_classifier.errors import UsageError
from fusion_classifier.training.defaults import change_training, recipe, resolve_training


class OwnConfig(HeadConfig):
    name: str = "own"


@pytest.mark.parametrize("head", [*HEAD_CONFIGS, "own"])
def test_published_is_the_papers_for_every_head(head: str) -> None:
    config = recipe("published", head)
    assert (config.learning_rate, config.batch_size, config.max_epochs, config.patience) == (1e-4, 10, 200, 10)
    assert config.weight_decay == 0
    assert config.clip_norm is None
    assert config.stopping == "loss_or_score"


@pytest.mark.parametrize("head", [*HEAD_CONFIGS, "own"])
def test_changes_hold_and_the_rest_stays(head: str) -> None:
    changed = recipe("default", head, batch_size=3, learning_rate=None)
    assert changed.batch_size == 3
    assert changed.learning_rate == recipe("default", head).learning_rate


@pytest.mark.parametrize(
    ("name", "changes", "named"),
    [
        ("secret", {}, "`recipe`.*'secret'.*default, published"),
        ("default", {"learning_rate": -1.0}, "`learning_rate`.*-1"),
        ("default", {"max_epochs": 0}, "`max_epochs`.*0"),
        ("default", {"clip_norm": 0}, "`clip_norm`.*0"),
        ("default", {"warp": 9.0}, "'warp'.*learning_rate, batch_size"),
    ],
)
def test_what_can_not_be_is_named(name: str, changes: dict[str, float], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        recipe(name, "llmembed", **changes)


def test_so_many_epochs_are_so_many() -> None:
    assert recipe("default", "fusion").min_steps > 0
    assert recipe("default", "fusion", max_epochs=2).min_steps == 0
    assert recipe("default", "fusion", max_epochs=2, min_steps=7).min_steps == 7


def test_training_may_be_changes_or_all_settings() -> None:
    whole = recipe("published", "linear")
    assert resolve_training(whole, "default", FusionConfig()) is whole
    assert resolve_training(None, "default", FusionConfig()) == recipe("default", "fusion")
    changed = resolve_training({"clip_norm": None, "batch_size": 9}, "default", FusionConfig())
    assert changed == recipe("default", "fusion", batch_size=9).model_copy(update={"clip_norm": None})
    assert resolve_training({}, "default", OwnConfig()).max_epochs == 20


def test_only_what_follows_training_of_scikit_learn_changes() -> None:
    config = SklearnConfig(class_path="sklearn.linear_model.LogisticRegression")
    assert not resolve_training({"calibrate": False}, "default", config).calibrate
    assert not resolve_training({"known_texts": False}, "default", config).known_texts
    with pytest.raises(UsageError, match=r"`training`.*`calibrate` and `known_texts`"):
        resolve_training({"learning_rate": 1.0}, "default", config)


@pytest.mark.parametrize("before", [None, {"batch_size": 9}, recipe("default", "fusion")])
def test_one_setting_can_be_changed(before: Any) -> None:
    after = change_training(before, {"learning_rate": 0.5})
    settings = resolve_training(after, "default", FusionConfig())
    assert settings.learning_rate == 0.5
    assert settings.batch_size == (9 if isinstance(before, dict) else 128)
    with pytest.raises(UsageError, match=r"'warp'.*learning_rate"):
        change_training(before, {"warp": 1})


def test_the_typed_changes_are_the_fields() -> None:
    assert get_type_hints(TrainingChanges).keys() == TrainingConfig.model_fields.keys()


def test_settings_need_no_torch() -> None:
    code = "import sys, fusion_classifier.training.defaults, fusion_classifier.training.decision; "
    done = subprocess.run(
        [sys.executable, "-c", code + "print('torch' in sys.modules)"], capture_output=True, check=True
    )
    assert done.stdout.strip() == b"False"
