"""Names of labels as texts: with a few texts per label its name, `card_not_working`, is worth several of them."""

import re

WORD = re.compile(r"[^\W\d_]{2}")
SEPARATORS = re.compile(r"[_\-./|+]+")


def name_as_text(label: str) -> str:
    """A label's name as a text, "card not working"; empty if it is no word."""
    return " ".join(SEPARATORS.sub(" ", label).split()) if WORD.search(label) else ""
