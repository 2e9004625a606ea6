"""Texts of one split that also stand in another."""

import unicodedata
from collections.abc import Iterable

import numpy as np


def normalized(text: str) -> str:
    """Letters (with their marks) and digits only, case folded, words one space apart: what makes texts the same."""
    composed = unicodedata.normalize("NFC", text.casefold())
    return " ".join("".join(c if _belongs_to_a_word(c) else " " for c in composed).split())


def _belongs_to_a_word(character: str) -> bool:
    # Variation selectors are marks too, but of emoji.
    return unicodedata.category(character)[0] in "LMN" and not "\ufe00" <= character <= "\ufe0f"


def overlap(texts: Iterable[str], train_texts: Iterable[str]) -> np.ndarray:
    """Which texts also stand in the training split, normalized: (N,), bool.

    A text without any letter or digit (emoji only, say) is compared as it is.
    """
    known = {normalized(text) or text for text in train_texts}
    return np.array([(normalized(text) or text) in known for text in texts], dtype=bool)
