"""The whole main job on a small real transformer and a small real file."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.preprocessing import normalize

from fusion_classifier import FusionClassifier
from fusion_classifier.classifier.folder import load_model
from fusion_classifier.commands.report import write_report
from fusion_classifier.config import RunConfig, TaskConfig
from fusion_classifier.encoders.identity import identify
from fusion_classifier.encoders.spec import parse_encoders
from fusion_classifier.errors import DataError, FecError, StoreError, UsageError
from fusion_classifier.evaluation.metrics import METRICS
from fusion_classifier.evaluation.predictions import SplitPredictions
from fusion_classifier.features.extract import read_features
from fusion_classifier.features.hashing import hash_texts, hexadecimal
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.registry import parse_head
from fusion_classifier.runs.context import RunContext, say_gaps
from fusion_classifier.runs.evaluate import evaluate_saved, measure
from fusion_classifier.runs.features import export_task
from fusion_classifier.runs.pipeline import run, train_task
from fusion_classifier.support.progress import QUIET, Progress
from fusion_classifier.tasks.loaded import LoadedTask, Split
from fusion_classifier.tasks.registry import load_task
from fusion_classifier.training.defaults import recipe
from fusion_classifier.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("few_penalties")]  # many commands or trainings

OPENINGS = {
    "joy": ["what a lovely day", "we won", "my sister is back"],
    "anger": ["he broke it", "they lied again", "who took my bike"],
    "fear": ["something moved outside", "i can not look down", "it is too dark"],
}


def corpus(rows: int, seed: int) -> list[tuple[str, str]]:
    generator = np.random.default_rng(seed)
    labels = sorted(OPENINGS)
    result = []
    for i in range(rows):
        label = labels[i % 3]
        result.append((f"{generator.choice(OPENINGS[label])} {seed} {i}", label))
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "moods"
    data.mkdir()
    for seed, (split, rows) in enumerate({"train": 60, "valid": 24, "test": 24}.items()):
        lines = ["text,label", *(f"{text},{label}" for text, label in corpus(rows, seed))]
        (data / f"{split}.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return data


@pytest.fixture
def work(tmp_path: Path) -> RunContext:
    return RunContext(FeatureStore(tmp_path / "store"), torch.device("cpu"), QUIET)


def config_for(task: str, encoders: list[Path | str], head: str = "linear", seeds: int = 2) -> RunConfig:
    return RunConfig(
        task=TaskConfig(name=task),
        encoders=parse_encoders([str(encoder) for encoder in encoders]),
        head=parse_head(head, width=16 if head == "llmembed" else None),
        training=recipe("default", head, max_epochs=4, batch_size=16),
        seeds=tuple(range(seeds)),
    )


def run_folder(folder: Path, encoders: list[Path | str], out: Path, work: RunContext, **more: Any) -> dict[str, Any]:
    config = config_for(str(folder), encoders, **more)
    return run(config, load_task(config.task), out, work).metrics


def everything(out: Path) -> dict[str, Any]:
    """What a run wrote, without times."""
    metrics = json.loads((out / "metrics.json").read_text())
    metrics.pop("stages")
    metrics.pop("encoded_texts")
    predictions = pq.read_table(out / "predictions.parquet").to_pylist()
    weights = {path.parent.name: path.read_bytes() for path in out.glob("seeds/*/model.safetensors")}
    return {"metrics": metrics, "predictions": predictions, "weights": weights}


@pytest.mark.parametrize("head", ["linear", "llmembed"])
def test_a_run_writes_all_that_it_promises(
    folder: Path, llama_folder: Path, bert_folder: Path, tmp_path: Path, work: RunContext, head: str
) -> None:
    out = tmp_path / "run"
    metrics = run_folder(folder, [llama_folder, bert_folder], out, work, head=head)
    for name in ("metrics.json", "predictions.parquet", "config.yaml", "confusion_matrix.png"):
        assert (out / name).stat().st_size > 0
    assert (out / "training_curves.png").is_file() == (head == "llmembed"), "what is solved has no epochs"
    assert (out / "model" / "model.safetensors").is_file()
    assert json.loads((out / "metrics.json").read_text())["head"] == head == metrics["head"]
    assert metrics["seeds"] == [0, 1]
    assert metrics["encoders"] == [llama_folder.name, bert_folder.name]
    for split in ("valid", "test"):
        assert set(metrics[split]) == set(METRICS)
        for figure in metrics[split].values():
            assert len(figure["values"]) == 2
            assert figure["mean"] == pytest.approx(np.mean(figure["values"]))
            assert figure["std"] == pytest.approx(np.std(figure["values"], ddof=1))


def test_metrics_are_those_of_the_stored_predictions(
    folder: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    metrics = run_folder(folder, [bert_folder], tmp_path / "run", work)
    table = pq.read_table(tmp_path / "run" / "predictions.parquet")
    names = json.loads(table.schema.metadata[b"labels"])
    rows = table.to_pylist()
    task = load_task(TaskConfig(name=str(folder)))
    for split in ("valid", "test"):
        for position, seed in enumerate(metrics["seeds"]):
            part = [row for row in rows if row["split"] == split and row["seed"] == seed]
            true, predicted = [row["label"] for row in part], [row["predicted"] for row in part]
            assert [row["text_hash"] for row in part] == hexadecimal(hash_texts(task.split(split).texts))
            assert [names[int(np.argmax(row["probabilities"]))] for row in part] == predicted
            assert accuracy_score(true, predicted) == pytest.approx(metrics[split]["accuracy"]["values"][position])
            f1 = f1_score(true, predicted, average="weighted", zero_division=0)
            assert f1 == pytest.approx(metrics[split]["weighted_f1"]["values"][position])


def test_a_run_has_its_baselines_and_warnings(
    folder: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    """Both are computed here by scikit-learn alone, on vectors that are pooled by hand."""
    metrics = run_folder(folder, [bert_folder], tmp_path / "run", work)
    task = load_task(TaskConfig(name=str(folder)))
    (encoder,) = parse_encoders([str(bert_folder)])
    vectors = {
        name: normalize(
            read_features(part.texts, [identify(encoder, work.device)], work.store)[encoder.name].values.reshape(
                len(part), -1
            )
        )
        for name, part in task.splits.items()
    }
    c = metrics["baseline_fits"]["logistic_regression"]["C"]
    model = LogisticRegression(C=c, max_iter=200).fit(vectors["train"], task.targets("train"))
    for split in ("valid", "test"):
        truth, found = task.targets(split), metrics["baselines"]
        answers = model.predict(vectors[split])
        assert found["logistic_regression"][split]["accuracy"] == pytest.approx(accuracy_score(truth, answers))
        f1 = f1_score(truth, answers, average="macro", zero_division=0)
        assert found["logistic_regression"][split]["macro_f1"] == pytest.approx(f1)
        assert found["majority_class"][split]["accuracy"] == pytest.approx(1 / 3)
    assert any("Test has few texts, 24" in warning for warning in metrics["warnings"])
    write_report(tmp_path / "run", task=task)
    for name in ("report.html", "model/README.md"):
        text = (tmp_path / "run" / name).read_text()
        assert "logistic regression" in text
        assert "Test has few texts, 24" in text


def test_labels_that_are_dates_are_doubted_before_extraction(
    folder: Path, bert_folder: Path, tmp_path: Path, work: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    for split in ("train", "valid", "test"):
        rows = [f"a text {split} {i},2024-01-0{1 + i % 6}" for i in range(36)]
        (folder / f"{split}.csv").write_text("\n".join(["text,label", *rows]) + "\n", "utf-8")
    console = Console(record=True, width=200, file=io.StringIO())
    spoken = replace(work, progress=Progress(console))
    monkeypatch.setattr("fusion_classifier.runs.pipeline.extract_task", interrupted)
    config = config_for(str(folder), [bert_folder])
    with pytest.raises(KeyboardInterrupt):
        run(config, load_task(config.task), tmp_path / "run", spoken)
    said = console.export_text().strip()
    assert said == "Warning: All 6 labels are dates, such as '2024-01-01'; is `label_column` the right one?"


def test_a_second_run_takes_up_what_is_there_and_ends_alike(
    folder: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    first = run_folder(folder, [bert_folder], tmp_path / "run", work)
    before = everything(tmp_path / "run")
    trained_at = {p: p.stat().st_mtime_ns for p in tmp_path.glob("run/seeds/*/model.safetensors")}
    second = run_folder(folder, [bert_folder], tmp_path / "run", work)
    assert sum(first["encoded_texts"].values()) > 0
    assert sum(second["encoded_texts"].values()) == 0
    assert everything(tmp_path / "run") == before
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("run/seeds/*/model.safetensors")} == trained_at


def test_a_run_cut_short_ends_as_one_that_was_not(
    folder: Path, bert_folder: Path, tmp_path: Path, work: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_folder(folder, [bert_folder], tmp_path / "whole", work)
    calls = 0

    def interrupted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    monkeypatch.setattr("fusion_classifier.classifier.pipeline.train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_folder(folder, [bert_folder], tmp_path / "cut", work)
    assert not (tmp_path / "cut" / "metrics.json").exists()
    monkeypatch.setattr("fusion_classifier.classifier.pipeline.train", train)
    run_folder(folder, [bert_folder], tmp_path / "cut", work)
    assert everything(tmp_path / "cut") == everything(tmp_path / "whole")


def test_another_configuration_is_refused_in_the_same_folder(
    folder: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    out = tmp_path / "run"
    run_folder(folder, [bert_folder], out, work)
    before = everything(out)
    with pytest.raises(UsageError, match="seeds"):
        run_folder(folder, [bert_folder], out, work, seeds=3)
    (folder / "valid.csv").write_text("text,label\nit is new,joy\n", "utf-8")
    with pytest.raises(UsageError, match="data"):
        run_folder(folder, [bert_folder], out, work)
    assert everything(out) == before
    config = config_for(str(folder), [bert_folder], seeds=1)
    assert run(config, load_task(config.task), out, work, overwrite=True).metrics["seeds"] == [0]
    assert [path.name for path in (out / "seeds").iterdir()] == ["0"]


def test_a_run_that_is_refused_extracts_nothing_before(
    folder: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    run_folder(folder, [bert_folder], tmp_path / "run", work)
    kept = work.store.entries()
    (folder / "valid.csv").write_text("text,label\nit is new,joy\n", "utf-8")
    with pytest.raises(UsageError, match="data"):
        run_folder(folder, [bert_folder], tmp_path / "run", work)
    assert work.store.entries() == kept


@pytest.mark.parametrize("name", ["thesis.tex", "metrics.json"])  # the second has the name of a run's file
def test_a_folder_with_other_things_in_it_is_left_alone(
    name: str, folder: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    out = tmp_path / "precious"
    out.mkdir()
    (out / name).write_text("years of work")
    with pytest.raises(UsageError, match=re.escape(name)):
        run_folder(folder, [bert_folder], out, work)
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == [name]
    assert (out / name).read_text() == "years of work"


def test_without_a_test_split_validation_is_reported(
    folder: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    (folder / "test.csv").unlink()
    metrics = run_folder(folder, [bert_folder], tmp_path / "run", work)
    assert metrics["test"] is None
    assert metrics["valid"]["accuracy"]["values"]
    assert {row["split"] for row in pq.read_table(tmp_path / "run" / "predictions.parquet").to_pylist()} == {"valid"}


def test_the_second_figure_leaves_out_texts_of_train(
    folder: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    text = corpus(60, 0)[0][0]
    with (folder / "test.csv").open("a") as file:
        file.write(f"{text.upper()}!!,anger\n")
    metrics = run_folder(folder, [bert_folder], tmp_path / "run", work)
    assert metrics["rows"]["test"] == 25
    assert metrics["rows"]["test_without_overlap"] == 24
    with_it, without = metrics["test"]["accuracy"]["mean"], metrics["test_without_overlap"]["accuracy"]["mean"]
    right = [with_it * 25 - without * 24]  # texts that only the first figure counts: between 0 and 1
    assert -1e-9 <= right[0] <= 1 + 1e-9


def test_texts_among_the_paraphrases_are_trained_on() -> None:
    splits = {"train": Split(("a", "b"), (0, 1)), "test": Split(("A!", "new", "c", "d"), (0, 1, 0, 1))}
    task = LoadedTask("own", ("x", "y"), splits, "here", augmentation=Split(("C.",), (0,)))
    labels = np.array([0, 1, 0, 1])
    part = SplitPredictions("test", ["0"] * 4, labels, {0: np.eye(2, dtype=np.float32)[labels]}, {0: labels})
    assert measure(part, task, None)["without_overlap"]["rows"] == 2


def test_training_says_when_features_are_missing(
    folder: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    config = config_for(str(folder), [bert_folder])
    with pytest.raises(StoreError, match="fec extract"):
        train_task(config, load_task(config.task), tmp_path / "run", work)


def test_training_a_finished_run_again_leaves_its_model(
    folder: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    run_folder(folder, [bert_folder], tmp_path / "run", work)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run" / "model").iterdir()}
    assert b"weighted F1" in before["README.md"]
    config = config_for(str(folder), [bert_folder])
    train_task(config, load_task(config.task), tmp_path / "run", work)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run" / "model").iterdir()} == before


def test_a_replaced_run_killed_before_its_model_gets_its_own(
    folder: Path, bert_folder: Path, tmp_path: Path, work: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    run_folder(folder, [bert_folder], out, work)
    config = config_for(str(folder), [bert_folder], seeds=1)
    task = load_task(config.task)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fusion_classifier.runs.pipeline.shutil.copytree", killed)
        with pytest.raises(KeyboardInterrupt):
            train_task(config, task, out, work, overwrite=True)
    trained = train_task(config, task, out, work)
    assert load_model(out / "model").config.seed == 0
    assert all(
        torch.equal(tensor, trained[0].head.state_dict()[name])
        for name, tensor in load_model(out / "model").head.state_dict().items()
    )


def test_the_configuration_says_what_decides_the_result(
    folder: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    run_folder(folder, [bert_folder], tmp_path / "run", work)
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert RunConfig.model_validate(config["run"]) == config_for(str(folder), [bert_folder])
    assert config["data"]["splits"]["train"]["rows"] == 60
    assert len(config["data"]["splits"]["train"]["sha256"]) == 64
    assert {"torch", "transformers", "python", "device"} <= set(config["environment"])


def test_evaluating_the_run_again_gives_its_own_metrics(
    folder: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    out = tmp_path / "run"
    metrics = run_folder(folder, [bert_folder], out, work)
    again = evaluate_saved(out, "test", TaskConfig(name=str(folder)), {}, work)
    assert again["test"]["metrics"] == metrics["test"]
    assert again["seeds"] == [0, 1]
    alone = evaluate_saved(out / "model", "test", TaskConfig(name=str(folder)), {}, work)
    assert alone["test"]["metrics"]["accuracy"]["values"][0] in metrics["test"]["accuracy"]["values"]


def test_a_run_is_not_evaluated_on_its_own_changed_data(
    folder: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    test = (folder / "test.csv").read_text()
    (folder / "test.csv").unlink()
    run_folder(folder, [bert_folder], tmp_path / "run", work)
    (folder / "test.csv").write_text(test)  # a test split kept back until now is welcome
    assert evaluate_saved(tmp_path / "run", "test", TaskConfig(name=str(folder)), {}, work)["test"]["rows"] == 24
    with (folder / "train.csv").open("a") as file:
        file.write("something new,joy\n")
    with pytest.raises(DataError, match="train split is not the one"):
        evaluate_saved(tmp_path / "run", "test", TaskConfig(name=str(folder)), {}, work)


def test_a_model_is_not_used_with_another_models_features(
    folder: Path, bert_folder: Path, roberta_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    run_folder(folder, [bert_folder], tmp_path / "run", work)
    with pytest.raises(FecError, match="not those"):
        evaluate_saved(
            tmp_path / "run", "test", TaskConfig(name=str(folder)), {bert_folder.name: str(roberta_folder)}, work
        )


def test_the_saved_model_predicts_what_the_run_predicted(
    folder: Path, llama_folder: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    run_folder(folder, [f"{llama_folder}?dtype=float32", f"{bert_folder}?dtype=float32"], tmp_path / "run", work)
    saved = FusionClassifier.from_pretrained(tmp_path / "run" / "model")
    rows = pq.read_table(tmp_path / "run" / "predictions.parquet").to_pylist()
    expected = [r["probabilities"] for r in rows if r["split"] == "test" and r["seed"] == saved.config_.seed]
    texts = load_task(TaskConfig(name=str(folder))).split("test").texts
    np.testing.assert_allclose(saved.predict_proba(texts), expected, atol=5e-3)


def test_token_states_work_like_any_feature(
    folder: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    spec = f"{bert_folder}?pooling=tokens&layers=1,3"
    metrics = run_folder(folder, [spec], tmp_path / "run", work)
    assert 0 <= metrics["test"]["accuracy"]["mean"] <= 1
    assert len(FusionClassifier.from_pretrained(tmp_path / "run").predict(["we won", "he broke it"])) == 2


def test_export_gives_features_and_labels_of_each_split(
    folder: Path, llama_folder: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    from safetensors import safe_open

    task: LoadedTask = load_task(TaskConfig(name=str(folder)))
    encoders = parse_encoders([f"{llama_folder}?layers=-2:-1", f"{bert_folder}?pooling=tokens"])
    paths = export_task(task, ["train", "test"], encoders, tmp_path / "export", work)
    assert [path.name for path in paths] == ["train.safetensors", "test.safetensors"]
    with safe_open(paths[1], "np") as file:
        labels = json.loads(file.metadata()["labels"])
        assert [labels[i] for i in file.get_tensor("labels")] == [task.labels[i] for i in task.targets("test")]
        llama, bert = encoders[0].name, encoders[1].name
        assert file.get_tensor(llama).shape[:2] == (24, 2)
        offsets = file.get_tensor(f"{bert}.offsets")
        assert len(offsets) == 25
        assert file.get_tensor(f"{bert}.states").shape[0] == offsets[-1]


def test_a_limit_that_leaves_one_label_to_train_on_is_an_error(
    bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    data = tmp_path / "sorted"
    data.mkdir()
    rows = [f"text {i},{'joy' if i < 20 else 'anger'}" for i in range(40)]
    for name in ("train", "valid"):
        (data / f"{name}.csv").write_text("\n".join(["text,label", *rows]), "utf-8")
    config = config_for(str(data), [bert_folder])
    config = config.model_copy(update={"task": config.task.model_copy(update={"limit": 20})})
    with pytest.raises(DataError, match=r"only the label 'joy'; add rows.*or raise `limit`"):
        run(config, load_task(config.task), tmp_path / "out", work)


def test_labels_without_a_row_in_a_split_are_named(tmp_path: Path) -> None:
    lines = [f"{text},{label}" for text, label in corpus(30, 0)] + ["one of its kind,odd"]
    path = tmp_path / "moods.csv"
    path.write_text("\n".join(["text,label", *lines]) + "\n", "utf-8")
    console = Console(record=True, width=200, file=io.StringIO())
    work = RunContext(FeatureStore(tmp_path / "store"), torch.device("cpu"), Progress(console))
    task = load_task(TaskConfig(name=str(path)))
    without = [split for split in ("train", "valid", "test") if task.labels.index("odd") not in task.targets(split)]
    say_gaps(task, work)
    said = console.export_text().splitlines()
    assert len(said) == len(without) == 2
    assert all(
        f"without rows in {split} " in line and "'odd'" in line for split, line in zip(without, said, strict=True)
    )


def test_features_beyond_the_memory_for_them_are_read_in_blocks(
    folder: Path, bert_folder: Path, tmp_path: Path
) -> None:
    console = Console(record=True, width=200, file=io.StringIO())
    work = RunContext(FeatureStore(tmp_path / "store"), torch.device("cpu"), Progress(console), memory=2000)
    config = config_for(str(folder), [bert_folder])
    result = run(config, load_task(config.task), tmp_path / "out", work)
    said = console.export_text()
    assert "do not fit into" in said
    assert json.loads((tmp_path / "out" / "seeds" / "0" / "training.json").read_text())["streamed"] is True
    enough = replace(work, memory=10**9)
    found = evaluate_saved(tmp_path / "out", "test", config.task, {}, enough)
    assert found["test"]["metrics"] == result.metrics["test"], "what is read in blocks is what memory holds"


@pytest.mark.parametrize("share", [5, 10, 50])
def test_unequal_labels_with_weights_and_macro_f1(
    share: int, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    """Of 200 texts `share` % are positive, besides labels of 1, 2 and 3 rows."""
    positive = 2 * share
    rows = [f"we won {i},good" for i in range(positive)] + [f"he broke it {i},bad" for i in range(200 - positive)]
    rows += [f"{name} {i},{name}" for name, count in (("odd", 1), ("rare", 2), ("scarce", 3)) for i in range(count)]
    (tmp_path / "moods.csv").write_text("\n".join(["text,label", *rows]) + "\n", "utf-8")
    config = config_for(str(tmp_path / "moods.csv"), [bert_folder], seeds=1)
    training = config.training.model_copy(update={"metric": "macro_f1", "max_epochs": 60, "learning_rate": 1e-2})
    config = config.model_copy(update={"training": training, "class_weight": "balanced"})
    task = load_task(config.task)
    assert any("'odd' 1 in train" in note for note in task.notes)
    metrics = run(config, task, tmp_path / "run", work).metrics
    assert metrics["test"]["macro_f1"]["mean"] > metrics["baselines"]["majority_class"]["test"]["macro_f1"]
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["run"]
    assert (written["class_weight"], written["training"]["metric"]) == ("balanced", "macro_f1")


def test_class_weights_are_those_of_the_estimator(
    folder: Path, bert_folder: Path, tmp_path: Path, work: RunContext
) -> None:
    config = config_for(str(folder), [bert_folder], seeds=1).model_copy(update={"class_weight": "balanced"})
    task = load_task(config.task)
    run(config, task, tmp_path / "run", work)
    parts = {name: (part.texts, [task.labels[i] for i in task.targets(name)]) for name, part in task.splits.items()}
    estimator = FusionClassifier(
        config.encoders,
        "linear",
        training=config.training,
        class_weight="balanced",
        device="cpu",
        store=str(work.store.root),
    ).fit(*parts["train"], X_valid=parts["valid"][0], y_valid=parts["valid"][1])
    saved = load_model(tmp_path / "run" / "model")
    for name, tensor in saved.head.state_dict().items():
        torch.testing.assert_close(tensor, estimator.head_.state_dict()[name])


def test_class_weights_of_several_labels_are_refused(bert_folder: Path, tmp_path: Path, work: RunContext) -> None:
    rows = [f'we won {i},"good,bad"' if i % 2 else f"he broke it {i},bad" for i in range(40)]
    (tmp_path / "moods.csv").write_text("\n".join(["text,label", *rows]) + "\n", "utf-8")
    config = config_for(str(tmp_path / "moods.csv"), [bert_folder], seeds=1)
    several = config.task.model_copy(update={"multilabel": True})
    config = config.model_copy(update={"task": several, "class_weight": "balanced"})
    with pytest.raises(UsageError, match="`class_weight`"):
        run(config, load_task(several), tmp_path / "run", work)
    assert work.store.entries() == []
