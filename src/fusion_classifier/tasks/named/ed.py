"""Empathetic Dialogues, the situations, 32 emotions.

Source: Rashkin, Smith, Li, Boureau: Towards Empathetic Open-domain Conversation Models, ACL 2019,
https://arxiv.org/abs/1811.00207. Licence CC BY-NC 4.0.

The published classification split (17,802 / 2,761 train and valid rows; used by LLM-FusionClassifier and HypEmo) is
read from a folder. The official Hub copy is a script, which `datasets` no longer runs; without a folder, the
rows come from a Parquet copy of the official release. It has more rows than the published split: its scores
are close to those on that split, but not comparable with them.
"""

from fusion_classifier.tasks.emotions import CAVEAT, EXAMPLES
from fusion_classifier.tasks.hub_dataset import HubDataset
from fusion_classifier.tasks.task import Task


class EmpatheticDialogues(Task):
    """Empathetic Dialogues."""

    name = "ED"
    title = "Empathetic Dialogues: situations, 32 emotions"
    licence = "CC BY-NC 4.0"
    language = "en"
    examples = EXAMPLES
    caveat = CAVEAT
    # In the order of the published label2idx.txt.
    labels = (
        "sad", "trusting", "terrified", "caring", "disappointed", "faithful", "joyful", "jealous", "disgusted",
        "surprised", "ashamed", "afraid", "impressed", "sentimental", "devastated", "excited", "anticipating",
        "annoyed", "anxious", "furious", "content", "lonely", "angry", "confident", "apprehensive", "guilty",
        "embarrassed", "grateful", "hopeful", "proud", "prepared", "nostalgic",
    )  # fmt: skip
    hub = HubDataset(
        "Estwld/empathetic_dialogues_llm",
        splits={"train": "train", "valid": "valid", "test": "test"},
        text_column="situation",
        label_column="emotion",
        note="ED from the Hub is the official release; the published classification split has fewer rows: "
        "read its folder (`data`) to compare with published figures",
    )
