"""Learning curves: draws, rows that resume, and the script from outside on small data sets."""

import csv
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from command import program

from fusion_classifier.config import EnsembleConfig

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "accuracy"
WORDS = {"joy": "happy glad smile", "anger": "angry furious rage", "fear": "afraid scared panic"}


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data sets in the layout: `trec` without a validation split, `subj` with all three."""
    folder = tmp_path_factory.mktemp("data")
    for name, splits in (("trec", {"train": 150, "test": 30}), ("subj", {"train": 90, "valid": 30, "test": 30})):
        (folder / "small" / name).mkdir(parents=True)
        for split, count in splits.items():
            with (folder / "small" / name / f"{split}.csv").open("w", newline="", encoding="utf-8") as stream:
                rows = csv.writer(stream)
                rows.writerow(["text", "label"])
                for i in range(count):
                    label = list(WORDS)[i % 3]
                    rows.writerow([f"{split} {i} {WORDS[label].split()[i // 3 % 3]}, I said", label])
    return folder


def test_draws_are_nested_and_stratified(module: Callable[[str], ModuleType]) -> None:
    of = module("curve_data")
    labels = np.repeat([0, 1, 2], [3, 50, 200])
    small, large = (of.draw_rows(labels, n, 0) for n in (8, 16))
    assert np.bincount(labels[small]).tolist() == [3, 8, 8]
    assert np.bincount(labels[large]).tolist() == [3, 16, 16]
    assert set(small) < set(large)
    assert small.tolist() == of.draw_rows(labels, 8, 0).tolist()
    assert small.tolist() != of.draw_rows(labels, 8, 1).tolist()
    assert len(of.draw_rows(labels, "all", 3)) == len(labels)
    assert of.same_as_all(labels, 200)
    assert not of.same_as_all(labels, 199)
    # The same on every machine: another version of NumPy must not change what "draw 0" is.
    assert of.draw_rows(np.repeat([0, 1], 10), 2, 0).tolist() == [2, 8, 11, 18]


def test_held_out_rows_are_no_part_of_the_pool(module: Callable[[str], ModuleType], data: Path) -> None:
    of = module("curve_data")
    trec, subj = (of.load_corpus(data, name) for name in ("trec", "subj"))
    assert (len(trec.pool), len(trec.valid)) == (90, 60)
    assert not set(trec.pool.texts) & set(trec.valid.texts)
    assert np.bincount(trec.valid.labels).tolist() == [20, 20, 20]
    assert (len(subj.pool), len(subj.valid), len(subj.test)) == (90, 30, 30)
    assert trec.classes == ("anger", "fear", "joy")
    with pytest.raises(ValueError, match="nowhere"):
        of.load_corpus(data, "nowhere")


def test_the_test_split_of_ed_is_never_read(module: Callable[[str], ModuleType], tmp_path: Path) -> None:
    of = module("curve_data")
    for split in ("train", "valid"):
        (tmp_path / "ED").mkdir(exist_ok=True)
        (tmp_path / "ED" / f"{split}.csv").write_text("text,label\na,0\nb,1\n", "utf-8")
    (tmp_path / "ED" / "test.csv").write_text("not to be read", "utf-8")
    corpus = of.load_corpus(tmp_path, "ED")
    assert corpus.test is None
    with pytest.raises(ValueError, match="no test split"):
        corpus.judged("test")


def test_ece_is_that_of_the_package(module: Callable[[str], ModuleType]) -> None:
    from fusion_classifier.evaluation.metrics import expected_calibration_error

    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([0.4] * 4, 500)
    labels = rng.integers(0, 4, 500)
    found = module("curve_rows").expected_calibration_error(labels, probabilities)
    assert found == pytest.approx(expected_calibration_error(labels, probabilities))


def test_a_row_cut_off_is_trained_again(module: Callable[[str], ModuleType], tmp_path: Path) -> None:
    of, file = module("curve_rows"), tmp_path / "rows.jsonl"
    row = {"dataset": "trec", "split": "valid", "n": 8, "draw": 0, "system": "svm"}
    of.append_row(file, row)
    with file.open("a", encoding="utf-8") as stream:
        stream.write('{"dataset": "trec", "spl')
    assert of.read_rows(file) == [row]
    of.append_row(file, row | {"draw": 1})
    assert [found["draw"] for found in of.read_rows(file)] == [0, 1]
    file.write_text("{}\n" + file.read_text("utf-8"), "utf-8")
    with pytest.raises(ValueError, match="line 1"):
        of.read_rows(file)


def test_steps_are_those_that_setfit_takes(module: Callable[[str], ModuleType]) -> None:
    of = module("learning_curve_peers")
    pytest.importorskip("datasets")
    trained = module("trained")
    # 6 classes of 8: 6·36 pairs with one label, 960 with two; the rarer kind repeated: 1,920 pairs, 16 a step.
    assert trained.setfit_default_steps(np.repeat(np.arange(6), 8)) == 120
    assert of.setfit_steps(np.repeat(np.arange(6), 8)) == -1
    assert of.setfit_steps(np.repeat(np.arange(77), 8)) == 1540  # 20 pairs of each kind a text
    assert of.setfit_steps(np.repeat(np.arange(150), 64)) == 3000
    assert [of.fine_tuning_epochs(n) for n in (128, 1280, 20_000)] == [30, 25, 4]


def test_differences_are_paired_over_draws(module: Callable[[str], ModuleType]) -> None:
    of = module("learning_curve_report")

    def rows(system: str, n: int | str, accuracies: list[float]) -> list[dict[str, object]]:
        one = {"dataset": "trec", "split": "valid", "n": n, "system": system, "rows": 48, "macro_f1": 0.5}
        return [
            one | {"draw": draw, "accuracy": accuracy, "ece": None, "train_seconds": 1.0}
            for draw, accuracy in enumerate(accuracies)
        ]

    found = [
        *rows("ours", 8, [0.60, 0.70, 0.80]),
        *rows("lr-1", 8, [0.40, 0.40, 0.40]),
        *rows("lr-10", 8, [0.58, 0.69, 0.77]),
        *rows("knn", 8, [0.30, 0.90]),
        *rows("setfit", 8, [0.99, 0.99, 0.99]),
        *rows("finetune", 8, [0.60]),
        *rows("ours", "all", [0.90, 0.92]),
        *rows("lr-10", "all", [0.92]),
    ]
    points = of.gather(found, "valid")
    systems = points["trec", "8"]
    assert systems["lr"] == systems["lr-10"]  # the C that is best at the point
    assert of.best_peer(systems, "ours") == "lr"  # SetFit trains the encoder: it is compared apart
    gap = of.difference(systems["ours"], systems["lr"])
    assert (gap.value, gap.draws) == (pytest.approx(2.0), 3)
    assert gap.half_width == pytest.approx(4.303 * 1.0 / 3**0.5, abs=0.01)
    assert gap.p == pytest.approx(0.0742, abs=0.001)
    once = of.difference(systems["ours"], systems["finetune"])  # one draw is compared with that draw alone
    assert (once.value, once.half_width, once.draws) == (pytest.approx(0.0), None, 1)
    assert systems["setfit"].seconds == {}  # another machine's
    timed = [row | {"machine": "processor", "extract_seconds": 1.0} for row in found if row["n"] == 8]
    timed = [row | {"train_seconds": 40.0} if row["system"] == "setfit" else row for row in timed]
    both = of.tables(of.gather([*timed, *found], "valid"), "ours")
    assert "SetFit takes 40 times the training seconds of `ours`, 20 times with its features' extraction" in both
    everything = points["trec", "all"]
    assert of.difference(everything["ours"], everything["lr"]).value == pytest.approx(-1.0)
    text = of.tables(points, "ours")
    assert "over 2 points, lowest -1.0; 1 of them more than 0.5 below" in text
    with pytest.raises(ValueError, match="test"):
        of.gather(found, "test")
    with pytest.raises(ValueError, match="other rows"):  # of another machine, whose draw 0 differs
        of.gather([row | {"drawn": int(row["system"] == "knn")} for row in found], "valid")


@pytest.fixture(scope="module")
def curve(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    store = tmp_path_factory.mktemp("store")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return program(SCRIPTS / "learning_curve.py", "--store", store, *arguments)

    return run


@pytest.mark.slow
@pytest.mark.usefixtures("few_penalties", "few_steps")
def test_curves_resume_and_are_summed_up(
    curve: Callable[..., subprocess.CompletedProcess[str]], data: Path, bert_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "curve.jsonl"
    order = ["--data", str(data), "--out", str(out), "--encoder", str(bert_folder), "--datasets", "trec,subj"]
    order += ["--heads", "fusion", "--sizes", "8,64,all", "--draws", "0,1", "--systems", "lr-10,knn,svm,tfidf"]
    first = curve(*order)
    assert first.returncode == 0, first.stderr
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    # 64 rows per class are all of the 30: the point is left out. All rows: without a seed once, ours with both.
    assert {(row["n"], row["rows"]) for row in rows} == {(8, 24), ("all", 90)}
    assert len(rows) == 2 * (2 * 5 + 4 + 2)
    assert all(row["split"] == "valid" and 0 <= row["accuracy"] <= 1 for row in rows)
    assert all((row["ece"] is None) == (row["system"] == "svm") for row in rows)
    # The words of a class tell it: who reads words finds them.
    assert min(row["accuracy"] for row in rows if (row["system"], row["n"]) == ("tfidf", "all")) > 0.95

    assert curve(*order).returncode == 0
    assert len(out.read_text("utf-8").splitlines()) == len(rows)

    summary = curve("--summary", str(out), "--plots", str(tmp_path / "plots"), "--main", "fusion")
    assert summary.returncode == 0, summary.stderr
    assert "five lines, best C" in summary.stdout
    names = {file.name for file in (tmp_path / "plots").iterdir()}
    of_sets = {f"learning-curve-{d}-{kind}.svg" for d in ("trec", "subj") for kind in ("accuracy", "seconds")}
    assert names == {"learning-curves.svg"} | of_sets


def test_the_default_head_may_leave_out_its_upper_layers(module: Callable[[str], ModuleType]) -> None:
    head_of = module("curve_systems").head_of
    assert head_of("ensemble-frozen") == EnsembleConfig(upper_layers=False)
    assert head_of("ensemble") == "ensemble"


@pytest.mark.slow
def test_a_system_may_read_one_of_several_encoders(
    curve: Callable[..., subprocess.CompletedProcess[str]],
    data: Path,
    bert_folder: Path,
    roberta_folder: Path,
    tmp_path: Path,
) -> None:
    out, encoders = tmp_path / "curve.jsonl", f"{bert_folder}+{roberta_folder}"
    order = ["--data", str(data), "--out", str(out), "--encoder", encoders, "--datasets", "trec", "--draws", "0"]
    order += ["--sizes", "8", "--heads", f"linear,linear@{roberta_folder}", "--systems", f"lr-10,lr-10@{bert_folder}"]
    first = curve(*order)
    assert first.returncode == 0, first.stderr
    rows = {row["system"]: row for row in map(json.loads, out.read_text("utf-8").splitlines())}
    assert list(rows) == ["linear", f"linear@{roberta_folder}", "lr-10", f"lr-10@{bert_folder}"]
    assert len({row["drawn"] for row in rows.values()}) == 1

    summary = curve("--summary", str(out), "--main", "linear")
    assert f"five lines, C = 10, {bert_folder}" in summary.stdout
    alone = curve(*order[:4], "--encoder", str(bert_folder), *order[6:], "--out", str(tmp_path / "alone.jsonl"))
    assert "is not an encoder of --encoder" in alone.stderr
    order[order.index("--heads") + 1] = "linear"
    order[order.index("--encoder") + 1] = str(bert_folder)
    order[order.index("--systems") + 1] = "lr-10"
    assert curve(*order, "--out", str(tmp_path / "alone.jsonl")).returncode == 0
    alone_rows = {row["system"]: row for row in map(json.loads, (tmp_path / "alone.jsonl").read_text().splitlines())}
    assert alone_rows["lr-10"]["accuracy"] == rows[f"lr-10@{bert_folder}"]["accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--data", "DATA", "--out", "OUT", "--systems", "svm2"], "svm2"),
        (["--data", "DATA", "--out", "OUT", "--heads", "fussion"], "fussion"),
        (["--data", "DATA", "--out", "OUT", "--datasets", "nothing"], "nothing"),
        (["--data", "DATA", "--out", "OUT", "--sizes", "0"], "rows per class"),
        (["--summary", "OUT"], "no rows"),
        ([], "--summary"),
    ],
)
def test_bad_input_is_a_sentence(
    curve: Callable[..., subprocess.CompletedProcess[str]],
    data: Path,
    tmp_path: Path,
    arguments: list[str],
    named: str,
) -> None:
    places = {"DATA": str(data), "OUT": str(tmp_path / "none.jsonl")}
    found = curve(*(places.get(argument, argument) for argument in arguments))
    assert found.returncode != 0
    assert named in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.slow
def test_peers_are_trained_in_processes(
    data: Path, bert_folder: Path, tmp_path: Path, module: Callable[[str], ModuleType]
) -> None:
    """Without this package on the path, as on the machine that they are for."""
    out, copy = tmp_path / "peers.jsonl", tmp_path / "scripts"
    copy.mkdir()
    for name in ("curve_data", "curve_rows", "trained", "learning_curve_peers"):
        (copy / f"{name}.py").write_bytes((SCRIPTS / f"{name}.py").read_bytes())
    (copy / "fusion_classifier.py").write_text("raise ImportError('the peers need the package')", "utf-8")
    command = [sys.executable, str(copy / "learning_curve_peers.py"), "--data", str(data), "--out", str(out)]
    command += ["--encoder", str(bert_folder), "--datasets", "trec", "--systems", "finetune", "--sizes", "64,all"]
    command += ["--draws", "0,1", "--workers", "2"]
    first = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=os.environ)
    assert first.returncode == 0, first.stderr
    rows = {(row["n"], row["draw"], row["split"]): row for row in module("curve_rows").read_rows(out)}
    assert set(rows) == {("all", draw, split) for draw in (0, 1) for split in ("valid", "test")}
    assert rows["all", 0, "valid"]["setting"] == {"learning_rate": 1e-4, "epochs": 30}
    again = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=os.environ)
    assert again.returncode == 0, again.stderr
    assert len(module("curve_rows").read_rows(out)) == len(rows)
