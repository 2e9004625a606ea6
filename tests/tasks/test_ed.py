"""Empathetic Dialogues: the published split from files, the official release from the Hub."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusion_classifier.config import TaskConfig
from fusion_classifier.errors import DataError, MissingSplitError
from fusion_classifier.tasks.hub_dataset import HubDataset
from fusion_classifier.tasks.labels import read_label_order
from fusion_classifier.tasks.loaded import Split
from fusion_classifier.tasks.named.ed import EmpatheticDialogues
from fusion_classifier.tasks.registry import load_task

README = "---\nconfigs:\n- config_name: default\n  data_files:\n{}---\n"

REPO = EmpatheticDialogues().source
Rows = list[tuple[str, str]]
ROWS: dict[str, Rows] = {
    "train": [("I lost my keys, again.", "annoyed"), ("My dog came back!", "joyful")],
    "valid": [("He kept his word.", "trusting")],
    "test": [("She left.\nI stayed.", "sad")],
}


@pytest.fixture
def published() -> Path:
    """The folder with the real data."""
    folder = os.environ.get("FEC_TEST_DATA")
    if not folder:
        pytest.skip("FEC_TEST_DATA names no folder with ED/")
    return Path(folder) / "ED"


def stand_in(monkeypatch: pytest.MonkeyPatch, root: Path, splits: dict[str, Rows]) -> None:
    """Put a data set of the Hub's layout where `datasets` looks before it asks the Hub."""
    import datasets

    folder = root / REPO
    (folder / "data").mkdir(parents=True)
    files = [f"  - split: {name}\n    path: data/{name}-*.parquet\n" for name in splits]
    (folder / "README.md").write_text(README.format("".join(files)), encoding="utf-8")
    for name, rows in splits.items():
        table = pa.table(
            {
                "conv_id": [f"hit:{number}" for number in range(len(rows))],
                "situation": [text for text, _ in rows],
                "emotion": [emotion for _, emotion in rows],
                "conversations": [[{"content": "Hello", "role": "user"}]] * len(rows),
            }
        )
        pq.write_table(table, folder / "data" / f"{name}-00000-of-00001.parquet")
    monkeypatch.chdir(root)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", root / "cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)


def test_hub_rows_become_situations_and_emotions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by `datasets` itself from a folder of the Hub's layout; the note says what the rows are not."""
    stand_in(monkeypatch, tmp_path, ROWS)
    task = EmpatheticDialogues().load()
    assert task.splits == {
        "train": Split(("I lost my keys, again.", "My dog came back!"), (17, 6)),
        "valid": Split(("He kept his word.",), (1,)),
        "test": Split(("She left.\nI stayed.",), (0,)),
    }
    assert (task.name, task.labels, task.source) == ("ED", EmpatheticDialogues.labels, REPO)
    assert len(task.notes) == 1
    assert "`data`" in task.notes[0]


def test_hub_rows_without_a_text_are_left_out_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(
        monkeypatch, tmp_path, ROWS | {"train": [*ROWS["train"], (" ", "sad")], "test": [("", "sad"), ("a", "sad")]}
    )
    task = EmpatheticDialogues().load()
    assert (len(task.split("train")), task.split("test").texts) == (2, ("a",))
    assert task.notes[-1] == "2 rows without a text or label left out"


def test_hub_data_without_a_validation_split_gets_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(f"text {i}", ("sad", "joyful")[i % 2]) for i in range(40)]
    stand_in(monkeypatch, tmp_path, {"train": rows, "test": ROWS["test"]})

    class TwoSplits(EmpatheticDialogues):
        hub = HubDataset(
            REPO, splits={"train": "train", "test": "test"}, text_column="situation", label_column="emotion"
        )

    task = TwoSplits().load()
    assert {name: len(split) for name, split in task.splits.items()} == {"train": 36, "valid": 4, "test": 1}
    assert "no validation split" in task.notes[-1]


def test_unknown_label_on_the_hub_names_split_and_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, tmp_path, ROWS | {"valid": [("fine", "sad"), ("odd", "bored")]})
    with pytest.raises(DataError, match=f"^{REPO}, valid, row 1: unknown label 'bored'"):
        EmpatheticDialogues().load()


def test_without_hub_the_error_says_to_give_a_folder(tmp_path: Path) -> None:
    """In a process of its own: the Hub's libraries read the environment once."""
    code = (
        "from fusion_classifier.errors import DataError\n"
        "from fusion_classifier.tasks.named.ed import EmpatheticDialogues\n"
        "try:\n    EmpatheticDialogues().load()\n"
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
    assert done.stdout.startswith(f"task ED: the data set {REPO} can't be read from the Hub (")
    assert "`data`" in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_labels_are_32() -> None:
    assert len(set(EmpatheticDialogues.labels)) == len(EmpatheticDialogues.labels) == 32


def test_published_files_have_the_published_counts(published: Path) -> None:
    task = load_task(TaskConfig(name="ED", data=str(published)))
    assert {name: len(split) for name, split in task.splits.items()} == {"train": 17_802, "valid": 2_761}
    assert task.labels == EmpatheticDialogues.labels == read_label_order(published / "label2idx.txt")
    assert all(len(Counter(split.labels)) == 32 for split in task.splits.values())
    assert task.notes == ()


def test_published_files_have_no_test_split(published: Path) -> None:
    """It is held back; asking for it must not give another split in its place."""
    task = load_task(TaskConfig(name="ED", data=str(published)))
    with pytest.raises(MissingSplitError, match=r"^task ED has no test split in .* \(it has: train, valid\)"):
        task.split("test")
