"""GoEmotions as released: any number of 28 labels per comment, neutral among them.

Source: Demszky et al.: GoEmotions, A Dataset of Fine-Grained Emotions, ACL 2020,
https://arxiv.org/abs/2005.00547, official split (43,410 / 5,426 / 5,427 rows). Data CC BY 4.0.

A folder has the release's files: train.tsv, dev.tsv, test.tsv without a header. A row is text, label numbers
separated by commas, comment id; fields are quoted as in CSV.
"""

from dataclasses import replace
from pathlib import Path

from fusion_classifier.config import TaskConfig
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.tasks.labels import labelled
from fusion_classifier.tasks.loaded import LoadedTask, Split
from fusion_classifier.tasks.named.go_emotion import HUB, GoEmotion
from fusion_classifier.tasks.readers import Row, csv_lines
from fusion_classifier.tasks.table import to_split
from fusion_classifier.tasks.task import Task

FILES = {"train": "train.tsv", "valid": "dev.tsv", "test": "test.tsv"}
FIELDS = ("text", "label", "id")


class GoEmotionMultilabel(Task):
    """GoEmotions with any number of labels per text."""

    name = "go_emotion_multilabel"
    title = "GoEmotions as released: Reddit comments with any of 28 emotions"
    licence = GoEmotion.licence
    language = "en"
    labels = (*GoEmotion.labels, "neutral")
    multilabel = True
    hub = replace(HUB, label_column="labels")

    def from_folder(self, folder: Path, config: TaskConfig) -> LoadedTask:
        """Read the release's files.

        Raises:
            DataError: a file, row or field can't be used.
        """
        if config.augment_column is not None:
            raise UsageError(f"`augment_column`: the files of {self.name} have no other wording of their texts")
        files = {split: folder / file for split, file in FILES.items() if (folder / file).is_file()}
        if not files:
            raise DataError(f"{folder}: has none of {', '.join(FILES.values())}, the files of the GoEmotions release")
        return self.loaded({split: self._read(path) for split, path in files.items()}, str(folder))

    def _read(self, path: Path) -> Split:
        config = TaskConfig(name=self.name, multilabel=True)
        rows = []
        for line, cells in csv_lines(path, "\t"):
            if len(cells) != len(FIELDS):
                raise DataError(f"{path}, line {line}: {len(cells)} fields; the release has {', '.join(FIELDS)}")
            rows.append(labelled(Row(str(path), f"line {line}", dict(zip(FIELDS, cells, strict=True))), config))
        if not rows:
            raise DataError(f"{path}: has no rows")
        return to_split(rows, self.labels)
