"""Texts that UTF-8 can't encode, and numbers in sentences."""

import pytest

from fusion_classifier.support.text import counted, duration, size, surrogate_position


@pytest.mark.parametrize(
    ("text", "position"), [("", None), ("é 🧟", None), ("\ud800", 1), ("ab\udc00\ud800", 3)], ids=repr
)
def test_the_first_half_surrogate_pair_is_found(text: str, position: int | None) -> None:
    assert surrogate_position(text) == position


@pytest.mark.parametrize(("number", "said"), [(0, "0 rows"), (1, "1 row"), (1234, "1,234 rows")])
def test_one_is_singular(number: int, said: str) -> None:
    assert counted(number, "row") == said


def test_size_has_a_unit() -> None:
    assert [size(n) for n in (0, 999, 1000, 1.5e6, 2e12)] == ["0 B", "999 B", "1.0 KB", "1.5 MB", "2.0 TB"]


def test_duration_has_two_units_from_a_minute_on() -> None:
    assert [duration(s) for s in (0.04, 59.9, 60, 125, 3599.6, 7320)] == [
        *("0.0 s", "59.9 s", "1 min 00 s", "2 min 05 s", "1 h 00 min", "2 h 02 min")
    ]
