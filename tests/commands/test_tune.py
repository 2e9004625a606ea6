"""Fine-tuning: small random models of the true classes on a task that can be learned, and real weights."""

import hashlib
import importlib.util
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from command import fec
from rich.console import Console
from safetensors.torch import load_file

from fusion_classifier import FusionClassifier
from fusion_classifier.classifier.models import find_run_or_model
from fusion_classifier.classifier.prediction import TextPredictor
from fusion_classifier.cli.main import app
from fusion_classifier.commands.tune import Tuned, tune_encoder
from fusion_classifier.encoders.encode import encode
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.loading import load_encoder
from fusion_classifier.encoders.spec import parse_encoder
from fusion_classifier.errors import DataError, FecError, MissingSplitError, NonFiniteError, UsageError
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.folds import fold_numbers
from fusion_classifier.runs.context import RunContext
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.loaded import LoadedTask, Split
from fusion_classifier.tasks.named.demo import Demo
from fusion_classifier.training import contrastive
from fusion_classifier.training.finetuned import Pass
from fusion_classifier.training.result import Epoch
from fusion_classifier.training.tune_config import TuneConfig

pytestmark = pytest.mark.slow  # many commands or trainings

CPU = torch.device("cpu")
WORDS = ("we won", "he broke it", "it is dark")
FAST = {"epochs": 4, "learning_rate": 3e-3, "batch_size": 8}


def task_of(rows: int = 45) -> LoadedTask:
    """Texts that end in a number, with the label that their words say."""

    def split(start: int, count: int) -> Split:
        chosen = range(start, start + count)
        return Split(tuple(f"{WORDS[i % 3]} {i}" for i in chosen), tuple(i % 3 for i in chosen))

    splits = {"train": split(0, rows), "valid": split(rows, 15), "test": split(rows + 15, 15)}
    return LoadedTask("moods", ("joy", "anger", "fear"), splits, "made up")


def tuning_in(folder: Path) -> Callable[..., Tuned]:
    """A function that tunes a model into this folder."""
    work = RunContext(FeatureStore(folder / "store"), CPU, QUIET)

    def tuned(model: Path | str, name: str = "tuned", *, task: LoadedTask | None = None, **changes: Any) -> Tuned:
        settings = "" if "?" in str(model) else "?dtype=float32"
        encoder = parse_encoder(f"{model}{settings}")
        overwrite = changes.pop("overwrite", False)
        config = TuneConfig.model_validate(FAST | changes)
        return tune_encoder(config, encoder, task or task_of(), folder / name, work, overwrite=overwrite)

    return tuned


@pytest.fixture
def tune(tmp_path: Path) -> Callable[..., Tuned]:
    return tuning_in(tmp_path)


@pytest.fixture(scope="module")
def tuned_bert(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """BERT tuned on `task_of()`, to be read only."""
    return tuning_in(tmp_path_factory.mktemp("bert"))(bert_folder)


def best_of(tuned: Tuned) -> Epoch:
    best = tuned.history[tuned.best_epoch - 1]
    assert isinstance(best, Epoch)
    return best


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_a_tuned_folder_is_an_encoder_of_its_own(
    kind: str, request: pytest.FixtureRequest, tune: Callable[..., Tuned], tuned_bert: Tuned
) -> None:
    base: Path = request.getfixturevalue(f"{kind}_folder")
    tuned = tuned_bert if kind == "bert" else tune(base)
    assert best_of(tuned).valid_accuracy > 0.8
    for spec in ("?dtype=float32", "?dtype=float32&pooling=tokens&layers=1,-1", "?dtype=bfloat16"):
        before, after = (load_encoder(parse_encoder(f"{folder}{spec}"), CPU) for folder in (base, tuned.folder))
        assert before.identity.key != after.identity.key
        assert before.shape == after.shape
        text = "he won it"
        assert np.abs(encode(before, [text])[0] - encode(after, [text])[0]).max() > 0.05
        assert before.tokenizer(text)["input_ids"] == after.tokenizer(text)["input_ids"]
    assert {tensor.dtype for tensor in load_file(tuned.folder / "model.safetensors").values()} == {torch.float32}


@pytest.mark.parametrize("settings", ["", "&pooling=first", "&pooling=mean%2Blast", "&template=Mood of {text}:"])
def test_the_head_reads_what_extraction_gives(
    settings: str, bert_folder: Path, tune: Callable[..., Tuned], tuned_bert: Tuned
) -> None:
    tuned = tune(f"{bert_folder}?dtype=float32{settings}") if settings else tuned_bert
    classifier = TextPredictor.from_pretrained(tuned.folder)
    valid, labels = task_of().split("valid"), np.array(task_of().labels)
    accuracy = float((classifier.predict(valid.texts) == labels[task_of().targets("valid")]).mean())
    assert accuracy == tuned.record["valid"]["accuracy"] == pytest.approx(best_of(tuned).valid_accuracy)
    assert tuned.record["valid"]["weighted_f1"] == pytest.approx(best_of(tuned).valid_weighted_f1)
    probabilities = classifier.predict_proba(["we won", "it is dark"])
    assert probabilities.shape == (2, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert classifier.predict_proba([]).shape == (0, 3)


def test_tuning_json_says_what_was_done(bert_folder: Path, tuned_bert: Tuned) -> None:
    tuned = tuned_bert
    record = json.loads((tuned.folder / "tuning.json").read_text())
    assert record == tuned.record
    assert record["base"]["fingerprint"] == identify(parse_encoder(str(bert_folder)), CPU).fingerprint
    assert record["task"]["data"]["train"] == {"rows": 45, "sha256": task_of().split("train").fingerprint()}
    assert record["tuning"]["learning_rate"] == 3e-3
    assert len(record["history"]) == 4
    assert [*record["history"]][record["best_epoch"] - 1]["valid_weighted_f1"] == max(
        epoch["valid_weighted_f1"] for epoch in record["history"]
    )
    written = (
        "".join(path.read_text() for path in tuned.folder.glob("*.json")) + (tuned.folder / "README.md").read_text()
    )
    assert str(tuned.folder.parent) not in written
    assert str(bert_folder.parent) not in written


def test_the_loss_falls_and_the_best_epoch_is_kept(tuned_bert: Tuned) -> None:
    losses = [epoch.train_loss for epoch in tuned_bert.history]
    assert losses[-1] < losses[0] / 2


def test_the_same_seed_gives_the_same_bits_and_another_does_not(
    bert_folder: Path, tune: Callable[..., Tuned]
) -> None:
    state, environment = random.getstate(), dict(os.environ)
    level = logging.getLogger("transformers").level
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    first = tune(bert_folder, "a")
    assert random.getstate() == state  # Trainer changes all of these, which are the caller's
    assert dict(os.environ) == environment
    assert logging.getLogger("transformers").level == level
    assert np.random.random() == expected
    torch.manual_seed(99)
    again, other = tune(bert_folder, "b"), tune(bert_folder, "c", seed=1)
    assert digest(first.folder) == digest(again.folder) != digest(other.folder)


def test_the_test_split_does_not_matter(bert_folder: Path, tune: Callable[..., Tuned], tuned_bert: Tuned) -> None:
    task = task_of()
    without = replace(task, splits={name: task.splits[name] for name in ("train", "valid")})
    assert digest(tune(bert_folder, task=without).folder) == digest(tuned_bert.folder)


def test_several_labels_a_text_are_tuned_too(bert_folder: Path, tune: Callable[..., Tuned]) -> None:
    task = task_of()
    several = {
        name: Split(
            part.texts, tuple((0, 1) if label == 0 else (label,) for label in part.labels if isinstance(label, int))
        )
        for name, part in task.splits.items()
    }
    tuned = tune(bert_folder, task=replace(task, splits=several, multilabel=True))
    assert best_of(tuned).valid_weighted_f1 > 0.9
    assert tuned.record["valid"]["subset_accuracy"] > 0.8
    classifier = TextPredictor.from_pretrained(tuned.folder)
    assert classifier.predict(["we won 3", "it is dark 4"]).shape == (2, 3)


# --- LoRA --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_lora_trains_adapters_only_and_merges_them(
    kind: str, request: pytest.FixtureRequest, tune: Callable[..., Tuned], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    base: Path = request.getfixturevalue(f"{kind}_folder")
    from peft.tuners.lora import LoraModel

    ids = torch.arange(4, 20)[None]
    seen: dict[str, torch.Tensor] = {}
    merge = LoraModel.merge_and_unload

    def watched(model: Any) -> Any:
        assert all("lora_" in name for name, p in model.named_parameters() if p.requires_grad)
        with torch.no_grad():
            seen["unmerged"] = model(input_ids=ids).last_hidden_state
        return merge(model)

    monkeypatch.setattr(LoraModel, "merge_and_unload", watched)
    tuned = tune(base, lora_rank=4, epochs=6)
    assert tuned.record["parameters"]["trained"] < tuned.record["parameters"]["all"] / 2
    assert tuned.record["environment"]["peft"]
    with torch.no_grad():
        merged = load_encoder(parse_encoder(f"{tuned.folder}?dtype=float32"), CPU, plain=True).model(input_ids=ids)
    torch.testing.assert_close(merged.last_hidden_state, seen["unmerged"], atol=1e-4, rtol=1e-4)
    before, after = load_file(base / "model.safetensors"), load_file(tuned.folder / "model.safetensors")
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed  # nothing but the matrices of linear layers
    assert all(before[name].ndim == 2 and "embed" not in name for name in changed)


def test_lora_without_peft_says_how_to_get_it(
    bert_folder: Path, tune: Callable[..., Tuned], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "peft" else find(name, *a))
    with pytest.raises(FecError, match=r"peft.*pip install 'llm-fusion-classifier\[tune\]'"):
        tune(bert_folder, lora_rank=4)


# --- contrastive -------------------------------------------------------------------------------------------


def few(task: LoadedTask, *splits: str) -> LoadedTask:
    """The task with these splits only."""
    return replace(task, splits={name: task.splits[name] for name in splits})


def test_contrastive_needs_neither_validation_nor_an_extra(
    bert_folder: Path, tune: Callable[..., Tuned], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    missing = ("accelerate", "peft")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in missing else find(name, *a))
    tuned = tune(bert_folder, objective="contrastive", task=few(task_of(12), "train"))
    assert [type(epoch) for epoch in tuned.history] == [Pass] * 4
    assert tuned.best_epoch == 4
    assert tuned.record["valid"] is None
    with pytest.raises(UsageError, match="no validation split"):
        TextPredictor.from_pretrained(tuned.folder).predict(["we won"], reject_unknown=0.1)
    assert set(tuned.record["out_of_fold"]) == {"tuned", "frozen"}
    assert tuned.record["tuning"]["objective"] == "contrastive"
    assert set(tuned.record["task"]["data"]) == {"train"}
    assert json.loads((tuned.folder / "tuning.json").read_text()) == tuned.record
    card = (tuned.folder / "README.md").read_text()
    assert "contrastively" in card
    assert "validation" not in card
    base = identify(parse_encoder(str(bert_folder)), CPU).fingerprint
    assert identify(parse_encoder(str(tuned.folder)), CPU).fingerprint != base == tuned.record["base"]["fingerprint"]


def test_contrastive_is_measured_on_validation_if_there_is_one(bert_folder: Path, tune: Callable[..., Tuned]) -> None:
    settings = {"objective": "contrastive", "epochs": 15}
    without = tune(bert_folder, "a", task=few(task_of(24), "train"), **settings)
    tuned = tune(bert_folder, "b", task=few(task_of(24), "train", "valid"), **settings)
    assert digest(tuned.folder) == digest(without.folder)
    valid, truth = task_of(24).split("valid"), task_of(24).targets("valid")
    classifier = TextPredictor.from_pretrained(tuned.folder)
    accuracy = float((classifier.predict(valid.texts) == np.array(task_of(24).labels)[truth]).mean())
    assert accuracy == tuned.record["valid"]["accuracy"] > 0.8
    # With validation texts, unknown texts can be told: at most the given share of them is rejected.
    rejected = classifier.unknown_score(valid.texts) > classifier.unknown_threshold(0.25)
    assert rejected.mean() <= 0.25
    assert classifier.unknown_score(["0110 1011 0001"]) > np.median(classifier.unknown_score(valid.texts))
    vectors = np.stack(encode(load_encoder(parse_encoder(f"{tuned.folder}?dtype=float32"), CPU), valid.texts))
    vectors = vectors.reshape(len(vectors), -1) / np.linalg.norm(vectors, axis=-1).reshape(-1, 1)
    head = load_file(tuned.folder / "model" / "model.safetensors")
    expected = vectors @ head["linear.weight"].numpy().T + head["linear.bias"].numpy()
    np.testing.assert_allclose(classifier.predict_logits(valid.texts).numpy(), expected, 1e-3, 1e-4)


def test_few_rows_are_judged_by_encoders_that_did_not_see_them(
    bert_folder: Path, tune: Callable[..., Tuned], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels that say nothing: tuned on its own rows an encoder knows them all, out of fold it can only guess."""
    task = few(task_of(24), "train")
    labels = tuple(np.random.default_rng(0).permutation(task.targets("train")).tolist())
    random_task = replace(task, splits={"train": Split(task.split("train").texts, labels)})
    settings = {"objective": "contrastive", "epochs": 15, "batch_size": 24, "label_names": False}
    guessed = tune(bert_folder, "random", task=random_task, **settings | {"epochs": 60})
    known = TextPredictor.from_pretrained(guessed.folder).predict(random_task.split("train").texts)
    assert (known == np.array(task.labels)[np.array(labels)]).mean() > 0.6
    assert guessed.record["out_of_fold"]["tuned"]["accuracy"] < 0.5
    # A copy of a text that differs in case and punctuation is in its fold.
    folds: list[np.ndarray] = []

    def noted(*given: Any) -> np.ndarray:
        folds.append(fold_numbers(*given))
        return folds[0]

    monkeypatch.setattr(contrastive, "fold_numbers", noted)
    texts, own = list(task.split("train").texts), list(task.split("train").labels)
    for i in (0, 2, 4):
        texts[i + 1], own[i + 1] = f"{texts[i].upper()}!", own[i]
    task = replace(task, splits={"train": Split(tuple(texts), tuple(own))})
    learned = tune(bert_folder, "true", task=task, **settings)
    np.testing.assert_array_equal(folds[0][0:6:2], folds[0][1:6:2])
    assert learned.record["out_of_fold"]["tuned"]["accuracy"] > 0.8
    # The folds leave nothing behind: the encoder is the same without them.
    monkeypatch.setattr("fusion_classifier.commands.tune.CROSS_VALIDATED_ROWS", 10)
    unmeasured = tune(bert_folder, "unmeasured", task=task, **settings)
    assert unmeasured.record["out_of_fold"] is None
    assert digest(unmeasured.folder) == digest(learned.folder)


def test_a_folder_that_was_moved_is_still_a_model(tuned_bert: Tuned, tmp_path: Path) -> None:
    texts = ["we won", "it is dark"]
    expected = TextPredictor.from_pretrained(tuned_bert.folder).predict_proba(texts)
    moved = shutil.copytree(tuned_bert.folder, tmp_path / "elsewhere")
    np.testing.assert_array_equal(TextPredictor.from_pretrained(moved).predict_proba(texts), expected)
    assert find_run_or_model(moved) == moved / "model"


def test_a_run_says_that_its_encoder_knows_its_texts(
    bert_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(["tune", bert_folder, data, "--objective", "contrastive", "--epochs", 2, "--out", tmp_path / "tuned"])
    assert "cross-validation: accuracy" in capsys.readouterr().out
    out = tmp_path / "run"
    call(["run", data, "-e", tmp_path / "tuned", "--head", "linear", "--store", tmp_path / "s", "--out", out])
    (warning,) = [w for w in json.loads((out / "metrics.json").read_text())["warnings"] if "tuned" in w]
    rows = len(data.read_text().splitlines()) - 1
    assert f"tuned on {rows} of the {rows} texts" in warning
    call(["evaluate", tmp_path / "tuned", "--task", data, "--store", tmp_path / "s"])
    assert f"tuned on {rows} of the {rows} test texts" in " ".join(capsys.readouterr().err.split())


def test_a_classifier_takes_the_folder_as_any_encoder(
    bert_folder: Path, tune: Callable[..., Tuned], tmp_path: Path
) -> None:
    task = task_of(24)
    tuned = tune(bert_folder, objective="contrastive", epochs=15, task=few(task, "train"))
    train, test = task.split("train"), task.split("test")
    classifier = FusionClassifier(encoders=[f"{tuned.folder}?dtype=float32"], head="linear", store=tmp_path / "store")
    with pytest.warns(UserWarning, match="tuned on 24 of the 24 texts"):
        classifier.fit(train.texts, task.targets("train"), X_valid=train.texts, y_valid=task.targets("train"))
    assert float((classifier.predict(test.texts) == task.targets("test")).mean()) > 0.8


def test_a_label_that_has_a_name_only_can_be_answered(bert_folder: Path, tune: Callable[..., Tuned]) -> None:
    task = task_of(24)
    train = task.split("train").take(i for i, label in enumerate(task.split("train").labels) if label != 2)
    two = replace(task, splits={"train": train}, labels=("joy", "anger", "it_is_dark"))
    found = {}
    for label_names in (True, False):
        tuned = tune(bert_folder, str(label_names), objective="contrastive", task=two, label_names=label_names)
        found[label_names] = TextPredictor.from_pretrained(tuned.folder).predict_proba(["it is dark"])[0, 2]
    assert found[True] > 0.2
    assert found[False] < 1e-3


def test_contrastive_is_refused_where_it_can_not_learn(
    bert_folder: Path, tune: Callable[..., Tuned], tmp_path: Path
) -> None:
    task = task_of(6)
    several = {name: Split(part.texts, ((0, 1),) * len(part)) for name, part in task.splits.items()}
    one = {"train": Split(("we won", "we lost"), (0, 0))}
    empty = {"train": Split((), ())}
    for changed, kind, message in (
        (replace(task, splits=several, multilabel=True), UsageError, "one label per text"),
        (replace(task, splits=one, labels=("joy",)), DataError, "at least two labels"),
        (replace(task, splits=empty), DataError, "train split of made up is empty"),
        (few(task, "test"), MissingSplitError, "no train split"),
    ):
        with pytest.raises(kind, match=message):
            tune(bert_folder, objective="contrastive", task=changed)
    with pytest.raises(NonFiniteError, match="lower `learning_rate`"):
        tune(bert_folder, objective="contrastive", task=task, learning_rate=1e30)
    assert list(tmp_path.iterdir()) == []


def test_the_defaults_are_those_of_the_objective() -> None:
    assert (TuneConfig().epochs, TuneConfig().batch_size) == (3, 32)
    contrastive = TuneConfig(objective="contrastive")
    assert (contrastive.epochs, contrastive.batch_size) == (10, 64)
    assert TuneConfig.model_validate(contrastive.model_dump()) == contrastive
    assert TuneConfig(objective="contrastive", epochs=3).epochs == 3


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("pooling=tokens", "pooling=mean"),
        ("pooling=pooler", "pooling=mean"),
        ("dtype=float16", "bfloat16 or float32"),
        ("template=a {text}||b {text}", "several templates"),
        ("projection=some.safetensors", "tune first"),
        ("quantization=int8", "tune without quantization"),
        ("max_length=600", "exceeds the model's limit of 512"),
    ],
)
def test_settings_that_can_not_be_tuned_with(
    settings: str, message: str, bert_folder: Path, tune: Callable[..., Tuned]
) -> None:
    with pytest.raises(UsageError, match=message):
        tune(f"{bert_folder}?{settings}")


def test_a_task_without_train_or_valid_is_refused(
    bert_folder: Path, tune: Callable[..., Tuned], tmp_path: Path
) -> None:
    task = task_of()
    for name in ("train", "valid"):
        rest = {other: part for other, part in task.splits.items() if other != name}
        with pytest.raises(MissingSplitError, match=f"no {name} split"):
            tune(bert_folder, task=replace(task, splits=rest))
        with pytest.raises(DataError, match="is empty"):
            tune(bert_folder, task=replace(task, splits=rest | {name: Split((), ())}))
    assert not (tmp_path / "tuned").exists()


def test_a_taken_place_is_refused_before_training(
    bert_folder: Path, tune: Callable[..., Tuned], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("file", "is a file"),
        ("full", "contains other files"),
        ("file/below", "can't be written"),
    ):
        for overwrite in (False, True):
            with pytest.raises(FecError, match=message):
                tune(bert_folder, name, overwrite=overwrite)
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"
    first = digest(tune(bert_folder, "empty", epochs=1).folder)
    with pytest.raises(UsageError, match="overwrite"):
        tune(bert_folder, "empty")
    assert first != digest(tune(bert_folder, "empty", seed=1, epochs=1, overwrite=True).folder)


def test_the_base_is_never_overwritten(bert_folder: Path, tune: Callable[..., Tuned], tmp_path: Path) -> None:
    base = shutil.copytree(bert_folder, tmp_path / "models" / "a")
    for place in ("models/a", "models"):
        with pytest.raises(UsageError, match="own files"):
            tune(base, place, overwrite=True)


def test_a_learning_rate_that_diverges_leaves_nothing(
    bert_folder: Path, tune: Callable[..., Tuned], tmp_path: Path
) -> None:
    with pytest.raises(NonFiniteError, match="lower `learning_rate`"):
        tune(bert_folder, learning_rate=1e30, epochs=20)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_the_encoder_does_without_the_classifier(bert_folder: Path, tuned_bert: Tuned, tmp_path: Path) -> None:
    with pytest.raises(FecError, match="model of type bert, not a classifier"):
        TextPredictor.from_pretrained(bert_folder)
    before = load_encoder(parse_encoder(str(tuned_bert.folder)), CPU).identity.key
    alone = shutil.copytree(tuned_bert.folder, tmp_path / "alone", ignore=lambda *_: ["model"])
    assert load_encoder(parse_encoder(str(alone)), CPU).identity.key == before


# --- the command -------------------------------------------------------------------------------------------


def call(arguments: Sequence[object]) -> None:
    """`fec` in this process."""
    app(args=[str(argument) for argument in arguments], standalone_mode=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "moods.csv"
    rows = [f"{text} {i},{label}" for i in range(20) for text, label in zip(WORDS, "jaf", strict=True)]
    path.write_text("\n".join(["text,label", *rows]) + "\n", "utf-8")
    return path


def test_the_command_tells_the_epochs_and_what_comes_next(bert_folder: Path, data: Path, tmp_path: Path) -> None:
    done = fec("tune", bert_folder, data, "--epochs", 2, "--out", "tuned", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "epoch 2: loss" in done.stdout
    assert "a model (fec predict tuned TEXT), and an encoder for fec run" in done.stdout
    (split, bar) = done.stderr.strip().splitlines()
    assert "split into" in split
    assert bar.startswith("tuning small-bert · epoch 2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moods.csv", "tuned"]


def test_the_command_tunes_contrastively(
    bert_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(["tune", bert_folder, data, "--objective", "contrastive", "--epochs", 2, "--out", tmp_path / "tuned"])
    printed = capsys.readouterr().out
    assert "epoch 2: loss" in printed
    assert "cross-validation: accuracy" in printed
    assert "fec predict" in printed


def test_a_run_adds_a_tuned_encoder_to_the_frozen_ones(bert_folder: Path, data: Path, tmp_path: Path) -> None:
    run = ["run", data, "-e", bert_folder, "--tune", bert_folder, "--epochs", 1, "--store", tmp_path / "store"]
    run += ["--no-report", "--out", tmp_path / "run"]
    call(run)
    frozen, tuned = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text("utf-8"))["run"]["encoders"]
    assert (frozen["model"], tuned["model"]) == (str(bert_folder), str(tmp_path / "run-tuned"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text("utf-8"))
    assert metrics["head"] == "fusion"
    assert not any("was tuned on" in warning for warning in metrics["warnings"])  # test and validation are new to it
    before = (tmp_path / "run-tuned" / "tuning.json").stat().st_mtime_ns
    call(run)  # nothing is done twice
    assert (tmp_path / "run-tuned" / "tuning.json").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="--head ensemble"):
        call([*run, "--head", "ensemble"])
    data.write_text(data.read_text("utf-8") + "we won again,j\n", "utf-8")
    with pytest.raises(UsageError, match="tuned on other texts"):
        call(run)


def test_a_run_in_the_current_folder_tunes_beside_it(
    bert_folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run = ["run", data, "-e", bert_folder, "--tune", bert_folder, "--epochs", 1, "--store", tmp_path / "store"]
    call([*run, "--max-length", 16, "--no-report", "--out", "."])
    encoders = yaml.safe_load((tmp_path / "here" / "config.yaml").read_text("utf-8"))["run"]["encoders"]
    assert encoders[1]["model"] == str(tmp_path / "here-tuned")
    assert [encoder["max_length"] for encoder in encoders] == [16, 16]
    assert json.loads((tmp_path / "here-tuned" / "tuning.json").read_text("utf-8"))["encoder"]["max_length"] == 16


def test_as_json_it_prints_the_record(
    bert_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(["tune", bert_folder, data, "--epochs", 1, "--out", tmp_path / "tuned", "--json"])
    printed = capsys.readouterr()
    assert json.loads(printed.out)["tuning"]["learning_rate"] == 1e-4  # that of a narrow model
    assert json.loads(printed.out) == json.loads((tmp_path / "tuned" / "tuning.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("no-such-folder/a/b/c", "demo"), 1, "no such folder"),
        (("minilm?pooling=huge", "demo"), 2, "pooling"),
        (("minilm-l6", "no-such-task"), 2, "no task and no file"),
        (("minilm-l6", "demo", "--epochs", "0"), 2, "epochs"),
        (("minilm-l6", "demo", "--lr", "nan"), 2, "learning_rate"),
        (("minilm-l6", "demo", "--seed", "-1"), 2, "seed"),
        (("minilm-l6", "demo", "--lora-rank", "4"), 2, "lora"),
        (("minilm-l6", "demo", "--lora", "--lora-rank", "0"), 2, "lora_rank"),
        (("minilm-l6", "demo", "--objective", "contrastive", "--lora"), 2, "lora_rank"),
        (("minilm-l6", "demo", "--objective", "contrastive", "--batch-size", "2"), 2, "batch_size"),
    ],
)
def test_wrong_calls_are_named(
    arguments: tuple[str, ...], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEC_MODELS", str(tmp_path / "no-models"))
    with pytest.raises(FecError, match=message) as raised:
        call(["tune", *arguments, "--out", tmp_path / "tuned"])
    assert raised.value.exit_code == code
    assert list(tmp_path.iterdir()) == []


@pytest.mark.posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])  # Windows has no SIGKILL
def test_stopped_it_leaves_nothing(name: str, bert_folder: Path, data: Path, tmp_path: Path) -> None:
    arguments = ["tune", bert_folder, data, "--objective", "contrastive", "--epochs", 100_000]
    command = map(str, [sys.executable, "-c", STARTED_DRIVER, *arguments, "--out", tmp_path / "models" / "tuned"])
    process = subprocess.Popen(list(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "epoch\n"
    number = signal.Signals[name]
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (128 + number if number == signal.SIGINT else -number)
    assert "Traceback" not in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moods.csv"]


STARTED_DRIVER = """
import sys
from fusion_classifier.cli import main as cli
from fusion_classifier.training import contrastive
finished = contrastive.Pass
def of_pass(epoch, *figures):
    if epoch == 1:
        print("epoch", flush=True)
    return finished(epoch, *figures)
contrastive.Pass = of_pass
cli.main(sys.argv[1:])
"""


def test_on_a_terminal_a_bar_moves(bert_folder: Path, tmp_path: Path) -> None:
    from fusion_classifier.support.progress import Progress

    console = Console(force_terminal=True, record=True, width=200, file=(tmp_path / "terminal").open("w"))
    work = RunContext(FeatureStore(tmp_path / "store"), CPU, Progress(console))
    encoder = parse_encoder(f"{bert_folder}?dtype=float32")
    tune_encoder(TuneConfig(epochs=2), encoder, task_of(), tmp_path / "tuned", work)
    shown = console.export_text()
    assert "epoch 2 · valid weighted F1" in shown
    assert "4/4" in shown


# --- real weights ------------------------------------------------------------------------------------------


def test_minilm_learns_the_demo_corpus(minilm: str, tune: Callable[..., Tuned]) -> None:
    task = Demo().load().limited(80)
    tuned = tune(minilm, task=task, epochs=2, learning_rate=1e-3, batch_size=16)
    truth = task.targets("valid")
    majority = np.bincount(truth).max() / len(truth)
    assert tuned.history[-1].train_loss < tuned.history[0].train_loss
    assert best_of(tuned).valid_accuracy > 2 * majority
