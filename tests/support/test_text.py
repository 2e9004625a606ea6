"""Texts that UTF-8 can't encode, and numbers in sentences."""

import pytest

from fusion_classifier.support.text import counted, surrogate_position


@pytest.mark.parametrize(
    ("text", "position"), [("", None), ("é 🧟", None), ("\ud800", 1), ("ab\udc00\ud800", 3)], ids=repr
)
def test_the_first_half_surrogate_pair_is_found(text: str, position: int | None) -> None:
    assert surrogate_position(text) == position


@pytest.mark.parametrize(("number", "said"), [(0, "0 rows"), (1, "1 row"), (1234, "1,234 rows")])
def test_one_is_singular(number: int, said: str) -> None:
    assert counted(number, "row") == said
