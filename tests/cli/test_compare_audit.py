"""`fec compare` and `fec audit`: what they print, where, and with which exit code."""

import json
from pathlib import Path

import numpy as np
import pytest
from command import fec

from fusion_classifier.evaluation.predictions import SplitPredictions, write_predictions

pytestmark = pytest.mark.slow  # many commands or trainings

NAMES = ["anger", "fear", "joy"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `strong`, `weak [b]` (60 texts of test, two seeds) and `other` (other texts)."""
    folder = tmp_path_factory.mktemp("runs")
    labels = np.arange(60) % 3
    for name, skill, first in (("strong", 5.0, "a"), ("weak [b]", 0.0, "a"), ("other", 1.0, "b")):
        rng = np.random.default_rng(len(name))
        by_seed = {}
        for seed in (0, 1):
            logits = rng.normal(size=(60, 3)) + skill * np.eye(3)[labels]
            by_seed[seed] = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
        (folder / name).mkdir()
        hashes = [f"{first}{i:031x}" for i in range(60)]
        answers = {seed: probabilities.argmax(1) for seed, probabilities in by_seed.items()}
        part = SplitPredictions("test", hashes, labels, by_seed, answers)
        write_predictions([part], NAMES, folder / name / "predictions.parquet")
    (folder / "empty").mkdir()
    (folder / "broken").mkdir()
    content = (folder / "strong" / "predictions.parquet").read_bytes()
    (folder / "broken" / "predictions.parquet").write_bytes(content[: len(content) // 2])
    return folder


@pytest.mark.parametrize("command", ["compare", "audit"])
def test_help_has_an_example(command: str) -> None:
    assert f"Example:  fec {command} " in fec(command, "--help").stdout


def test_compare_prints_tables_and_a_sentence(runs: Path) -> None:
    done = fec("compare", runs / "strong", runs / "weak [b]")
    assert done.returncode == 0, done.stderr
    assert "A: strong" in done.stdout
    assert "B: weak [b]" in done.stdout
    assert "mean of all seeds" in done.stdout
    assert "strong is better than weak [b] by" in done.stdout
    assert done.stderr == ""


def test_compare_as_json_says_the_same_the_other_way_round(runs: Path) -> None:
    there = json.loads(fec("compare", runs / "strong", runs / "weak [b]", "--json").stdout)
    back = json.loads(fec("compare", runs / "weak [b]", runs / "strong", "--split", "test", "--json").stdout)
    assert (there["verdict"], back["verdict"]) == ("a_better", "b_better")
    assert there["sentence"] == back["sentence"]
    assert there["split"] == "test"
    assert there["metrics"]["accuracy"]["difference"] == pytest.approx(-back["metrics"]["accuracy"]["difference"])


def test_a_run_against_itself_shows_no_difference(runs: Path) -> None:
    done = fec("compare", runs / "strong", runs / "strong")
    assert done.returncode == 0, done.stderr
    assert "A and B can't be told apart on these 60 texts" in done.stdout


def test_audit_prints_tables_and_writes_its_folder(tmp_path: Path) -> None:
    done = fec("audit", "demo", "--no-label-errors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "demo: 480 train, 80 valid, 80 test rows" in done.stdout
    assert "Label errors were not searched for" in done.stdout
    assert (tmp_path / "audits" / "demo" / "audit.json").is_file()


def test_audit_as_json_is_what_it_writes(bert_folder: Path, tmp_path: Path) -> None:
    out, store = tmp_path / "out", tmp_path / "store"
    done = fec("audit", "demo", "-e", bert_folder, "--out", out, "--store", store, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((out / "audit.json").read_text("utf-8"))
    assert "\x1b" not in done.stdout + done.stderr


def test_labels_with_brackets_are_shown_as_they_are(tmp_path: Path) -> None:
    rows = [f"text {i},{'[red]' if i % 2 else '[/x]'}" for i in range(30)]
    (tmp_path / "odd.csv").write_text("\n".join(["text,label", *rows]), "utf-8")
    done = fec("audit", tmp_path / "odd.csv", "--no-label-errors", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "[red]" in done.stdout
    assert "[/x]" in done.stdout
    # So few rows are cross-validated; that is said once.
    assert "odd: 30 train rows" in done.stdout
    assert (done.stdout + done.stderr).count("all 30 rows are used for training") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["compare", "nowhere", "strong"], 1, "nowhere/predictions.parquet: no such file"),
        (["compare", "strong", "empty"], 1, "empty/predictions.parquet: no such file"),
        (["compare", "strong", "broken"], 1, "predictions.parquet can't be read"),
        (["compare", "strong", "other"], 1, "different texts"),
        (["compare", "strong", "weak [b]", "--split", "valid"], 1, "no predictions for the valid split"),
        (["compare", "strong", "weak [b]", "--split", "train"], 2, "--split: 'train'"),
        (["compare", "strong"], 2, "RUN_B"),
        (["compare", "strong", "other", "empty"], 2, "empty"),
        (["audit", "no-such-task"], 2, "no task and no file"),
        (["audit", "demo", "-e", "minilm-l6=/no/such/folder"], 1, "no such model folder"),
        (["audit", "demo", "--no-label-errors", "--out", "strong"], 2, "is not an audit folder"),
        (["audit", "demo", "--no-label-errors", "--out", "strong/predictions.parquet"], 2, "is a file"),
    ],
)
def test_errors_are_one_sentence_with_the_right_exit_code(
    arguments: list[str], code: int, message: str, runs: Path
) -> None:
    done = fec(*arguments, cwd=runs)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
