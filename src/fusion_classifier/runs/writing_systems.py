"""Texts in a writing system that the encoders, trained on English, do not know."""

import unicodedata
from collections import Counter
from collections.abc import Sequence

from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders.presets import PRESETS

TEXTS = 1000  # checked
MIN_SHARE = 0.3  # of letters that are not Latin, for a warning


def unknown_script(texts: Sequence[str], encoders: Sequence[EncoderConfig]) -> list[str]:
    """A warning if many letters are not Latin and all encoders are presets trained on English; else none."""
    presets = [PRESETS.get(encoder.model) or PRESETS.get(encoder.name) for encoder in encoders]
    if not all(preset is not None and preset.languages == "en" for preset in presets):
        return []
    letters = Counter(character for text in texts[:TEXTS] for character in text if character.isalpha())
    latin = sum(count for letter, count in letters.items() if unicodedata.name(letter, "").startswith("LATIN"))
    share = 1 - latin / max(letters.total(), 1)
    if not letters or share < MIN_SHARE:
        return []
    names = " and ".join(encoder.name for encoder in encoders) + (" was" if len(encoders) == 1 else " were")
    return [
        f"{100 * share:.0f}% of the letters are not Latin, and {names} trained on English: use an encoder for "
        "other languages, such as multilingual-e5-small (`fec encoders` lists them)"
    ]
