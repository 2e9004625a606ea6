"""Label names as texts."""

import pytest

from fusion_classifier.tasks.label_names import name_as_text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("card_not_working", "card not working"),
        ("Ärger", "Ärger"),
        ("sci.space", "sci space"),
        ("a/b-testing", "a b testing"),
        ("17", ""),
        ("B2", ""),
        ("_", ""),
    ],
)
def test_words_are_texts(name: str, text: str) -> None:
    assert name_as_text(name) == text
