"""What makes two texts the same."""

import unicodedata


def normalized(text: str) -> str:
    """Letters (with their marks) and digits only, case folded, words one space apart: what makes texts the same."""
    composed = unicodedata.normalize("NFC", text.casefold())
    return " ".join("".join(c if _belongs_to_a_word(c) else " " for c in composed).split())


def _belongs_to_a_word(character: str) -> bool:
    # Variation selectors are marks too, but of emoji.
    return unicodedata.category(character)[0] in "LMN" and not "\ufe00" <= character <= "\ufe0f"


def same_key(text: str) -> str:
    """Alike for texts that are the same; a text without any letter or digit (emoji only, say) stays as it is."""
    return normalized(text) or text
