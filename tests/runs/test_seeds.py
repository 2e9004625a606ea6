"""A trained seed is a model folder."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion_classifier import FusionClassifier
from fusion_classifier.classifier.folder import load_config
from fusion_classifier.commands.predict import Predictions
from fusion_classifier.config import RunConfig, TaskConfig
from fusion_classifier.encoders.spec import parse_encoders
from fusion_classifier.errors import FecError
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.registry import parse_head
from fusion_classifier.runs.context import RunContext
from fusion_classifier.runs.evaluate import evaluate_saved
from fusion_classifier.runs.pipeline import run, train_task
from fusion_classifier.runs.seeds import read_seed
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.loaded import LoadedTask
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.training.defaults import recipe

Made = tuple[Path, RunConfig, LoadedTask, RunContext]


@pytest.fixture(scope="module")
def made(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A finished run of two seeds."""
    folder = tmp_path_factory.mktemp("run")
    rows = [f"{text} {i},{label}" for i in range(20) for text, label in [("we won", "joy"), ("it is dark", "fear")]]
    (folder / "data.csv").write_text("\n".join(["text,label", *rows]) + "\n", "utf-8")
    config = RunConfig(
        task=TaskConfig(name=str(folder / "data.csv")),
        encoders=parse_encoders([f"{bert_folder}?dtype=float32"]),
        head=parse_head("linear"),
        training=recipe("default", "linear", max_epochs=4),
        seeds=(0, 1),
    )
    task = load_task(config.task)
    work = RunContext(FeatureStore(folder / "store"), torch.device("cpu"), QUIET)
    run(config, task, folder / "out", work)
    return folder / "out", config, task, work


@pytest.fixture
def out(made: Made, tmp_path: Path) -> Path:
    shutil.copytree(made[0], tmp_path / "out")
    return tmp_path / "out"


def test_a_seed_is_a_model_folder(out: Path, made: Made) -> None:
    _, config, task, work = made
    for seed in (0, 1):
        folder = out / "seeds" / str(seed)
        names = {path.name for path in folder.iterdir()}
        assert names == {"README.md", "config.json", "known.safetensors", "model.safetensors", "training.json"}
        assert load_config(folder).seed == seed
        loaded = FusionClassifier.from_pretrained(folder)
        line = json.loads(next(Predictions(folder).lines(["we won"])))
        assert line["label"] == loaded.predict(["we won"])[0]
        found = evaluate_saved(folder, "test", config.task, {}, work)
        assert found["seeds"] == [seed]
    best = load_config(out / "model").seed
    assert (out / "model" / "model.safetensors").read_bytes() == (
        out / "seeds" / str(best) / "model.safetensors"
    ).read_bytes()
    assert not (out / "model" / "training.json").exists()
    assert "weighted F1" in (out / "model" / "README.md").read_text("utf-8")
    texts = task.split("test").texts
    expected = FusionClassifier.from_pretrained(out / "seeds" / str(best)).predict_proba(texts)
    np.testing.assert_array_equal(FusionClassifier.from_pretrained(out).predict_proba(texts), expected)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("training.json", "[]", "delete"),
        ("training.json", '{"best_epoch": 9, "history": []}', "delete"),
        ("config.json", "{", "delete"),
        ("model.safetensors", "", "delete"),
    ],
)
def test_a_damaged_seed_says_how_to_train_it_again(out: Path, file: str, content: str, message: str) -> None:
    folder = out / "seeds" / "0"
    (folder / file).write_text(content)
    with pytest.raises(FecError, match=message) as raised:
        read_seed(folder, 0)
    assert str(folder) in str(raised.value)


def test_a_seed_of_another_run_is_refused(out: Path, made: Made) -> None:
    _, config, task, work = made
    shutil.rmtree(out / "seeds" / "0")
    shutil.copytree(out / "seeds" / "1", out / "seeds" / "0")
    with pytest.raises(FecError, match="seed 0"):
        train_task(config, task, out, work)
    path = out / "seeds" / "0" / "config.json"
    described = json.loads(path.read_text())
    path.write_text(json.dumps(described | {"seed": 0, "id2label": {"0": "joy", "1": "fear"}, "label2id": {}}))
    with pytest.raises(FecError, match="another run"):
        train_task(config, task, out, work)


def test_without_matplotlib_a_run_goes_on(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, config, task, work = made
    said: list[str] = []
    monkeypatch.setattr(RunContext, "say", lambda _, message: said.append(message))
    find_spec = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "matplotlib" else find_spec(name))
    run(config, task, tmp_path / "out", RunContext(work.store, work.device, work.progress))
    assert len([line for line in said if "matplotlib" in line and "[report]" in line]) == 1
    assert not list((tmp_path / "out").glob("*.png"))
    assert (tmp_path / "out" / "metrics.json").is_file()
