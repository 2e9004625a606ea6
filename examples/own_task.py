"""A data set of your own as a task: one class.

    python examples/own_task.py

Needs no download. `register_task` makes the task known in this process; a package offers its task to `fec` by an
entry point (docs/extend.md).
"""

import csv
import random
import tempfile
from pathlib import Path

from sklearn.feature_extraction.text import HashingVectorizer

from fusion_classifier import FusionHeadClassifier, LoadedTask, Task, TaskConfig, load_task, register_task

FORECASTS = {
    "no": ("Sun all day", "Dry and warm", "Clear skies"),
    "yes": ("Heavy rain", "Showers", "A thunderstorm"),
}
PLACES = ("in the north", "by the sea", "in the hills", "over the town", "in the valley")
TIMES = ("this morning", "at noon", "in the afternoon", "tonight", "until Sunday")


@register_task
class Umbrella(Task):
    """Forecasts, and whether to take an umbrella."""

    name = "umbrella"
    title = "Weather forecasts: take an umbrella?"
    labels = ("no", "yes")
    licence = "CC0-1.0"
    language = "en"

    def load(self, data: Path | None = None, config: TaskConfig | None = None) -> LoadedTask:
        """Read the files of the folder `data`; without one, write a folder first."""
        if data is not None:
            return super().load(data, config)
        with tempfile.TemporaryDirectory() as folder:  # where yours would be downloaded, say
            write_files(Path(folder))
            return super().load(Path(folder), config)


def write_files(folder: Path) -> None:
    """train.csv, valid.csv and test.csv with the columns text and label."""
    rows = [
        (f"{weather} {place} {time}.", label)
        for label, forecasts in FORECASTS.items()
        for weather in forecasts
        for place in PLACES
        for time in TIMES
    ]
    random.Random(0).shuffle(rows)
    for name, part in (("train", rows[:100]), ("valid", rows[100:125]), ("test", rows[125:])):
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *part])


def main() -> None:
    """Load the task by its name, train on it and evaluate the classifier."""
    task = load_task(TaskConfig(name="umbrella"))
    print({name: len(split) for name, split in task.splits.items()}, task.labels)

    words = HashingVectorizer(n_features=256)  # stands in for the features of a language model
    train, valid, test = (words.transform(task.split(name).texts).toarray() for name in ("train", "valid", "test"))
    classifier = FusionHeadClassifier()
    classifier.fit(train, task.targets("train"), X_valid=valid, y_valid=task.targets("valid"))
    print(f"accuracy on test: {classifier.score(test, task.targets('test')):.2f}")


if __name__ == "__main__":
    main()
