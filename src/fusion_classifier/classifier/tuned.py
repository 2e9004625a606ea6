"""Tuned encoders: records the texts that they were tuned on, for which their scores are too high."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.features.hashing import from_bytes, hash_texts
from fusion_classifier.tasks.loaded import LoadedTask

TUNING_FILE = "tuning.json"
TEXTS_FILE = "train-texts.bin"


def write_tuned_texts(texts: Sequence[str], folder: Path) -> None:
    """Write hashes of the texts that the encoder in this folder was tuned on, 16 bytes each."""
    (folder / TEXTS_FILE).write_bytes(hash_texts(texts).tobytes())


def tuned_texts(folder: Path) -> np.ndarray:
    """Hashes of the texts that an encoder was tuned on: (N,), dtype S16; none if `fec tune` has not written it."""
    file = folder / TEXTS_FILE
    written = file.is_file() and (folder / TUNING_FILE).is_file()
    return from_bytes(file.read_bytes() if written else b"")


def tuned_on(identities: Sequence[EncoderIdentity], texts: Sequence[str], what: str) -> list[str]:
    """A warning for each encoder that was tuned on some of these texts.

    Args:
        identities: Encoders.
        texts: Texts on which something is measured or calibrated.
        what: These texts in the warning, such as "valid texts that are evaluated here".
    """
    found = []
    for identity in identities:
        known = np.empty(0) if identity.is_object else tuned_texts(identity.weights.folder)
        seen = int(np.isin(hash_texts(texts), known).sum()) if len(known) else 0
        if seen:
            found.append(
                f"The encoder {identity.config.name} was tuned on {seen:,} of the {len(texts):,} {what}, so scores "
                "and probabilities are too high. Use other texts, or the tuned classifier itself, whose scores on "
                f"other texts are in {TUNING_FILE}."
            )
    return found


def tuned_on_splits(identities: Sequence[EncoderIdentity], task: LoadedTask, splits: Sequence[str]) -> list[str]:
    """`tuned_on` for the evaluated splits of a task; train is not evaluated."""
    found = []
    for name in splits:
        if name != "train":
            what = f"{'' if task.cross_validated else f'{name} '}texts that are evaluated here"
            found += tuned_on(identities, task.split(name).texts, what)
    return found
