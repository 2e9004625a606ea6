"""GoEmotions, the rows with one emotion, 27 labels.

Source: Demszky et al.: GoEmotions, A Dataset of Fine-Grained Emotions, ACL 2020,
https://arxiv.org/abs/2005.00547. Data CC BY 4.0.

The single-label version (23,485 / 2,956 / 2,984 rows; used by LLM-FusionClassifier and HypEmo) is the
official release restricted to rows with exactly one label that is not neutral, lower-cased.
"""

from collections.abc import Iterable

from fusion_classifier.tasks.hub_dataset import load_from_hub
from fusion_classifier.tasks.loaded import LoadedTask, Split

NAME = "go_emotion"
TITLE = "GoEmotions: Reddit comments with one of 27 emotions"
LICENCE = "CC BY 4.0"
HUB_REPO = "google-research-datasets/go_emotions"
HUB_CONFIG = "simplified"
HUB_SPLITS = {"train": "train", "valid": "validation", "test": "test"}

# In the order of the official release, where number 27 is neutral.
LABELS = (
    "admiration", "amusement", "anger", "annoyance", "approval", "caring", "confusion", "curiosity", "desire",
    "disappointment", "disapproval", "disgust", "embarrassment", "excitement", "fear", "gratitude", "grief",
    "joy", "love", "nervousness", "optimism", "pride", "realization", "relief", "remorse", "sadness", "surprise",
)  # fmt: skip
NEUTRAL = 27


def single_label(rows: Iterable[tuple[str, list[int]]]) -> Split:
    """The single-label split of official rows of text and label numbers."""
    kept = [(text.lower(), labels[0]) for text, labels in rows if len(labels) == 1 and labels[0] != NEUTRAL]
    return Split(tuple(text for text, _ in kept), tuple(label for _, label in kept))


def load() -> LoadedTask:
    """The task from the Hub."""
    rows = load_from_hub(HUB_REPO, HUB_CONFIG, HUB_SPLITS.values(), NAME)
    splits = {
        split: single_label((row["text"], row["labels"]) for row in rows[hub_split])
        for split, hub_split in HUB_SPLITS.items()
    }
    return LoadedTask(NAME, LABELS, splits, HUB_REPO, LICENCE)
