"""Ablation on small real encoders: every combination, with the features that the store has or lacks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion_classifier.commands.ablate import _compare, _correct, ablate, slug, subsets
from fusion_classifier.config import RunConfig, TaskConfig
from fusion_classifier.encoders.spec import parse_encoders
from fusion_classifier.errors import UsageError
from fusion_classifier.evaluation.predictions import SplitPredictions, read_predictions
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.fusion.registry import parse_head
from fusion_classifier.runs.context import RunContext
from fusion_classifier.runs.features import extract_task
from fusion_classifier.support.progress import QUIET
from fusion_classifier.tasks.loaded import LoadedTask, Split
from fusion_classifier.training.defaults import recipe

ROWS = [("we won", 0), ("he broke it", 1), ("it is dark", 2)]


def task_of(rows: int) -> LoadedTask:
    def split(name: str, count: int) -> Split:
        chosen = [(f"{text} {name} {i}", label) for i in range(count) for text, label in ROWS]
        return Split(tuple(text for text, _ in chosen), tuple(label for _, label in chosen))

    splits = {"train": split("a", rows), "valid": split("b", 8)}
    return LoadedTask("moods", ("joy", "anger", "fear"), splits, "here")


def config_of(encoders: list[Path], head: str) -> RunConfig:
    return RunConfig(
        task=TaskConfig(name="moods"),
        encoders=parse_encoders([f"{path}?dtype=float32" for path in encoders]),
        head=parse_head(head),
        training=recipe("default", head, max_epochs=1),
        seeds=(0,),
    )


@pytest.fixture
def work(tmp_path: Path) -> RunContext:
    return RunContext(FeatureStore(tmp_path / "store"), torch.device("cpu"), QUIET)


@pytest.mark.slow
def test_every_subset_under_every_head(
    bert_folder: Path, roberta_folder: Path, llama_folder: Path, work: RunContext, tmp_path: Path
) -> None:
    task = task_of(8)
    by_head = {"linear": [bert_folder, roberta_folder, llama_folder], "fusion": [bert_folder, roberta_folder]}
    configs = [config_of(encoders, head) for head, encoders in by_head.items()]
    extract_task(task, ["train", "valid"], configs[0].encoders, work)
    out = tmp_path / "out"
    found = ablate(configs, task, "valid", out, work)
    assert len(found["combinations"]) == 7 + 3
    assert json.loads((out / "ablation.json").read_text()) == found
    assert (out / "ablation.png").stat().st_size > 5000
    for config in configs:
        head, names = config.head.name, [encoder.name for encoder in config.encoders]
        added = [one for one in found["added"] if one["head"] == head]
        assert [one["encoder"] for one in added[:-1]] == names
        assert added[-1]["best_single"]
        full, rest = (
            next(c for c in found["combinations"] if c["head"] == head and c["encoders"] == wanted)
            for wanted in (names, names[1:])
        )
        difference = full["metrics"]["accuracy"]["mean"] - rest["metrics"]["accuracy"]["mean"]
        assert added[0]["metrics"]["accuracy"]["difference"] == pytest.approx(difference)
    folder = out / "fusion" / "+".join(slug(name) for name in names)
    assert set(read_predictions(folder / "predictions.parquet")) == {"valid"}
    # Again: nothing is trained a second time.
    heads = {path: path.stat().st_mtime_ns for path in out.rglob("seeds/*/model.safetensors")}
    assert len(heads) == 7 + 3
    assert ablate(configs, task, "valid", out, work)["added"] == found["added"]
    assert {path: path.stat().st_mtime_ns for path in heads} == heads


def test_the_best_on_test_is_chosen_on_validation() -> None:
    """Encoder a has the best validation, b the best test accuracy: what is added is measured against a."""
    labels = np.array([0, 1, 1, 0])
    right, half = labels, np.array([0, 0, 0, 0])
    parts: dict[tuple[str, ...], SplitPredictions] = {
        names: SplitPredictions("test", ["0"] * 4, labels, {0: np.eye(2)[answers]}, {0: answers})
        for names, answers in ((("a",), half), (("b",), right), (("a", "b"), right))
    }
    *_, last = _compare(parts, {("a",): 0.9, ("b",): 0.8, ("a", "b"): 0.9}, 2)
    assert last["best_single"]
    assert last["to"] == ("a",)


def test_p_is_corrected_for_the_number_of_comparisons() -> None:
    """Three comparisons, of which two are the same one."""
    added = [{"head": "linear", "to": to, "metrics": {"accuracy": {"p": p}}} for to, p in (("b", 0.04), ("a", 0.01))]
    added.append({"head": "linear", "to": "a", "metrics": {"accuracy": {"p": 0.01}}})
    _correct(added)
    assert [one["metrics"]["accuracy"]["p_holm"] for one in added] == [0.04, 0.02, 0.02]  # type: ignore[index]


def test_features_that_the_store_lacks_are_extracted(
    bert_folder: Path, roberta_folder: Path, work: RunContext, tmp_path: Path
) -> None:
    task = task_of(8)
    config = config_of([bert_folder, roberta_folder], "linear")
    extract_task(task, ["train", "valid"], config.encoders[:1], work)
    assert len(ablate([config], task, "valid", tmp_path / "out", work)["combinations"]) == 3
    for encoder in config.encoders:
        (report,) = extract_task(task, ["train", "valid"], [encoder], work)
        assert report.encoded == 0


def test_too_many_combinations_are_refused(bert_folder: Path, work: RunContext, tmp_path: Path) -> None:
    specs = [f"{bert_folder}?max_length={n}" for n in range(20, 28)]
    config = config_of([bert_folder], "linear").model_copy(update={"encoders": parse_encoders(specs)})
    with pytest.raises(UsageError, match="255 combinations"):
        ablate([config], task_of(8), "valid", tmp_path / "out", work)
    assert len(subsets(config.encoders)) == 255
