"""Errors of the library in the words of the HTTP interface."""

import pytest

from fusion_classifier.serving.errors import in_json_terms


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("`X[3]` is empty", "inputs[3] is empty"),
        ("no column 'a'; name it with `text_column`", "no column 'a'; name it with text_column"),
        ("first run `fec store list`", "first run `fec store list`"),
        ("`texts`: too many", "inputs: too many"),
    ],
)
def test_parameters_become_json_fields(message: str, shown: str) -> None:
    assert in_json_terms(message) == shown
