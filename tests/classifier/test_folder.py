"""A model folder: what is in it, and what becomes of one that is damaged."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusion_classifier import FusionHeadClassifier
from fusion_classifier.classifier.folder import labels_of, load_config, load_model, save_model
from fusion_classifier.errors import FecError, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    X = np.random.default_rng(0).normal(size=(40, 5))
    fitted = FusionHeadClassifier(blocks={"a": 2, "b": 3}).fit(X, ["joy", "fear"] * 20)
    fitted.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_what_was_saved_comes_back(folder: Path, tmp_path: Path) -> None:
    saved = load_model(folder)
    assert saved.config.labels == ["fear", "joy"]
    assert {name: shape.shape for name, shape in saved.config.shapes.items()} == {"a": (2,), "b": (3,)}
    save_model(tmp_path / "again", saved.config, saved.head, "card", {"more.txt": "text"})
    assert {path.name for path in (tmp_path / "again").iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "more.txt",
    }
    assert load_config(tmp_path / "again") == saved.config


@pytest.mark.parametrize("place", ["thesis.csv", ".git/HEAD", "model.safetensors"])
def test_saving_deletes_nothing_but_a_model(place: str, folder: Path, tmp_path: Path) -> None:
    fitted = FusionHeadClassifier.from_pretrained(folder)
    fitted.save_pretrained(folder)  # a model is replaced
    precious = tmp_path / "work" / place
    precious.parent.mkdir(parents=True)
    precious.write_text("years of work")
    with pytest.raises(UsageError, match=rf"`save_directory`.*work contains {re.escape(Path(place).parts[0])}"):
        fitted.save_pretrained(tmp_path / "work")
    assert precious.read_text() == "years of work"
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"contains notes\.txt"):
        fitted.save_pretrained(folder)
    assert (folder / "notes.txt").is_file()


def test_the_reader_in_the_docs_classifies_as_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain Python, with JSON, safetensors and NumPy alone, gives the probabilities and labels of the classifier."""
    page = Path(__file__).parents[2] / "docs/reference/model-folder.md"
    X = np.random.default_rng(0).normal(size=(40, 5))
    fitted = FusionHeadClassifier(blocks={"a": 2, "b": 3}).fit(X, np.where(X[:, 0] > X[:, 4], "joy", "fear"))
    monkeypatch.chdir(tmp_path)
    fitted.save_pretrained("my-model")
    x = np.hstack([block / np.linalg.norm(block, axis=1, keepdims=True) for block in (X[:, :2], X[:, 2:])])
    scope: dict[str, Any] = {"x": x}
    for code in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.S):
        if "from_pretrained" not in code:
            exec(code, scope)  # noqa: S102 - our own documentation
    assert scope["probabilities"] == pytest.approx(fitted.predict_proba(X), abs=1e-5)
    assert scope["answers"] == fitted.predict(X).tolist()


@pytest.mark.parametrize(
    ("classes", "kind"), [(["b", "a"], "str"), ([1, 2], "int"), ([0.1, 1.0], "float"), ([False, True], "bool")]
)
def test_labels_come_back_in_their_type(folder: Path, classes: list[Any], kind: str) -> None:
    given = np.array(classes)
    config = load_config(folder).model_copy(update=labels_of(given))
    assert config.label_type == kind
    assert config.classes.tolist() == classes
    assert config.classes.dtype == given.dtype


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, r"model\.safetensors"),
        ({"id2label": {"0": "a", "2": "b"}}, "without a gap"),
        ({"id2label": {"0": "a", "1": "a"}}, "duplicate"),
        ({"id2label": {"0": "a", "1": "b"}, "label_type": "float"}, r"config\.json"),
        ({"head": {"name": "unheard-of"}}, "unheard-of"),
        ({"decision": {"thresholds": [0.5]}}, "1 thresholds for 2 labels"),
        ({"blocks": {}}, "encoders or blocks"),
        ({"blocks": {"a": [10**9]}}, r"model\.safetensors"),
        ({"format": 2}, r"format 2 is newer .* \(up to 1\); pip install --upgrade"),
        ({"format": 0}, "format"),
        ({"more": 1}, "more"),
    ],
)
def test_a_configuration_that_can_not_be_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(FecError, match=message):
        load_model(folder)


@pytest.mark.parametrize(("file", "content"), [("config.json", b"{"), ("model.safetensors", b"not a tensor")])
def test_a_damaged_file_is_named(folder: Path, file: str, content: bytes) -> None:
    (folder / file).write_bytes(content)
    with pytest.raises(FecError, match=file):
        load_model(folder)


def test_a_folder_that_is_no_model_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FecError, match="not a model folder"):
        load_model(tmp_path)
    with pytest.raises(FecError, match="is a file"):
        load_model(folder / "config.json")
