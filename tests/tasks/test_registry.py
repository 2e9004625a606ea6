"""Finding and loading tasks: names, packages, folders, columns, seed and limit."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fusion_classifier.config import TaskConfig
from fusion_classifier.errors import DataError, FecError, MissingSplitError, UsageError
from fusion_classifier.tasks.loaded import LoadedTask, Split, targets
from fusion_classifier.tasks.named.go_emotion import GoEmotion
from fusion_classifier.tasks.registry import describe_tasks, find_task, load_task, register_task
from fusion_classifier.tasks.task import Task


def write(path: Path, header: str, rows: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def folder_of(folder: Path) -> Path:
    """A folder of three splits with two of GoEmotions' labels."""
    write(folder / "train.csv", "text,label", ["one,joy", "two,anger", "three,joy"])
    write(folder / "valid.csv", "text,label", ["four,joy", "five,anger"])
    write(folder / "test.csv", "text,label", ["six,anger", "seven,joy", "eight,joy"])
    return folder


def test_unknown_name_is_a_usage_error_with_the_names_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        load_task(TaskConfig(name="no-such-task"))
    assert str(caught.value) == (
        "no task and no file 'no-such-task'; tasks: demo, ED, go_emotion, go_emotion_multilabel; "
        "or give the path of your data, or of a data set on the Hub (hf://OWNER/NAME)"
    )
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "name",
    [
        "ed",
        "x\0y",
        pytest.param("~no-such-user/data.csv", id="home of nobody"),
        pytest.param("x" * 300, id="longer than a file name"),
    ],
)
def test_no_name_whatever_is_a_traceback(name: str) -> None:
    with pytest.raises(FecError):
        load_task(TaskConfig(name=name))


@pytest.mark.parametrize("data", ["no-such-folder", "~no-such-user/data", "x" * 300])
def test_data_that_is_no_folder_is_an_error(data: str) -> None:
    with pytest.raises(FecError, match="`data`"):
        load_task(TaskConfig(name="go_emotion", data=data))


def test_data_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", "text,label", ["one,joy"])
    with pytest.raises(DataError, match=r"`data`: .*not a folder"):
        load_task(TaskConfig(name="go_emotion", data=str(path)))


def test_data_beside_a_path_is_a_usage_error(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "d")
    with pytest.raises(UsageError, match="`data` is for a named task"):
        load_task(TaskConfig(name=str(folder), data=str(folder)))


def test_named_task_from_a_folder_keeps_its_label_order(tmp_path: Path) -> None:
    """Two labels occur; the task still has its 27, in its order."""
    task = load_task(TaskConfig(name="go_emotion", data=str(folder_of(tmp_path / "d"))))
    assert (task.name, task.licence, task.labels) == ("go_emotion", GoEmotion.licence, GoEmotion.labels)
    joy, anger = GoEmotion.labels.index("joy"), GoEmotion.labels.index("anger")
    assert task.split("train") == Split(("one", "two", "three"), (joy, anger, joy))
    assert task.source == str(tmp_path / "d")


def test_named_task_refuses_the_labels_of_another(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.csv, line 2: unknown label 'joy'; .* \(the 32 known ones: sad"):
        load_task(TaskConfig(name="ED", data=str(folder_of(tmp_path / "d"))))


def test_path_of_a_folder_is_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path / "mine")
    task = load_task(TaskConfig(name=str(folder)))
    assert (task.name, task.licence, task.labels) == ("mine", "unknown", ("anger", "joy"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_task(TaskConfig(name="~/mine")).splits == task.splits
    monkeypatch.chdir(folder)
    assert load_task(TaskConfig(name=".")).name == "mine"


def test_name_of_a_task_goes_before_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    assert load_task(TaskConfig(name="demo")).source != "demo"


def test_columns_and_seed_of_the_configuration_count(tmp_path: Path) -> None:
    rows = [f"t{number},x,{'ab'[number % 2]}" for number in range(60)]
    path = write(tmp_path / "mine.csv", "comment,text,emotion", rows)
    config = TaskConfig(name=str(path), text_column="comment", label_column="emotion", split_seed=1)
    task = load_task(config)
    assert task.labels == ("a", "b")
    assert task.splits == load_task(config).splits
    assert task.splits != load_task(config.model_copy(update={"split_seed": 2})).splits


def test_columns_count_for_a_named_task_too(tmp_path: Path) -> None:
    write(tmp_path / "d" / "train.csv", "comment,emotion", ["one,joy", "two,anger"])
    write(tmp_path / "d" / "valid.csv", "comment,emotion", ["three,joy"])
    config = TaskConfig(name="go_emotion", data=str(tmp_path / "d"), text_column="comment", label_column="emotion")
    assert load_task(config).split("train").texts == ("one", "two")


def test_limit_keeps_the_first_rows_of_each_split(tmp_path: Path) -> None:
    task = load_task(TaskConfig(name=str(folder_of(tmp_path / "d")), limit=1))
    assert {name: split.texts for name, split in task.splits.items()} == {
        "train": ("one",),
        "valid": ("four",),
        "test": ("six",),
    }
    assert task.labels == ("anger", "joy")
    assert load_task(TaskConfig(name=str(tmp_path / "d"), limit=99)) == load_task(
        TaskConfig(name=str(tmp_path / "d"))
    )


def test_data_of_one_label_are_an_error(tmp_path: Path) -> None:
    write(tmp_path / "d" / "train.csv", "text,label", ["one,joy", "two,joy"])
    write(tmp_path / "d" / "valid.csv", "text,label", ["three,joy"])
    with pytest.raises(DataError, match=f"^{tmp_path / 'd'}: all rows have the label 'joy'; at least two"):
        load_task(TaskConfig(name=str(tmp_path / "d")))


def test_demo_needs_no_network_and_no_path() -> None:
    task = load_task(TaskConfig(name="demo"))
    assert set(task.splits) == {"train", "valid", "test"}
    assert len(task.labels) == 10
    assert set(task.split("train").labels) == set(range(10))
    train = set(task.split("train").texts)
    assert not train & set(task.split("test").texts)
    assert not train & set(task.split("valid").texts)


def test_described_tasks_are_those_that_can_be_loaded() -> None:
    described = {row["name"]: row for row in describe_tasks()}
    assert list(described) == ["demo", "ED", "go_emotion", "go_emotion_multilabel"]
    assert (described["ED"]["labels"], described["ED"]["source"]) == (32, "Estwld/empathetic_dialogues_llm")
    assert (described["go_emotion"]["labels"], described["go_emotion"]["licence"]) == (27, "CC BY 4.0")
    assert described["demo"]["source"] == "in the package"


@pytest.mark.parametrize("work", ["load_task(TaskConfig(name=sys.argv[1]))", "describe_tasks()"])
def test_reading_csv_and_listing_tasks_are_light(work: str, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from fusion_classifier.config import TaskConfig\n"
        "from fusion_classifier.tasks.registry import describe_tasks, load_task\n"
        f"{work}\n"
        "print({'datasets', 'pyarrow', 'sklearn', 'torch', 'transformers'} & set(sys.modules))\n"
    )
    command = [sys.executable, "-c", code, str(folder_of(tmp_path / "d"))]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "set()\n"


# Tasks of others.


class Weather(Task):
    """A task of somebody else."""

    name = "weather"
    title = "Is it nice out?"
    labels = ("good", "bad")
    licence = "CC0"

    def load(self, data: Path | None = None, config: TaskConfig | None = None) -> LoadedTask:
        if data is not None:
            return super().load(data, config)
        return self.loaded({"train": Split(("sun", "hail"), (0, 1))}, "the window")


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusion_classifier.tasks.registry._registered", {})
    register_task(Weather)


@pytest.mark.usefixtures("registered")
def test_registered_task_is_loaded_by_name_and_listed(tmp_path: Path) -> None:
    task = load_task(TaskConfig(name="weather"))
    assert (task.name, task.labels, task.licence, task.source) == ("weather", ("good", "bad"), "CC0", "the window")
    assert describe_tasks()[-1] == {
        "name": "weather",
        "title": "Is it nice out?",
        "labels": 2,
        "source": "in the package",
        "licence": "CC0",
    }
    write(tmp_path / "train.csv", "text,label", ["rain,bad", "sun,0"])
    write(tmp_path / "valid.csv", "text,label", ["fog,bad"])
    assert load_task(TaskConfig(name="weather", data=str(tmp_path))).split("train").labels == (1, 0)


def test_multilabel_task_reads_several_labels_of_a_folder(tmp_path: Path) -> None:
    class Mixed(Weather):
        multilabel = True

    write(tmp_path / "train.csv", "text,label", ['"sun, then hail","good,bad"', "nothing,"])
    write(tmp_path / "valid.csv", "text,label", ["fog,bad"])
    task = Mixed().load(tmp_path)
    assert task.multilabel
    assert task.split("train").labels == ((0, 1), ())


@pytest.mark.usefixtures("registered")
def test_a_task_registered_again_is_replaced() -> None:
    class Better(Weather):
        title = "Nicer"

    register_task(Better)
    assert [row["title"] for row in describe_tasks() if row["name"] == "weather"] == ["Nicer"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "demo"}, "'demo'"),
        ({"name": 3}, "'name'"),
        ({"title": None}, "'title'"),
        ({"labels": ("one",)}, "'labels'"),
        ({"labels": ("one", "one")}, "'labels'"),
        ({"labels": ["one", "two"]}, "'labels'"),
    ],
)
def test_a_task_that_can_not_be_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        register_task(type("Changed", (Weather,), changes))


def test_a_task_without_hub_asks_for_a_folder() -> None:
    plain = type("Plain", (Task,), {"name": "plain", "title": "x", "labels": ("a", "b")})
    with pytest.raises(UsageError, match="`data`"):
        plain().load()


PACKAGE = """
from fusion_classifier.tasks.loaded import Split
from fusion_classifier.tasks.task import Task


class Tides(Task):
    name = "tides"
    title = "High or low water"
    labels = ("high", "low")

    def load(self, data=None, config=None):
        return self.loaded({"train": Split(("full", "empty"), (0, 1))}, "the sea")


class Other(Tides):
    name = "demo"
"""


def install(folder: Path, package: str, entries: str) -> None:
    """What pip leaves of a package that has a module and entry points."""
    (folder / f"{package}.py").write_text(PACKAGE, "utf-8")
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", "utf-8")
    (info / "entry_points.txt").write_text(f"[fusion_classifier.tasks]\n{entries}\n", "utf-8")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("aa_sea", "zz_sea"):
        sys.modules.pop(name, None)


def test_an_installed_package_brings_a_task(site: Path) -> None:
    install(site, "aa_sea", "tides = aa_sea:Tides")
    assert load_task(TaskConfig(name="tides")).source == "the sea"
    assert "tides" in {row["name"] for row in describe_tasks()}


@pytest.mark.parametrize(
    ("entries", "name", "said"),
    [
        ("lost = aa_no_such_module:Tides", "lost", "ModuleNotFoundError"),
        ("lost = aa_sea:NoSuchClass", "lost", "NoSuchClass"),
        ("lost = aa_sea:Split", "lost", "not a subclass of Task"),
        ("lost = aa_sea:Tides", "lost", "is named 'tides'"),
        ("demo = aa_sea:Other", None, "another task has the same name"),
    ],
)
def test_a_task_that_can_not_be_loaded_names_its_package(
    site: Path, entries: str, name: str | None, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    install(site, "aa_sea", entries)
    described = [row["name"] for row in describe_tasks()]
    assert described == ["demo", "ED", "go_emotion", "go_emotion_multilabel"]
    assert "package aa_sea" in caplog.text
    assert said in caplog.text
    if name:
        with pytest.raises(UsageError, match=rf"package aa_sea.*{said}"):
            load_task(TaskConfig(name=name))


def test_of_two_packages_with_one_name_the_first_is_taken(site: Path, caplog: pytest.LogCaptureFixture) -> None:
    install(site, "zz_sea", "tides = zz_sea:Tides")
    install(site, "aa_sea", "tides = aa_sea:Tides")
    assert [row["name"] for row in describe_tasks()].count("tides") == 1
    assert "package zz_sea" in caplog.text
    assert type(find_task("tides")).__module__ == "aa_sea"


def test_a_broken_package_is_a_line_in_fec_tasks(site: Path) -> None:
    install(site, "aa_sea", "lost = aa_no_such_module:Tides")
    paths = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "fusion_classifier", "tasks", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": paths})
    assert len(json.loads(done.stdout)) == 4
    assert done.stderr.startswith("warning: package aa_sea")
    assert len(done.stderr.splitlines()) == 1


# The values themselves.


def test_missing_split_names_those_there_and_the_way_out() -> None:
    task = LoadedTask("mine", ("a", "b"), {"train": Split(("x",), (0,))}, "somewhere")
    with pytest.raises(MissingSplitError) as caught:
        task.split("test")
    assert str(caught.value) == (
        "task mine has no test split in somewhere (it has: train); add a test file, or choose another split"
    )


def test_targets_are_int64() -> None:
    found = targets((1, 0), 2)
    assert found.dtype == np.int64
    assert found.tolist() == [1, 0]


def test_targets_of_several_labels_are_a_matrix() -> None:
    found = targets(((0, 2), (), (1,)), 3)
    assert found.dtype == np.int64
    assert found.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_fingerprint_changes_with_texts_labels_and_order() -> None:
    splits = [
        Split(("ab", "c"), (0, 1)),
        Split(("a", "bc"), (0, 1)),
        Split(("ab", "c"), (1, 0)),
        Split(("c", "ab"), (1, 0)),
        Split(("ab", "C"), (0, 1)),
        Split(("ab",), (0,)),
        Split(("ab", "c", ""), (0, 1, 0)),
        Split(("ab1 1 c",), (0,)),
    ]
    assert len({split.fingerprint() for split in splits}) == len(splits)
    assert splits[0].fingerprint() == Split(("ab", "c"), (0, 1)).fingerprint()
