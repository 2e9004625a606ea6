"""Configurations refuse what would fail later."""

import pytest
from pydantic import ValidationError

from fusion_classifier.config import MAX_SEED, EncoderConfig, LinearConfig, RunConfig, TaskConfig
from fusion_classifier.training.defaults import recipe


def run_config(*seeds: int) -> RunConfig:
    return RunConfig(
        task=TaskConfig(name="x.csv"),
        encoders=(EncoderConfig(name="a", model="a"),),
        head=LinearConfig(),
        training=recipe("default", "linear"),
        seeds=seeds,
    )


@pytest.mark.parametrize(
    ("seeds", "problem"), [((0, 0), "given twice"), ((0, -1), "greater than or equal to 0"), ((2**32,), "less than")]
)
def test_seeds_are_different_and_in_numpys_range(seeds: tuple[int, ...], problem: str) -> None:
    assert run_config(0, MAX_SEED).seeds == (0, MAX_SEED)
    with pytest.raises(ValidationError, match=problem):
        run_config(*seeds)
