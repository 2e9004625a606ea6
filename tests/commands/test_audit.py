"""`fec audit` as a whole: its folder, its files, and the labels that it doubts."""

import csv
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from fusion_classifier.commands.audit import (
    AUDIT_FILE,
    NotCheckedError,
    audit,
    find_label_errors,
    out_of_fold,
    pooled,
)
from fusion_classifier.config import EncoderConfig, TaskConfig
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.errors import FecError, UsageError
from fusion_classifier.features.arrays import PooledFeatures, TokenFeatures
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.runs.context import RunContext
from fusion_classifier.support.files import atomic_write
from fusion_classifier.support.progress import Progress
from fusion_classifier.tasks.loaded import LoadedTask, Split
from fusion_classifier.tasks.registry import load_task

needs_cleanlab = pytest.mark.skipif(
    importlib.util.find_spec("cleanlab") is None, reason="cleanlab is an extra (pip install '.[audit]')"
)


@pytest.fixture
def work(tmp_path: Path) -> RunContext:
    return RunContext(FeatureStore(tmp_path / "store"), torch.device("cpu"), Progress(Console(quiet=True)))


@pytest.fixture
def task() -> LoadedTask:
    train = [(f"we won {i}", 2) for i in range(12)] + [(f"it is dark {i}", 1) for i in range(12)]
    train += [("=1+1", 0), ('a "quoted", text\nof two lines', 0), ("We won 1!", 0)]
    parts = {
        name: Split(tuple(t for t, _ in rows), tuple(i for _, i in rows))
        for name, rows in (("train", train), ("valid", train[::4]), ("test", [("we won 1", 2), ("joy", 2)]))
    }
    return LoadedTask("moods", ("anger", "fear", "joy"), parts, "nowhere")


@pytest.fixture
def encoder(bert_folder: Path) -> EncoderConfig:
    return parse_encoder(str(bert_folder))


def rows_of(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


# The folder.


def test_the_data_is_audited_without_any_encoder(task: LoadedTask, work: RunContext, tmp_path: Path) -> None:
    figures = audit(task, [], tmp_path / "out", work, label_errors=False)
    assert json.loads((tmp_path / "out" / AUDIT_FILE).read_text("utf-8")) == json.loads(json.dumps(figures))
    assert figures["tokens"] == {}
    assert figures["label_errors"] is None
    assert any("`encoders`" in note for note in figures["notes"])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "audit.json",
        "labels.csv",
        "duplicates.csv",
        "label_words.csv",
        "left_out.csv",
    }
    assert not (tmp_path / "store").exists()


def test_texts_stand_in_the_files_to_the_letter(task: LoadedTask, work: RunContext, tmp_path: Path) -> None:
    audit(task, [], tmp_path / "out", work, label_errors=False)
    rows = list(rows_of(tmp_path / "out" / "duplicates.csv"))
    assert rows
    for row in rows:
        assert row["text"] == task.split(row["split"]).texts[int(row["row"])]
        assert row["label"] == task.labels[task.targets(row["split"])[int(row["row"])]]
    assert 'a "quoted", text\nof two lines' not in {row["text"] for row in rows}  # it stands there once
    assert {row["labels_differ"] for row in rows} == {"yes", "no"}


def test_label_counts_are_a_table(task: LoadedTask, work: RunContext, tmp_path: Path) -> None:
    audit(task, [], tmp_path / "out", work, label_errors=False)
    rows = {row["label"]: row for row in rows_of(tmp_path / "out" / "labels.csv")}
    assert rows["joy"] == {"label": "joy", "train": "12", "valid": "3", "test": "2"}


def test_cut_off_texts_are_counted_by_split(
    task: LoadedTask, work: RunContext, bert_folder: Path, tmp_path: Path
) -> None:
    short = parse_encoder(str(bert_folder), {"max_length": "12"})
    figures = audit(task, [short], tmp_path / "out", work, label_errors=False)
    found = figures["tokens"][short.name]
    assert found["max_length"] == 12
    assert found["splits"]["test"]["too_long"] == 0  # "[CLS] we won 1 [SEP]": 10 tokens
    assert found["splits"]["train"]["too_long"] == 12 + 1  # "it is dark …" and the quoted one
    assert not (tmp_path / "store").exists()  # no model was asked


def test_a_folder_of_something_else_is_left_alone(task: LoadedTask, work: RunContext, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "labels.csv").write_text("mine")
    with pytest.raises(UsageError, match="is not an audit folder"):
        audit(task, [], tmp_path / "mine", work, label_errors=False)
    assert (tmp_path / "mine" / "labels.csv").read_text() == "mine"
    with pytest.raises(UsageError, match="is a file"):
        audit(task, [], tmp_path / "mine" / "labels.csv", work, label_errors=False)


def test_an_audit_stopped_while_writing_can_be_repeated(
    task: LoadedTask, work: RunContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit(task, [], tmp_path / "whole", work, label_errors=False)
    for written in range(4):
        out = tmp_path / f"stopped-{written}"
        left = iter(range(written))

        def stops(path: Path, text: str, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise FecError("no room")
            atomic_write(path, text)

        with monkeypatch.context() as patch:
            patch.setattr("fusion_classifier.commands.audit.atomic_write", stops)
            with pytest.raises(FecError, match="no room"):
                audit(task, [], out, work, label_errors=False)
        out.mkdir(exist_ok=True)
        (out / ".audit.here.1.tmp.json").touch()
        audit(task, [], out, work, label_errors=False)
        for file in (tmp_path / "whole").iterdir():
            assert (out / file.name).read_bytes() == file.read_bytes()


def test_a_second_audit_replaces_the_first(task: LoadedTask, work: RunContext, tmp_path: Path) -> None:
    out = tmp_path / "out"
    audit(task, [], out, work, label_errors=False)
    (out / "label_issues.csv").write_text("of an earlier audit")
    (out / "my notes.txt").write_text("mine")
    audit(task, [], out, work, label_errors=False)
    assert not (out / "label_issues.csv").exists()
    assert (out / "my notes.txt").read_text() == "mine"


def test_without_cleanlab_the_rest_is_done(
    task: LoadedTask, encoder: EncoderConfig, work: RunContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    figures = audit(task, [encoder], tmp_path / "out", work)
    assert figures["label_errors"] is None
    assert any("pip install 'llm-fusion-classifier[audit]'" in note for note in figures["notes"])
    assert not (tmp_path / "store").exists()


@pytest.mark.linux
def test_a_folder_that_can_not_be_written_is_an_error(task: LoadedTask, work: RunContext, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file, or in one"):
        audit(task, [], tmp_path / "file" / "out", work, label_errors=False)
    with pytest.raises(UsageError, match=r"`out`: .* is not a valid path"):
        audit(task, [], tmp_path / ("x" * 300), work, label_errors=False)
    with pytest.raises(FecError, match="can't be"):
        audit(task, [], Path("/proc/nothing/out"), work, label_errors=False)


# Label errors.


@needs_cleanlab
def test_planted_label_errors_are_found_and_named_first(minilm: str, work: RunContext, tmp_path: Path) -> None:
    """Of the demo corpus, 5% of the rows of train get another label at random."""
    clean = load_task(TaskConfig(name="demo"))
    rng = np.random.default_rng(0)
    train = clean.split("train")
    wrong = set(rng.choice(len(train), 24, replace=False).tolist())
    labels = tuple(
        (label + int(rng.integers(1, 10))) % 10 if i in wrong else label
        for i, label in enumerate(clean.targets("train").tolist())
    )
    task = replace(clean, splits=clean.splits | {"train": Split(train.texts, labels)})
    figures = audit(task, [parse_encoder(minilm)], tmp_path / "out", work)
    rows = list(rows_of(tmp_path / "out" / "label_issues.csv"))
    assert figures["label_errors"]["issues"] == len(rows)
    found = {int(row["row"]) for row in rows if row["split"] == "train"} & wrong
    assert len(found) >= 0.8 * len(wrong)
    # Looked through from the top, errors come far more often than one in twenty.
    first = [row["split"] == "train" and int(row["row"]) in wrong for row in rows[:24]]
    assert np.mean(first) >= 0.4
    quality = [float(row["quality"]) for row in rows]
    assert quality == sorted(quality)
    for row in rows:
        assert row["split"] in ("train", "valid")
        assert row["text"] == task.split(row["split"]).texts[int(row["row"])]
        assert float(row[f"p({row['given']})"]) == pytest.approx(float(row["quality"]), abs=1e-3)
        probabilities = {label: float(row[f"p({label})"]) for label in task.labels}
        assert max(probabilities.values()) == probabilities[row["suggested"]]
        assert sum(probabilities.values()) == pytest.approx(1, abs=0.01)


@needs_cleanlab
def test_the_test_split_is_never_looked_at_for_label_errors(
    task: LoadedTask, encoder: EncoderConfig, work: RunContext
) -> None:
    figures, issues = find_label_errors(task, [encoder], work)
    turned = replace(task, splits=task.splits | {"test": Split(task.split("test").texts, (0, 1))})
    assert (figures, issues) == find_label_errors(turned, [encoder], work)
    assert {issue["split"] for issue in issues} <= {"train", "valid"}


@needs_cleanlab
def test_labels_with_too_few_texts_are_left_out_and_named(
    task: LoadedTask, encoder: EncoderConfig, work: RunContext
) -> None:
    """anger has three different texts."""
    figures, issues = find_label_errors(task, [encoder], work)
    assert figures["left_out"] == ["anger"]
    assert list(figures["by_label"]) == ["fear", "joy"]
    assert all(issue["given"] != "anger" and "p(anger)" not in issue for issue in issues)


@needs_cleanlab
@pytest.mark.parametrize("pooling", ["mean", "tokens"])
def test_any_pooling_serves(task: LoadedTask, bert_folder: Path, work: RunContext, pooling: str) -> None:
    figures, _ = find_label_errors(task, [parse_encoder(str(bert_folder), {"pooling": pooling})], work)
    assert figures["out_of_fold_accuracy"] > 0.9  # two kinds of texts, unlike each other


@needs_cleanlab
def test_where_nothing_can_be_judged_a_note_says_why(
    task: LoadedTask, encoder: EncoderConfig, work: RunContext
) -> None:
    few = replace(task, splits={"train": Split(("a", "b"), (0, 1))})
    only_test = replace(task, splits={"test": task.split("test")})
    several = replace(task, splits={"train": Split(("a", "b"), ((0, 1), (2,)))})
    for one, message in ((few, "two labels"), (only_test, "two labels"), (several, "one label per text")):
        with pytest.raises(NotCheckedError, match=message):
            find_label_errors(one, [encoder], work)
    with pytest.raises(NotCheckedError, match="`encoders`"):
        find_label_errors(task, [], work)


# Features and folds.


def test_copies_of_a_text_are_held_out_together() -> None:
    """Every text stands there twice, its two labels differ, and its vector is its own: with the copy in view, the
    copy's label would be foretold for each."""
    rng = np.random.default_rng(1)
    vectors = np.repeat(rng.normal(size=(100, 200)), 2, axis=0).astype(np.float32)
    groups = np.repeat(np.arange(100), 2)
    labels = np.tile([0, 1], 100)
    found = out_of_fold(vectors, labels, groups)
    assert found.shape == (200, 2)
    assert np.allclose(found.sum(1), 1, atol=1e-5)
    assert np.allclose(found[::2], found[1::2])  # a text's copies come from one and the same model


def test_pooled_token_states_are_the_mean_of_each_text() -> None:
    rng = np.random.default_rng(2)
    lengths = [3, 0, 1, 5]
    states = rng.normal(size=(sum(lengths), 2, 4)).astype(np.float32)
    features = TokenFeatures(states, np.concatenate([[0], np.cumsum(lengths)]))
    expected = features.batch(np.arange(4)).mean().reshape(4, -1).numpy()
    assert pooled(features) == pytest.approx(expected, abs=1e-6)
    values = rng.normal(size=(4, 2, 3)).astype(np.float16)
    assert pooled(PooledFeatures(values)) == pytest.approx(values.reshape(4, -1).astype(np.float32))
    assert pooled(PooledFeatures(values)).dtype == np.float32


def test_rows_of_a_cross_validation_are_audited_once(task: LoadedTask, work: RunContext, tmp_path: Path) -> None:
    train = task.splits["train"]
    judged = replace(task, splits={"train": train, "valid": train}, cross_validated=True)
    figures = audit(judged, [], tmp_path / "out", work, label_errors=False)
    assert list(figures["splits"]) == ["train"]
    assert figures["duplicates"]["across"] == {}
    assert figures["labels"]["rows"]["fear"] == {"train": 12}
