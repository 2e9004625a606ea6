"""Texts of one split that also stand in another."""

import re
from collections.abc import Iterable

import numpy as np

_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")


def normalized(text: str) -> str:
    """Letters and digits only, case folded, words one space apart: what makes two texts the same."""
    return _NOT_ALPHANUMERIC.sub(" ", text.casefold()).strip()


def overlap(texts: Iterable[str], train_texts: Iterable[str]) -> np.ndarray:
    """Which texts also stand in the training split, normalized: (N,), bool.

    A text without any letter or digit (emoji only, say) is compared as it is.
    """
    known = {normalized(text) or text for text in train_texts}
    return np.array([(normalized(text) or text) in known for text in texts], dtype=bool)
