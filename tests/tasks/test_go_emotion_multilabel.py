"""Tasks with any number of labels a text: the release of GoEmotions, and tables of one's own."""

import json
import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusion_classifier.config import TaskConfig
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.tasks.named.go_emotion_multilabel import GoEmotionMultilabel
from fusion_classifier.tasks.registry import load_task


def labels_by_text(config: TaskConfig) -> dict[str, set[str]]:
    task = load_task(config)
    assert task.multilabel
    found: dict[str, set[str]] = {}
    for name, split in task.splits.items():
        matrix = task.targets(name)
        assert matrix.shape == (len(split), len(task.labels))
        for text, row in zip(split.texts, matrix, strict=True):
            found[text] = {label for label, given in zip(task.labels, row, strict=True) if given}
    return found


BAR: dict[str, object] = {"multilabel": True, "label_separator": "|"}
TRUTH = {f"text {i}": {"joy"} if i % 3 else ({"joy", "anger"} if i % 2 else set()) for i in range(60)}


def write_separated(folder: Path) -> TaskConfig:
    lines = ["text,label", *(f'{text},"{"|".join(sorted(labels))}"' for text, labels in TRUTH.items())]
    (folder / "a.csv").write_text("\n".join(lines), "utf-8")
    return TaskConfig(name=str(folder / "a.csv"), multilabel=True, label_separator="|")


def write_lists(folder: Path) -> TaskConfig:
    lines = [json.dumps({"text": text, "label": sorted(labels)}) for text, labels in TRUTH.items()]
    (folder / "a.jsonl").write_text("\n".join(lines), "utf-8")
    return TaskConfig(name=str(folder / "a.jsonl"), multilabel=True)


def write_parquet(folder: Path) -> TaskConfig:
    labels = pa.array([sorted(labels) for labels in TRUTH.values()], pa.list_(pa.string()))
    pq.write_table(pa.table({"text": list(TRUTH), "label": labels}), folder / "a.parquet")
    return TaskConfig(name=str(folder / "a.parquet"), multilabel=True)


def write_indicators(folder: Path) -> TaskConfig:
    rows = [f"{text},{int('joy' in labels)},{int('anger' in labels)}" for text, labels in TRUTH.items()]
    (folder / "a.csv").write_text("\n".join(["text,joy,anger", *rows]), "utf-8")
    return TaskConfig(name=str(folder / "a.csv"), label_columns=("joy", "anger"))


@pytest.mark.parametrize("write", [write_separated, write_lists, write_parquet, write_indicators])
def test_every_way_to_write_several_labels_gives_the_same(tmp_path: Path, write: object) -> None:
    assert callable(write)
    assert labels_by_text(write(tmp_path)) == TRUTH


def test_rare_labels_reach_every_split(tmp_path: Path) -> None:
    labels = [["common", "rare"] if i % 10 == 0 else ["common"] for i in range(300)]
    lines = [json.dumps({"text": f"t{i}", "label": several}) for i, several in enumerate(labels)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines), "utf-8")
    task = load_task(TaskConfig(name=str(tmp_path / "a.jsonl"), multilabel=True))
    rare = {name: int(task.targets(name)[:, task.labels.index("rare")].sum()) for name in task.splits}
    assert rare == {"train": 24, "valid": 3, "test": 3}


@pytest.mark.parametrize(
    ("content", "config", "said"),
    [
        (
            "text,label\nfine,joy|joy\n",
            BAR,
            "line 2: label 'joy' is duplicated",
        ),
        ("text,label\nfine,joy||anger\n", BAR, "line 2: the label is ''"),
        ("text,joy,anger\nfine,1,yes\n", {"label_columns": ("joy", "anger")}, "line 2: column 'anger' is 'yes'"),
        ("text,joy\nfine,1\n", {"label_columns": ("joy", "anger")}, "no column 'anger'"),
    ],
)
def test_faults_are_named(tmp_path: Path, content: str, config: dict[str, object], said: str) -> None:
    (tmp_path / "a.csv").write_text(content, "utf-8")
    with pytest.raises(DataError, match=r"a\.csv") as caught:
        load_task(TaskConfig.model_validate({"name": str(tmp_path / "a.csv"), **config}))
    assert said in str(caught.value)


def test_a_list_of_labels_without_multilabel_says_what_to_do(tmp_path: Path) -> None:
    write_lists(tmp_path)
    with pytest.raises(DataError, match="set `multilabel`"):
        load_task(TaskConfig(name=str(tmp_path / "a.jsonl")))


def test_named_tasks_have_their_own_labels() -> None:
    with pytest.raises(UsageError, match="for your own data"):
        load_task(TaskConfig(name="go_emotion", multilabel=True))


# The release.


def write_release(folder: Path, **files: str) -> TaskConfig:
    for name, content in files.items():
        (folder / f"{name}.tsv").write_text(content, "utf-8")
    return TaskConfig(name="go_emotion_multilabel", data=str(folder))


def test_release_files_are_read_with_their_quotes(tmp_path: Path) -> None:
    content = 'plain "inside" text\t0,27\tid1\n"quoted ""so"""\t2\tid2\n'
    task = load_task(write_release(tmp_path, train=content, dev="a\t1\tx\n"))
    assert task.splits["train"].texts == ('plain "inside" text', 'quoted "so"')
    assert task.splits["train"].labels == ((0, 27), (2,))
    assert set(task.splits) == {"train", "valid"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a\t28\tx\n", "line 1: unknown label '28'"),
        ("a\t1\tx\nb\t1\n", "line 2: 2 fields"),
        ("a\t1,\tx\n", "line 1: the label is ''"),
        (" \t1\tx\n", "line 1: the text is empty"),
        ("", "has no rows"),
    ],
)
def test_faults_in_the_release_are_named(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        load_task(write_release(tmp_path, train=content))
    assert str(tmp_path / "train.tsv") in str(caught.value)
    assert said in str(caught.value)


def test_a_folder_without_the_release_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no train, valid or test file"):
        load_task(write_release(tmp_path))


def test_official_counts() -> None:
    folder = Path(os.environ.get("FEC_TEST_DATA", "")) / "go_emotion_multilabel"
    if not folder.is_dir():
        pytest.skip("the data sets are not at hand ($FEC_TEST_DATA)")
    task = load_task(TaskConfig(name="go_emotion_multilabel", data=str(folder)))
    assert {name: len(split) for name, split in task.splits.items()} == {"train": 43410, "valid": 5426, "test": 5427}
    assert Counter(task.targets("train").sum(1).tolist()).most_common(1)[0][0] == 1
    assert task.labels == GoEmotionMultilabel.labels


# Paraphrases.


def test_only_train_s_paraphrases_are_read(tmp_path: Path) -> None:
    for name in ("train", "valid", "test"):
        rows = [f"{name} {i},{name} other {i},{'joy' if i % 2 else 'anger'}" for i in range(4)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,other,label", *rows, "bare,,joy"]), "utf-8")
    task = load_task(TaskConfig(name=str(tmp_path), augment_column="other"))
    assert task.augmentation is not None
    assert task.augmentation.texts == tuple(f"train other {i}" for i in range(4))
    assert len(task.training) == 9
    assert task.training.labels[:5] == task.split("train").labels
    assert task.limited(2).training.texts == ("train 0", "train 1", "train other 0", "train other 1")


def test_paraphrases_of_rows_held_out_are_not_trained_on(tmp_path: Path) -> None:
    rows = [f"text {i},other {i},{'joy' if i % 2 else 'anger'}" for i in range(60)]
    (tmp_path / "a.csv").write_text("\n".join(["text,other,label", *rows]), "utf-8")
    task = load_task(TaskConfig(name=str(tmp_path / "a.csv"), augment_column="other"))
    assert task.augmentation is not None
    assert {text.replace("other", "text") for text in task.augmentation.texts} == set(task.split("train").texts)
