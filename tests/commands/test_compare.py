"""Two run folders against each other: which split, which notes, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from fusion_classifier.commands.compare import compare_runs
from fusion_classifier.errors import FecError, UsageError
from fusion_classifier.evaluation import significance
from fusion_classifier.evaluation.predictions import SplitPredictions, write_predictions

NAMES = ["anger", "fear", "joy"]


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(significance, "RESAMPLES", 200)


def run_folder(
    folder: Path, seed: int, skill: float = 1.0, splits: tuple[str, ...] = ("valid", "test"), n_seeds: int = 2
) -> Path:
    """A folder with the predictions of a run that is better than chance by `skill`."""
    rng = np.random.default_rng(seed)
    parts = []
    for split in splits:
        labels = np.arange(90) % 3
        by_seed = {}
        for one in range(n_seeds):
            logits = rng.normal(size=(90, 3)) + skill * np.eye(3)[labels]
            by_seed[one] = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
        hashes = [f"{split}{i:027x}"[:32] for i in range(90)]
        answers = {seed: probabilities.argmax(1) for seed, probabilities in by_seed.items()}
        parts.append(SplitPredictions(split, hashes, labels, by_seed, answers))
    folder.mkdir(parents=True)
    write_predictions(parts, NAMES, folder / "predictions.parquet")
    return folder


def test_test_is_compared_where_both_have_it(tmp_path: Path) -> None:
    found = compare_runs(run_folder(tmp_path / "a", 1, 4), run_folder(tmp_path / "b", 2))
    assert found.split == "test"
    assert found.notes == ()
    assert found.sentence.startswith("a is better than b by ")
    html = found._repr_html_()  # in a notebook
    assert "<th>a</th><th>b</th>" in html
    assert found.sentence.partition(" (")[0] in html


def test_validation_is_compared_where_one_has_no_test(tmp_path: Path) -> None:
    a, b = run_folder(tmp_path / "a", 1), run_folder(tmp_path / "b", 2, splits=("valid",))
    found = compare_runs(a, b)
    assert found.split == "valid"
    assert "not both runs have a test split" in found.notes[0]
    assert compare_runs(a, b, "valid").notes == ()


def test_a_single_seed_and_seeds_without_a_partner_are_said(tmp_path: Path) -> None:
    found = compare_runs(run_folder(tmp_path / "a", 1, n_seeds=1), run_folder(tmp_path / "b", 2, n_seeds=3))
    assert len(found.found.by_seed) == 1
    assert "single seed" in found.notes[0]
    assert "1 and 3" in found.notes[1]


def test_folders_of_one_name_are_called_a_and_b(tmp_path: Path) -> None:
    found = compare_runs(run_folder(tmp_path / "x/run", 1, 4), run_folder(tmp_path / "y/run", 2))
    assert found.sentence.startswith("A is better than B by ")


def test_figures_say_what_the_tables_show(tmp_path: Path) -> None:
    figures = compare_runs(run_folder(tmp_path / "a", 1), run_folder(tmp_path / "b", 2)).figures()
    accuracy = figures["metrics"]["accuracy"]
    assert accuracy["a"]["mean"] - accuracy["b"]["mean"] == pytest.approx(accuracy["difference"])
    assert figures["runs"]["a"]["seeds"] == [0, 1]
    assert set(figures["mcnemar"]["ensemble"]) == {
        "a_accuracy",
        "b_accuracy",
        "a_only",
        "b_only",
        "p",
        "odds_ratio",
        "odds_ratio_ci95",
        "cohens_g",
        "cohens_g_ci95",
    }


def test_what_is_no_run_is_refused_by_name(tmp_path: Path) -> None:
    good = run_folder(tmp_path / "good", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(FecError, match=r"nowhere.*`fec run`"):
        compare_runs(tmp_path / "nowhere", good)
    with pytest.raises(FecError, match="file"):
        compare_runs(good, tmp_path / "file")
    with pytest.raises(FecError, match=r"empty/predictions.parquet.*`fec run`"):
        compare_runs(good, tmp_path / "empty")
    with pytest.raises(UsageError, match="not a valid path"):
        compare_runs(good, tmp_path / ("x" * 300))


def test_a_split_that_is_not_there_is_named(tmp_path: Path) -> None:
    a, b = run_folder(tmp_path / "a", 1), run_folder(tmp_path / "b", 2, splits=("valid",))
    with pytest.raises(UsageError, match="`split`: 'train'"):
        compare_runs(a, b, "train")
    with pytest.raises(FecError, match=r"test split.*b has valid"):
        compare_runs(a, b, "test")
    c = run_folder(tmp_path / "c", 3, splits=("test",))
    with pytest.raises(FecError, match=r"same split.*b has valid.*c has test"):
        compare_runs(b, c)


def test_runs_on_other_texts_are_refused_with_both_folders(tmp_path: Path) -> None:
    a, b = run_folder(tmp_path / "a", 1), tmp_path / "b"
    b.mkdir()
    equal = {0: np.full((90, 3), 1 / 3)}
    part = SplitPredictions("test", ["f" * 32] * 90, np.arange(90) % 3, equal, {0: np.zeros(90, np.int64)})
    write_predictions([part], NAMES, b / "predictions.parquet")
    with pytest.raises(FecError, match=r"a and .*b, test split: the runs were evaluated on different texts"):
        compare_runs(a, b)


def test_a_cross_validated_run_beside_a_split_one_is_explained(tmp_path: Path) -> None:
    folders = tmp_path / "a", tmp_path / "b"
    for folder, texts in zip(folders, (90, 9), strict=True):
        folder.mkdir()
        equal = {0: np.full((texts, 3), 1 / 3)}
        part = SplitPredictions(
            "valid", ["f" * 32] * texts, np.arange(texts) % 3, equal, {0: np.zeros(texts, np.int64)}
        )
        write_predictions([part], NAMES, folder / "predictions.parquet")
    with pytest.raises(FecError, match=r"90 and 9 texts.*both cross-validated or neither"):
        compare_runs(*folders)
