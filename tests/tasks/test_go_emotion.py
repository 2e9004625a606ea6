"""GoEmotions: the published single-label rows come out of the official release, from the Hub and from files."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusion_classifier.evaluation.overlap import overlap
from fusion_classifier.tasks.loaded import Split
from fusion_classifier.tasks.named.go_emotion import NEUTRAL, GoEmotion
from fusion_classifier.tasks.table import load_table

README = """---
configs:
- config_name: raw
  data_files:
  - split: train
    path: raw/train-*.parquet
- config_name: simplified
  data_files:
  - split: train
    path: simplified/train-*.parquet
  - split: validation
    path: simplified/validation-*.parquet
  - split: test
    path: simplified/test-*.parquet
---
"""

REPO = GoEmotion().source
Rows = list[tuple[str, list[int]]]


def single_label(rows: Rows) -> Split:
    kept = [row for text, labels in rows if (row := GoEmotion().hub_row({"text": text, "labels": labels}))]
    return Split(tuple(row["text"] for row in kept), tuple(row["label"] for row in kept))


@pytest.fixture
def published() -> Path:
    """The folder with the real data."""
    folder = os.environ.get("FEC_TEST_DATA")
    if not folder:
        pytest.skip("FEC_TEST_DATA names no folder with go_emotion/ and go_emotion_multilabel/")
    return Path(folder)


def official(path: Path) -> Rows:
    """An official TSV; its quotes are CSV quotes."""
    with path.open(encoding="utf-8", newline="") as file:
        return [(text, [int(n) for n in numbers.split(",")]) for text, numbers, _ in csv.reader(file, delimiter="\t")]


def stand_in(monkeypatch: pytest.MonkeyPatch, root: Path, **splits: Rows) -> None:
    """Put a data set of the Hub's layout where `datasets` looks before it asks the Hub."""
    import datasets

    folder = root / REPO
    (folder / "simplified").mkdir(parents=True)
    (folder / "raw").mkdir()
    (folder / "README.md").write_text(README, encoding="utf-8")
    pq.write_table(pa.table({"text": ["raw"], "rater_id": [1]}), folder / "raw" / "train-00000-of-00001.parquet")
    for name, rows in splits.items():
        table = pa.table(
            {
                "text": pa.array([text for text, _ in rows], pa.string()),
                "labels": pa.array([labels for _, labels in rows], pa.list_(pa.int64())),
                "id": [f"id{number}" for number in range(len(rows))],
            }
        )
        pq.write_table(table, folder / "simplified" / f"{name}-00000-of-00001.parquet")
    monkeypatch.chdir(root)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", root / "cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)


def test_rows_with_one_emotion_are_kept_lower_cased() -> None:
    rows: Rows = [
        ("I LOVE it", [18]),
        ("Neutral", [27]),
        ("Two", [3, 4]),
        ("None", []),
        ("One and neutral", [5, 27]),
        ("  ÄRGER, “Öl” 😀 ", [2]),
        ("First", [0]),
    ]
    assert single_label(rows) == Split(("i love it", "  ärger, “öl” 😀 ", "first"), (18, 2, 0))


def test_labels_are_27_without_neutral_in_alphabetical_order() -> None:
    """That of the official numbers, of which neutral is the last."""
    assert len(GoEmotion.labels) == NEUTRAL == 27
    assert list(GoEmotion.labels) == sorted(set(GoEmotion.labels))
    assert "neutral" not in GoEmotion.labels


def test_hub_rows_become_the_single_label_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by `datasets` itself from a folder of the Hub's layout: config `simplified`, its validation as valid."""
    stand_in(
        monkeypatch,
        tmp_path,
        train=[("Happy Day", [17]), ("Neutral", [27]), ("Both", [1, 2])],
        validation=[("Well DONE", [0])],
        test=[("So Sad\nreally", [25]), ("ANGRY", [2])],
    )
    task = GoEmotion().load()
    assert task.splits == {
        "train": Split(("happy day",), (17,)),
        "valid": Split(("well done",), (0,)),
        "test": Split(("so sad\nreally", "angry"), (25, 2)),
    }
    assert task.labels == GoEmotion.labels
    assert (task.name, task.source, task.licence) == ("go_emotion", REPO, "CC BY 4.0")


def test_without_hub_the_error_says_to_give_a_folder(tmp_path: Path) -> None:
    """In a process of its own: the Hub's libraries read the environment once."""
    code = (
        "from fusion_classifier.errors import DataError\n"
        "from fusion_classifier.tasks.named.go_emotion import GoEmotion\n"
        "try:\n    GoEmotion().load()\n"
        "except DataError as error:\n    print(error)\n"
    )
    places = {"HF_HOME": str(tmp_path / "home"), "HF_DATASETS_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | places,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"task go_emotion: the data set {REPO} can't be read from the Hub (")
    assert "`data`" in done.stdout
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("split", "file", "count"), [("train", "train", 23_485), ("valid", "dev", 2_956), ("test", "test", 2_984)]
)
def test_official_release_gives_exactly_the_published_rows(
    published: Path, split: str, file: str, count: int
) -> None:
    """Texts, labels and order; so the Hub copy stands in for the published files."""
    task = load_table(published / "go_emotion")
    made = single_label(official(published / "go_emotion_multilabel" / f"{file}.tsv"))
    assert len(made) == count
    # Not `made == …`: no text of the data belongs in a report.
    assert made.fingerprint() == task.split(split).fingerprint()


def test_labels_are_those_of_the_published_files(published: Path) -> None:
    assert load_table(published / "go_emotion", labels=GoEmotion.labels).labels == GoEmotion.labels
    names = (published / "go_emotion_multilabel" / "labels.txt").read_text("utf-8").split()
    assert (*GoEmotion.labels, "neutral") == tuple(names)


def test_published_splits_overlap(published: Path) -> None:
    task = load_table(published / "go_emotion")
    train = task.split("train").texts
    found = {name: int(overlap(task.split(name).texts, train).sum()) for name in ("valid", "test")}
    assert found == {"valid": 62, "test": 65}
