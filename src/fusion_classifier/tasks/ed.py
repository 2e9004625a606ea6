"""Empathetic Dialogues, the situations, 32 emotions.

Source: Rashkin, Smith, Li, Boureau: Towards Empathetic Open-domain Conversation Models, ACL 2019,
https://arxiv.org/abs/1811.00207. Licence CC BY-NC 4.0.

The published classification split (17,802 / 2,761 train and valid rows; used by LLM-FusionClassifier and HypEmo) is
read from a folder (`--data`). The official Hub copy is a script, which `datasets` no longer runs; without a
folder the rows come from a Parquet copy of the official release, which has more rows: its scores are close
to, but not comparable with, those on the published split.
"""

from fusion_classifier.errors import DataError
from fusion_classifier.tasks.hub_dataset import load_from_hub
from fusion_classifier.tasks.loaded import LoadedTask, Split

NAME = "ED"
TITLE = "Empathetic Dialogues: situations, 32 emotions"
LICENCE = "CC BY-NC 4.0"
HUB_REPO = "Estwld/empathetic_dialogues_llm"
HUB_SPLITS = {"train": "train", "valid": "valid", "test": "test"}

# In the order of the published label2idx.txt.
LABELS = (
    "sad", "trusting", "terrified", "caring", "disappointed", "faithful", "joyful", "jealous", "disgusted",
    "surprised", "ashamed", "afraid", "impressed", "sentimental", "devastated", "excited", "anticipating",
    "annoyed", "anxious", "furious", "content", "lonely", "angry", "confident", "apprehensive", "guilty",
    "embarrassed", "grateful", "hopeful", "proud", "prepared", "nostalgic",
)  # fmt: skip


def load() -> LoadedTask:
    """The task from the Hub."""
    rows = load_from_hub(HUB_REPO, None, HUB_SPLITS.values(), NAME)
    index = {label: position for position, label in enumerate(LABELS)}
    splits = {}
    empty = 0
    for split, hub_split in HUB_SPLITS.items():
        texts, labels = [], []
        for number, row in enumerate(rows[hub_split], start=1):
            if row["emotion"] not in index:
                raise DataError(f"{HUB_REPO}, {hub_split}, row {number}: unknown label {row['emotion']!r}")
            if not (row["situation"] or "").strip():
                empty += 1
            else:
                texts.append(row["situation"])
                labels.append(index[row["emotion"]])
        splits[split] = Split(tuple(texts), tuple(labels))
    note = (
        f"ED comes from {HUB_REPO}, the official release; the published classification split has fewer rows: "
        "give its folder by --data to compare with published figures"
    )
    notes = (note,) if not empty else (note, f"{empty} rows without a text were left out")
    return LoadedTask(NAME, LABELS, splits, HUB_REPO, LICENCE, notes)
