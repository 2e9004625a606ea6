"""The model and the texts among the arguments of `fec predict` and `fec explain`."""

from collections.abc import Sequence
from pathlib import Path

from fusion_classifier.classifier.models import DEFAULT_MODEL, built_in_models
from fusion_classifier.errors import UsageError
from fusion_classifier.support.hub import is_hub_id


def model_and_texts(words: Sequence[str], model: str | None, *, has_file: bool) -> tuple[str, list[str]]:
    """Separate the model from the texts.

    Args:
        words: MODEL and texts, or texts for the model that comes with the package.
        model: Value of --model; with it all words are texts.
        has_file: Whether there are texts in a file, too.
    """
    if model is not None:
        return model, list(words)
    if not words:
        return DEFAULT_MODEL, []
    first, rest = words[0], list(words[1:])
    if first in built_in_models() or _exists(first) or (is_hub_id(first) and (rest or has_file)):
        return first, rest
    if len(first.split()) == 1 and (rest or has_file or "/" in first):
        raise UsageError(
            f"{first[:60]}: no such model folder, run folder or built-in model "
            f"({', '.join(built_in_models())}); to classify it as a text use --model {DEFAULT_MODEL}"
        )
    return DEFAULT_MODEL, list(words)


def _exists(word: str) -> bool:
    """Whether a word is a path to something; a text may be too long for a path, or begin with ~."""
    try:
        return bool(word) and Path(word).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False
