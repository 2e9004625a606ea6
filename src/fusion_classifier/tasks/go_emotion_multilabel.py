"""GoEmotions as released: any number of 28 labels a comment, neutral among them.

Source: Demszky et al.: GoEmotions, A Dataset of Fine-Grained Emotions, ACL 2020,
https://arxiv.org/abs/2005.00547, official split (43,410 / 5,426 / 5,427 rows). Data CC BY 4.0.

A folder (`--data`) has the release's files: train.tsv, dev.tsv, test.tsv without a header; a row is text,
label numbers with commas between them, comment id; fields are quoted as in CSV.
"""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from fusion_classifier.errors import DataError
from fusion_classifier.tasks import go_emotion
from fusion_classifier.tasks.hub_dataset import load_from_hub
from fusion_classifier.tasks.loaded import LoadedTask, Split
from fusion_classifier.tasks.readers import checked_text, read_utf8

NAME = "go_emotion_multilabel"
TITLE = "GoEmotions as released: Reddit comments with any of 28 emotions"
LICENCE = go_emotion.LICENCE
HUB_REPO = go_emotion.HUB_REPO
LABELS = (*go_emotion.LABELS, "neutral")
FILES = {"train": "train.tsv", "valid": "dev.tsv", "test": "test.tsv"}
FIELDS = 3


def load_folder(folder: Path) -> LoadedTask:
    """The task from the release's files.

    Raises:
        DataError: file, row or field that can't be used, by name.
    """
    there = {split: folder / name for split, name in FILES.items() if (folder / name).is_file()}
    if not there:
        raise DataError(f"{folder}: has none of {', '.join(FILES.values())}, the files of the GoEmotions release")
    splits = {split: _read(path) for split, path in there.items()}
    return LoadedTask(NAME, LABELS, splits, str(folder), LICENCE, multilabel=True)


def _read(path: Path) -> Split:
    texts, labels = [], []
    reader = csv.reader(io.StringIO(read_utf8(path), newline=""), delimiter="\t")
    line = 1
    try:
        for cells in reader:
            if cells:
                where = f"line {line}"
                if len(cells) != FIELDS:
                    raise DataError(
                        f"{path}, {where}: {len(cells)} fields; the release has {FIELDS} (text, label numbers, id)"
                    )
                texts.append(checked_text(path, where, cells[0]))
                labels.append(_numbers(path, where, cells[1]))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: {error}; look for a stray quote") from error
    if not texts:
        raise DataError(f"{path}: has no rows")
    return Split(tuple(texts), tuple(labels))


def _numbers(path: Path, where: str, field: str) -> tuple[int, ...]:
    numbers = set()
    for part in field.split(","):
        if not part.strip().isdecimal() or int(part) >= len(LABELS):
            raise DataError(f"{path}, {where}: label {part!r}; expected numbers from 0 to {len(LABELS) - 1}")
        numbers.add(int(part))
    return tuple(sorted(numbers))


def to_split(rows: Iterable[tuple[str, list[int]]]) -> Split:
    """A split of official rows of text and label numbers."""
    kept = list(rows)
    return Split(tuple(text for text, _ in kept), tuple(tuple(sorted(labels)) for _, labels in kept))


def load() -> LoadedTask:
    """The task from the Hub."""
    rows = load_from_hub(HUB_REPO, go_emotion.HUB_CONFIG, go_emotion.HUB_SPLITS.values(), NAME)
    splits = {
        split: to_split((row["text"], row["labels"]) for row in rows[hub_split])
        for split, hub_split in go_emotion.HUB_SPLITS.items()
    }
    return LoadedTask(NAME, LABELS, splits, HUB_REPO, LICENCE, multilabel=True)
