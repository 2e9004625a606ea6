"""benchmarks/accuracy/accuracy.py from outside, on the demo corpus, and its way of choosing."""

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import program

pytestmark = pytest.mark.slow
SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "accuracy"
SYSTEMS = ("majority", "knn", "fusion")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("accuracy") / "out"


@pytest.fixture(scope="module")
def accuracy(out: Path, minilm: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        places = ("--out", out, "--store", out.parent / "store", "--encoders", minilm)
        return program(SCRIPTS / "accuracy.py", *places, *arguments)

    return run


@pytest.mark.usefixtures("few_penalties", "few_steps")
def test_systems_are_compared_in_one_table(
    accuracy: Callable[..., subprocess.CompletedProcess[str]], out: Path
) -> None:
    order = ("--task", "demo", "--quick", "--limit", "60", "--systems", ",".join(SYSTEMS), "--json")
    first = accuracy(*order)
    assert first.returncode == 0, first.stderr
    rows = {row["system"]: row for row in json.loads(first.stdout)}
    assert set(rows) == set(SYSTEMS)
    assert {row["split"] for row in rows.values()} == {"valid"}  # test is scored only where it is asked for
    majority, fusion = (rows[name]["metrics"]["accuracy"]["mean"] for name in ("majority", "fusion"))
    assert fusion > majority
    # The extraction is paid for by every system that reads features, whoever was first.
    assert rows["knn"]["seconds"]["extract"] > 0
    assert rows["majority"]["seconds"]["extract"] == 0
    assert rows["knn"]["difference_of_main_system"]["accuracy"] == pytest.approx(
        fusion - rows["knn"]["metrics"]["accuracy"]["mean"]
    )

    again = accuracy(*order)
    assert again.stderr.count("finished before") == len(SYSTEMS)
    assert json.loads(again.stdout) == list(rows.values())

    # A run that was killed before it joined its seeds' predictions is joined when the table is printed.
    (out / "demo" / "knn" / "predictions.parquet").unlink()
    table = accuracy("--table", str(out), "--json")
    assert json.loads(table.stdout) == list(rows.values()), table.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--task", "demo", "--systems", "svm2"), "svm2"),
        (("--task", "no-such-file.csv"), "no-such-file.csv"),
        (("--table", "nowhere"), "nowhere"),
        ((), "--task"),
    ],
)
def test_bad_input_is_a_sentence(
    accuracy: Callable[..., subprocess.CompletedProcess[str]], arguments: tuple[str, ...], named: str
) -> None:
    found = accuracy(*arguments)
    assert found.returncode != 0
    assert named in found.stderr
    assert "Traceback" not in found.stderr


def test_the_setting_with_the_best_validation_f1_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    from peers import Problem, search

    from fusion_classifier.tasks.loaded import LoadedTask, Split

    labels = ("calm", "angry")
    split = Split(("a", "b", "c", "d"), (0, 1, 0, 1))
    task = LoadedTask(name="t", labels=labels, splits={"train": split, "valid": split}, source="here")
    answers = {1: [0, 0, 0, 0], 2: [0, 1, 0, 1], 3: [1, 0, 1, 0]}
    tried = []

    def fit(setting: Mapping[str, Any]) -> tuple[int, np.ndarray]:
        tried.append(setting["c"])
        return setting["c"], np.eye(2)[answers[setting["c"]]]

    def problem(settled: dict[str, int] | None, quick: bool) -> Problem:
        return Problem(task, 0, quick, settled, (), None, Path())  # type: ignore[arg-type]

    grid = [{"c": 1}, {"c": 2}, {"c": 3}]
    best, _ = search(problem(None, quick=False), grid, fit)
    assert (best.setting, best.state, tried) == ({"c": 2}, 2, [1, 2, 3])
    tried.clear()
    assert search(problem({"c": 3}, quick=False), grid, fit)[0].setting == {"c": 3}
    assert tried == [3]
