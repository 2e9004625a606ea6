"""Texts of one split that also occur in another."""

from collections.abc import Iterable

import numpy as np

from fusion_classifier.tasks.normalize import same_key


def overlap(texts: Iterable[str], train_texts: Iterable[str]) -> np.ndarray:
    """Find the texts that also occur in the training split, ignoring case and punctuation: (N,), bool."""
    known = {same_key(text) for text in train_texts}
    return np.array([same_key(text) in known for text in texts], dtype=bool)
