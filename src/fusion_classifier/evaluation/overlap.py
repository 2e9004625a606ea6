"""Texts of one split that also stand in another."""

from collections.abc import Iterable

import numpy as np

from fusion_classifier.tasks.normalize import same_key


def overlap(texts: Iterable[str], train_texts: Iterable[str]) -> np.ndarray:
    """Which texts also stand in the training split, normalized: (N,), bool.

    A text without any letter or digit (emoji only, say) is compared as it is.
    """
    known = {same_key(text) for text in train_texts}
    return np.array([same_key(text) in known for text in texts], dtype=bool)
