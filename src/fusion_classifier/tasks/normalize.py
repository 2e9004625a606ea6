"""Normalization for comparing texts."""

import unicodedata


def normalized(text: str) -> str:
    """Letters (with their marks) and digits only, case folded, words one space apart."""
    composed = unicodedata.normalize("NFC", text.casefold())
    return " ".join("".join(c if _is_part_of_a_word(c) else " " for c in composed).split())


def _is_part_of_a_word(character: str) -> bool:
    # Variation selectors are marks too, but of emoji.
    return unicodedata.category(character)[0] in "LMN" and not "\ufe00" <= character <= "\ufe0f"


def same_key(text: str) -> str:
    """Comparison key, equal for equivalent texts; a text without letters or digits (such as emoji only) is its own
    key."""
    return normalized(text) or text
