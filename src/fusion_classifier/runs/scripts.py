"""Whether encoders of English are to read texts in another script."""

import unicodedata
from collections import Counter
from collections.abc import Sequence

from fusion_classifier.config import EncoderConfig
from fusion_classifier.encoders.presets import PRESETS

TEXTS = 1000  # that are looked at
SHARE = 0.3  # of letters that are not Latin, from which on it is said


def other_script(texts: Sequence[str], encoders: Sequence[EncoderConfig]) -> list[str]:
    """A warning if the texts are in another script than Latin and all encoders are presets of English."""
    presets = [PRESETS.get(encoder.model) or PRESETS.get(encoder.name) for encoder in encoders]
    if not all(preset is not None and preset.languages == "en" for preset in presets):
        return []
    letters = Counter(character for text in texts[:TEXTS] for character in text if character.isalpha())
    latin = sum(count for letter, count in letters.items() if unicodedata.name(letter, "").startswith("LATIN"))
    share = 1 - latin / max(letters.total(), 1)
    if not letters or share < SHARE:
        return []
    names = " and ".join(encoder.name for encoder in encoders)
    return [
        f"{100 * share:.0f}% of the letters are not Latin, and {names} was trained on English: use an encoder of "
        "other languages, such as multilingual-e5-small (`fec encoders` lists them)"
    ]
