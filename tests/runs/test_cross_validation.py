"""A task whose rows all train, and are judged out of fold."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from fusion_classifier.classifier.folder import load_model
from fusion_classifier.cli.main import app
from fusion_classifier.config import RunConfig, TaskConfig
from fusion_classifier.encoders.spec import parse_encoders
from fusion_classifier.errors import DataError, FecError, UsageError
from fusion_classifier.evaluation.metrics import score
from fusion_classifier.evaluation.predictions import read_predictions
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.registry import parse_head
from fusion_classifier.runs.config_file import read_run_config
from fusion_classifier.runs.context import RunContext
from fusion_classifier.runs.evaluate import evaluate_saved, evaluated_task, judging_split
from fusion_classifier.runs.pipeline import run
from fusion_classifier.runs.seeds import read_seed
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.training.defaults import recipe

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("few_penalties")]  # many commands or trainings

LABELS = ("joy", "anger", "fear")
WORDS = {"joy": "lovely happy win", "anger": "hate broke liar", "fear": "dark scared afraid"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    order = np.random.default_rng(0)
    path = tmp_path / "moods.csv"
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for i in range(60):
            label = LABELS[i % 3]
            writer.writerow([f"{order.choice(WORDS[label].split())} thing number {i}", label])
    return path


@pytest.fixture
def work(tmp_path: Path) -> RunContext:

    return RunContext(FeatureStore(tmp_path / "store"), torch.device("cpu"), QUIET)


def run_config(file: Path, encoder: Path, head: str = "linear", **task: Any) -> RunConfig:
    return RunConfig(
        task=TaskConfig(name=str(file), cross_validate=True, **task),
        encoders=parse_encoders([str(encoder)], features="pooled"),
        head=parse_head(head),
        training=recipe("default", head, max_epochs=2 if head == "llmembed" else None),
        seeds=(0, 1),
    )


def metrics_of(config: RunConfig, out: Path, work: RunContext) -> dict[str, Any]:
    return run(config, load_task(config.task), out, work).metrics


def test_every_row_trains_and_every_row_is_judged(
    file: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    out = tmp_path / "run"
    metrics = metrics_of(run_config(file, bert_folder), out, work)
    part = read_predictions(out / "predictions.parquet", multilabel=True)["valid"]
    assert metrics["cross_validated"]
    assert metrics["test"] is None
    assert metrics["rows"]["train"] == metrics["rows"]["valid"] == len(part.labels) == 60
    assert set(metrics["baselines"]) == {"logistic_regression", "majority_class"}


def test_a_row_is_judged_by_heads_that_did_not_see_it(
    file: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    """Labels that are random can be learned by heart, but not predicted out of fold: nor its copy's."""
    header, *rows = csv.reader(file.open())
    order = np.random.default_rng(1)
    drawn = [(text, str(order.choice(LABELS))) for text, _ in rows]
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *drawn, *((f"{text}!", label) for text, label in drawn)])
    config = run_config(file, bert_folder)
    metrics = metrics_of(config.model_copy(update={"head": parse_head("linear", c=1000.0)}), tmp_path / "run", work)
    assert metrics["valid"]["accuracy"]["mean"] < 0.6


def test_a_second_run_takes_up_the_out_of_fold_logits(
    file: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    out, config = tmp_path / "run", run_config(file, bert_folder)
    first = metrics_of(config, out, work)
    stored = json.loads((out / "seeds" / "0" / "out_of_fold.json").read_text())
    assert np.shape(stored) == (60, 3)
    again = metrics_of(config, out, work)
    assert again["valid"]["accuracy"] == first["valid"]["accuracy"]
    assert load_model(out / "model").config.labels == sorted(LABELS)
    assert not (out / "model" / "out_of_fold.json").exists()
    (out / "seeds" / "0" / "out_of_fold.json").unlink()
    (out / "predictions.parquet").unlink()
    with pytest.raises(FecError, match=r"seed 0 lacks its out_of_fold.json"):
        metrics_of(config, out, work)


def test_it_is_not_evaluated_on_rows_that_it_was_trained_on(
    file: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    config = run_config(file, bert_folder)
    metrics_of(config, tmp_path / "run", work)
    for split in ("valid", "test"):
        with pytest.raises(UsageError, match="trained on all rows"):
            evaluate_saved(tmp_path / "run", split, config.task, {}, work)


def test_only_a_training_takes_the_option(file: Path, bert_folder: Path, tmp_path: Path) -> None:
    """Other commands would judge rows that were trained on."""
    place = ("--store", str(tmp_path / "store"))
    for command in (["extract", str(file)], ["evaluate", "run"]):
        refused = CliRunner().invoke(app, [*command, "--cross-validate"])
        assert "No such option" in refused.output
    tuned = CliRunner().invoke(app, ["tune", str(bert_folder), str(file), "--out", "tuned", "--cross-validate"])
    assert "requires --objective contrastive" in str(tuned.exception)
    options = [str(file), "-e", str(bert_folder), "--head", "linear", "--cross-validate", *place]
    ablated = CliRunner().invoke(app, ["ablate", *options, "--out", str(tmp_path / "ablation")])
    assert "fec ablate evaluates on a split" in str(ablated.exception)
    done = CliRunner().invoke(app, ["run", *options, "--out", str(tmp_path / "run"), "--no-report"])
    assert done.exit_code == 0, done.output
    again = ["--config", str(tmp_path / "run"), *place]
    repeated = CliRunner().invoke(app, ["run", *again, "--out", str(tmp_path / "again"), "--no-report"])
    assert repeated.exit_code == 0, repeated.output
    assert read_run_config(tmp_path / "again").task.cross_validate
    ablated = CliRunner().invoke(app, ["ablate", *again, "--out", str(tmp_path / "ablation")])
    assert "fec ablate evaluates on a split" in str(ablated.exception)


def test_data_that_are_not_here_are_those_of_the_run(
    file: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    out = tmp_path / "run"
    metrics_of(run_config(file, bert_folder), out, work)
    assert evaluated_task(out, None, {}).name == str(file)
    file.rename(tmp_path / "moved.csv")
    with pytest.raises(UsageError, match=r"moods\.csv, the data of .*run, is not here"):
        evaluated_task(out, None, {})


def test_more_rows_than_are_cross_validated_are_refused(
    file: Path, bert_folder: Path, tmp_path: Path, work: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusion_classifier.runs.pipeline.MAX_CROSS_VALIDATED", 59)
    with pytest.raises(UsageError, match="60 rows are more than 59"):
        metrics_of(run_config(file, bert_folder), tmp_path / "run", work)
    assert not (tmp_path / "run").exists()


def test_unknown_texts_need_known_ones_beside_training(
    file: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    strange = tmp_path / "strange.txt"
    strange.write_text("what is the capital of peru\n")
    config = run_config(file, bert_folder)
    with pytest.raises(UsageError, match="leave out `cross_validate`"):
        run(config, load_task(config.task), tmp_path / "run", work, unknown=strange)


@pytest.mark.parametrize(("head", "named"), [("linear", True), ("llmembed", False)])
def test_a_small_split_points_to_it_where_it_works(
    file: Path, bert_folder: Path, tmp_path: Path, work: RunContext, head: str, *, named: bool
) -> None:
    config = run_config(file, bert_folder, head)
    config = config.model_copy(update={"task": TaskConfig(name=str(file))})
    said = " ".join(metrics_of(config, tmp_path / "run", work)["warnings"])
    assert ("cross_validate" in said) == named


def test_a_head_that_needs_validation_rows_is_refused(
    file: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    with pytest.raises(UsageError, match="llmembed"):
        metrics_of(run_config(file, bert_folder, head="llmembed"), tmp_path / "run", work)
    assert not (tmp_path / "run").exists()


def test_the_test_split_of_a_folder_stays_apart(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("train.csv", "test.csv"):
        (folder / name).write_text(file.read_text())
    task = load_task(TaskConfig(name=str(folder), cross_validate=True))
    assert task.cross_validated
    assert set(task.splits) == {"train", "valid", "test"}
    (folder / "valid.csv").write_text(file.read_text())
    with pytest.raises(UsageError, match=r"`cross_validate`: .* validation split"):
        load_task(TaskConfig(name=str(folder), cross_validate=True))


def test_paraphrases_and_named_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="augment_column"):
        TaskConfig(name="x.csv", cross_validate=True, augment_column="more")
    with pytest.raises((UsageError, DataError), match="cross_validate"):
        load_task(TaskConfig(name="demo", cross_validate=True))


def test_few_rows_are_cross_validated_without_an_option(
    file: Path, bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = tmp_path / "strange.txt"
    strange.write_text("what is the capital of peru\n" * 5)

    def metrics(*options: str) -> Any:
        common = ["-e", str(bert_folder), "--store", str(tmp_path / "store"), "--out", str(tmp_path / "run")]
        done = CliRunner().invoke(app, ["run", str(file), *common, "--overwrite", "--no-report", *options])
        assert done.exit_code == 0, done.output
        return json.loads((tmp_path / "run" / "metrics.json").read_text())

    plain = metrics("--head", "linear")
    assert plain["cross_validated"]
    assert plain["rows"]["train"] == 60
    assert read_run_config(tmp_path / "run").task.cross_validate is None
    assert metrics("--config", str(tmp_path / "run"))["cross_validated"]
    for options in (["--no-cross-validate"], ["--head", "llmembed", "--epochs", "1"], ["--unknown", str(strange)]):
        split = metrics("--head", "linear", *options)
        assert not split.get("cross_validated"), options
        assert split["rows"]["train"] == 48
    monkeypatch.setattr("fusion_classifier.tasks.table.CROSS_VALIDATED_ROWS", 59)
    assert not metrics("--head", "linear").get("cross_validated")


def test_a_wrong_label_column_is_told_before_a_cross_validation(tmp_path: Path) -> None:
    path = tmp_path / "ids.csv"
    path.write_text("text,label\n" + "".join(f"text {i},id {i}\n" for i in range(30)))
    with pytest.raises(DataError, match="label_column"):
        load_task(TaskConfig(name=str(path), cross_validate=None))


def test_rare_labels_are_named_and_the_way_to_splits_too(tmp_path: Path) -> None:
    rows = [f"text {i},{'ab'[i % 2]}" for i in range(40)] + ["a rare one,c"]
    (tmp_path / "few.csv").write_text("\n".join(["text,label", *rows]), "utf-8")
    trained_on, rare = load_task(TaskConfig(name=str(tmp_path / "few.csv"), cross_validate=True)).notes
    assert "all 41 rows are used for training" in trained_on
    assert rare.endswith("'c' 1 in train")


def test_whoever_measures_it_learns_what_it_was_trained_on(
    file: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    metrics_of(run_config(file, bert_folder), tmp_path / "run", work)
    texts, targets, known = judging_split(tmp_path / "run", evaluated_task(tmp_path / "run", None, {}))
    assert known
    assert len(texts) == len(targets) == 60
    (tmp_path / "other.csv").write_text(
        "text,label\n" + "".join(f"new text {i},{LABELS[i % 3]}\n" for i in range(30))
    )
    other = evaluated_task(tmp_path / "run", str(tmp_path / "other.csv"), {})
    texts, _, known = judging_split(tmp_path / "run", other)
    assert not known
    assert len(texts) == 30


def test_thresholds_are_fitted_on_other_folds(
    file: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    """Labels that are random: thresholds of the judged rows would seem to know something."""
    rows = list(csv.reader(file.open()))
    order = np.random.default_rng(2)
    with file.open("w", newline="") as stream:
        drawn = [[text, ",".join(label for label in LABELS if order.random() < 0.3)] for text, _ in rows[1:]]
        csv.writer(stream).writerows([rows[0], *drawn])
    metrics = metrics_of(run_config(file, bert_folder, multilabel=True), tmp_path / "run", work)
    one = read_seed(tmp_path / "run" / "seeds" / "0", 0)[1]
    assert one.out_of_fold is not None
    truth = load_task(TaskConfig(name=str(file), multilabel=True, cross_validate=True)).targets("valid")
    answers = one.decision.labels(one.decision.probabilities(one.out_of_fold.logits))
    same = score(truth, one.decision.probabilities(one.out_of_fold.logits), answers)
    assert metrics["valid"]["macro_f1"]["mean"] < same["macro_f1"]
