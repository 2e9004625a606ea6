"""The option groups: what they make of what is given."""

import pytest

from fusion_classifier.cli.options import RunOptions
from fusion_classifier.encoders.presets import DEFAULT_ENCODERS, RUN_PRESETS
from fusion_classifier.errors import UsageError


def options(**given: object) -> RunOptions:
    groups: dict[str, object] = {"data": {}, "settings": {}, "head_settings": {}, "training": {}}
    return RunOptions.model_validate(groups | given)


@pytest.mark.parametrize("name", RUN_PRESETS)
def test_a_preset_names_the_encoders(name: str) -> None:
    assert tuple(one.model for one in options(preset=name).encoders()) == RUN_PRESETS[name]


def test_without_preset_and_encoder_there_is_a_default() -> None:
    assert tuple(one.model for one in options().encoders()) == DEFAULT_ENCODERS


def test_a_preset_and_encoders_are_two_answers() -> None:
    with pytest.raises(UsageError, match="--preset"):
        options(preset="best", encoder=("minilm-l6",)).encoders()
