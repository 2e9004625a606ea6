"""Texts that UTF-8 can't encode."""

import pytest

from fusion_classifier.support.text import surrogate_position


@pytest.mark.parametrize(
    ("text", "position"), [("", None), ("é 🧟", None), ("\ud800", 1), ("ab\udc00\ud800", 3)], ids=repr
)
def test_the_first_half_surrogate_pair_is_found(text: str, position: int | None) -> None:
    assert surrogate_position(text) == position
