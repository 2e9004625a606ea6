"""Normalization for comparing texts."""

import unicodedata
from collections.abc import Iterable

import numpy as np


class _WordParts(dict[int, str]):
    """For `str.translate`: letters, marks and digits as they are, other characters as spaces."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        # Variation selectors are marks too, but of emoji.
        part = unicodedata.category(character)[0] in "LMN" and not "\ufe00" <= character <= "\ufe0f"
        self[code] = character if part else " "
        return self[code]


_WORD_PARTS = _WordParts()


def normalized(text: str) -> str:
    """Letters (with their marks) and digits only, case folded, words separated by one space."""
    return " ".join(unicodedata.normalize("NFC", text.casefold()).translate(_WORD_PARTS).split())


def same_key(text: str) -> str:
    """Comparison key, equal for equivalent texts; a text without letters or digits (such as emoji only) is its own
    key."""
    return normalized(text) or text


def text_groups(texts: Iterable[str]) -> np.ndarray:
    """One number per text, equal for texts with the same `same_key`: (N,), int64."""
    keys = np.array([same_key(text) for text in texts], dtype=object)
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)
