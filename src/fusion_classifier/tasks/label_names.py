"""Label names as texts: with few texts per label, a name such as `card_not_working` is worth several of them."""

import re

WORD = re.compile(r"[^\W\d_]{2}")
SEPARATORS = re.compile(r"[_\-./|+]+")


def name_as_text(label: str) -> str:
    """A label's name as a text, such as "card not working"; empty if it is not a word."""
    return " ".join(SEPARATORS.sub(" ", label).split()) if WORD.search(label) else ""
