"""A model card says how its head was trained, and nothing else."""

import numpy as np
import pytest

from fusion_classifier.classifier.card import model_card
from fusion_classifier.classifier.folder import ModelConfig, labels_of
from fusion_classifier.config import (
    EnsembleConfig,
    FusionConfig,
    HeadConfig,
    LinearConfig,
    LlmEmbedConfig,
    SklearnConfig,
)
from fusion_classifier.training.defaults import recipe


@pytest.mark.parametrize(
    ("head", "said", "by_steps"),
    [
        (LinearConfig(), "logistic regression, solved by L-BFGS with C chosen by cross-validation.", False),
        (LinearConfig(c=3), "logistic regression, solved by L-BFGS with C = 3.", False),
        (SklearnConfig(class_path="sklearn.svm.SVC"), "`sklearn.svm.SVC`, fitted with its own settings.", False),
        (EnsembleConfig(), "linear members: logistic regression", True),
        (FusionConfig(), "at most 6 epochs and at least 400 steps", True),
        (LlmEmbedConfig(), "AdamW, learning rate 0.0001", True),
    ],
    ids=lambda value: value.name if isinstance(value, HeadConfig) else "",
)
def test_gradient_steps_are_on_the_card_of_heads_that_take_them(
    head: HeadConfig, said: str, *, by_steps: bool
) -> None:
    config = ModelConfig(task="moods", **labels_of(np.array(["joy", "fear"])), head=head, blocks={"x": (3,)}, seed=0)
    (line,) = (
        line
        for line in model_card(config, training=recipe("default", head.name)).splitlines()
        if line.startswith("**Recipe**")
    )
    assert said in line
    assert ("learning rate" in line) == ("epochs" in line) == by_steps
