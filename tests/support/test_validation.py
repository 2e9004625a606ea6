"""Errors of pydantic as one sentence."""

import pytest
from pydantic import BaseModel, Field

from fusion_classifier.errors import UsageError
from fusion_classifier.support.validation import checked


class Part(BaseModel):
    size: int = Field(default=1, ge=1)
    api_key: str = Field(default="", max_length=3)


class Whole(BaseModel):
    parts: list[Part] = []
    name: str = Field(default="", max_length=9)


@pytest.mark.parametrize(
    ("values", "named", "told"),
    [
        ({"name": 3}, "`name`", "not 3"),
        ({"parts": [{}, {"size": 0}]}, "`parts[1].size`", "not 0"),
        ({"name": "\ud800"}, "`name`", "half of a surrogate pair"),
    ],
)
def test_the_field_and_its_value_are_named(values: dict[str, object], named: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked(Whole, values)
    assert str(caught.value).startswith(f"{named}: ")
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_prefix_says_which_one_and_a_secret_is_not_repeated() -> None:
    with pytest.raises(UsageError) as caught:
        checked(Part, {"api_key": "hunter2"}, "servers[2].")
    assert str(caught.value).startswith("`servers[2].api_key`: ")
    assert "hunter2" not in str(caught.value)


def test_valid_values_become_the_model() -> None:
    assert checked(Whole, {"parts": [{"size": 2}]}).parts == [Part(size=2)]
