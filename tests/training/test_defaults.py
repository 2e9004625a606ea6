"""Recipes by name, and changes to them."""

import subprocess
import sys
import warnings
from typing import Any, get_type_hints

import pytest

from fusion_classifier.config import (
    HEAD_CONFIGS,
    SOLVED_FIELDS,
    FusionConfig,
    HeadConfig,
    LinearConfig,
    SklearnConfig,
    TrainingChanges,
    TrainingConfig,
)
from fusion_classifier.errors import UsageError
from fusion_classifier.features.arrays import FeatureShape
from fusion_classifier.fusion.head import SolvedHead
from fusion_classifier.fusion.registry import build_head
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
    with pytest.warns(UserWarning, match="`learning_rate` has no effect: head scikit-learn"):
        resolve_training({"learning_rate": 1.0}, "default", config)


def test_settings_without_effect_are_named_and_not_recorded() -> None:
    given = {"learning_rate": 0.5, "max_epochs": 3, "metric": "macro_f1", "calibrate": False, "known_texts": False}
    with pytest.warns(UserWarning, match="`learning_rate`, `max_epochs` have no effect: head linear is solved"):
        settings = resolve_training(given, "default", LinearConfig())
    kept = {name: given[name] for name in SOLVED_FIELDS}
    assert settings == recipe("default", "linear").model_copy(update=kept)
    with pytest.raises(UsageError, match="`learning_rate`"):
        resolve_training({"learning_rate": -1.0}, "default", LinearConfig())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resolve_training({"metric": "accuracy"}, "default", LinearConfig())
        resolve_training({"learning_rate": 0.5}, "default", FusionConfig())


@pytest.mark.parametrize("head", HEAD_CONFIGS)
def test_a_head_that_is_solved_says_so(head: str) -> None:
    built = build_head(head, {"a": FeatureShape((1, 8), ragged=HEAD_CONFIGS[head].reads == "tokens")}, 2)
    assert built.config.solved == isinstance(built, SolvedHead)


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
