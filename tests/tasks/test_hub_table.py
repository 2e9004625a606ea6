"""Data sets on the Hub by their address, from a folder of the Hub's layout where `datasets` looks."""

from pathlib import Path

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fusion_classifier.config import TaskConfig
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.tasks.hub_table import HubAddress, hub_address
from fusion_classifier.tasks.registry import load_task

datasets = pytest.importorskip("datasets")
README = """---
configs:
- config_name: plain
  data_files: [{split: train, path: train-*.parquet}, {split: test, path: test-*.parquet}]
- config_name: single
  data_files: [{split: train, path: test-*.parquet}]
---
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "owner" / "mails"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(README, "utf-8")
    features = datasets.Features(
        {"mail": {"body": datasets.Value("string")}, "mood": datasets.ClassLabel(names=["b", "a"])}
    )
    for split, count in {"train": 12, "test": 30}.items():
        rows = {"mail": [{"body": f"{split} {i}"} for i in range(count)], "mood": [i % 2 for i in range(count)]}
        table = datasets.Dataset.from_dict(rows, features=features).data.table
        assert isinstance(table, pa.Table)
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)


@pytest.mark.usefixtures("hub")
def test_configuration_columns_and_classes() -> None:
    config = TaskConfig(name="hf://owner/mails", subset="plain", text_column="mail.body", label_column="mood")
    task = load_task(config)
    assert (task.name, task.source, task.labels) == ("mails", "hf://owner/mails", ("a", "b"))
    assert {name: len(part) for name, part in task.splits.items()} == {"train": 10, "valid": 2, "test": 30}
    assert (task.split("test").texts[1], task.split("test").labels[1]) == ("test 1", 0)
    assert str(task.split("test").places[1]) == "hf://owner/mails, test, row 1"
    single = config.model_copy(update={"subset": "single"})
    assert {name: len(part) for name, part in load_task(single).splits.items()} == {
        "train": 24,
        "valid": 3,
        "test": 3,
    }
    assert {name: len(part) for name, part in load_task(single, ("a", "b", "c")).splits.items()} == {"test": 30}


@pytest.mark.usefixtures("hub")
def test_what_is_not_there_is_an_error_with_the_way_out() -> None:
    with pytest.raises(DataError, match=r"owner/mails can't be read from the Hub \(.*plain.*choose a config"):
        load_task(TaskConfig(name="hf://owner/mails"))
    with pytest.raises(DataError, match=r"no column 'text' \(found: 'mail', 'mail.body', 'mood'\)"):
        load_task(TaskConfig(name="hf://owner/mails", subset="plain"))
    with pytest.raises(UsageError, match="no task and no file 'owner/other'"):  # a path with a mistake stays here
        load_task(TaskConfig(name="owner/other"))


def test_a_file_of_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new.csv"
    path.write_text("text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(20)), "utf-8")
    asked = []

    def download(repo: str, name: str, **options: object) -> str:
        asked.append((repo, name, options))
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    task = load_task(TaskConfig(name="hf://datasets/owner/mails@main/data/new.csv"))
    assert (task.name, task.labels) == ("mails", ("a", "b"))
    assert asked == [("owner/mails", "data/new.csv", {"repo_type": "dataset", "revision": "main"})]


@pytest.mark.parametrize("name", ["owner/none", "hf://owner/none/a.csv"])
def test_without_a_connection_nobody_waits(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub is asked once, not six times for each file; afterwards it may be asked again."""
    asked = []

    def refused(*_: object, **options: object) -> None:
        asked.append(options)
        raise OSError("no such host")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", refused)
    with pytest.raises(DataError, match="not downloaded before, and the Hub can't be reached"):
        load_task(TaskConfig(name=name))
    assert asked == [{"timeout": 10}]
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("owner/mails", HubAddress("owner/mails")),
        ("hf://owner/mails@v1", HubAddress("owner/mails", "v1")),
        ("hf://datasets/owner/mails/a/b.csv", HubAddress("owner/mails", None, "a/b.csv")),
        ("data/new.csv", None),
        ("./mails", None),
        ("../data/mails", None),
        ("/data/mails", None),
        ("mails", None),
    ],
)
def test_addresses(name: str, address: HubAddress | None) -> None:
    assert hub_address(name) == address
