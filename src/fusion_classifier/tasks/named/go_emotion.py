"""GoEmotions, the rows with one emotion, 27 labels.

Source: Demszky et al.: GoEmotions, A Dataset of Fine-Grained Emotions, ACL 2020,
https://arxiv.org/abs/2005.00547. Data CC BY 4.0.

The single-label version (23,485 / 2,956 / 2,984 rows; used by LLM-FusionClassifier and HypEmo) is the official
release restricted to rows with exactly one label that is not neutral, lower-cased.
"""

from collections.abc import Mapping
from typing import Any

from fusion_classifier.tasks.emotions import CAVEAT, EXAMPLES
from fusion_classifier.tasks.hub_dataset import HubDataset
from fusion_classifier.tasks.task import Task

NEUTRAL = 27
HUB = HubDataset("google-research-datasets/go_emotions", "simplified")


class GoEmotion(Task):
    """GoEmotions with one label per text."""

    name = "go_emotion"
    title = "GoEmotions: Reddit comments with one of 27 emotions"
    licence = "CC BY 4.0"
    language = "en"
    examples = EXAMPLES
    caveat = CAVEAT
    # In the order of the official release, where number 27 is neutral.
    labels = (
        "admiration", "amusement", "anger", "annoyance", "approval", "caring", "confusion", "curiosity", "desire",
        "disappointment", "disapproval", "disgust", "embarrassment", "excitement", "fear", "gratitude", "grief",
        "joy", "love", "nervousness", "optimism", "pride", "realization", "relief", "remorse", "sadness", "surprise",
    )  # fmt: skip
    hub = HUB

    def hub_row(self, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Keep rows with one emotion, in lower case."""
        if len(row["labels"]) != 1 or row["labels"][0] == NEUTRAL:
            return None
        return {"text": row["text"].lower(), "label": row["labels"][0]}
