"""The benchmark of scores for unknown texts, from outside on small data sets."""

import csv
from pathlib import Path

import numpy as np
import pytest
from command import program

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "accuracy" / "unknown.py"
WORDS = {
    "joy": "happy glad smile",
    "anger": "angry furious rage",
    "fear": "afraid scared panic",
    "calm": "quiet rest",
}


def write(path: Path, rows: list[tuple[str, ...]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


@pytest.mark.slow
def test_candidates_and_the_product_are_measured(bert_folder: Path, tmp_path: Path) -> None:
    order = np.random.default_rng(0)
    labelled = [
        (f"{order.choice(words.split())} {label} {i}", label) for i in range(60) for label, words in WORDS.items()
    ]
    for name in ("clinc150", "trec"):
        write(tmp_path / "small" / name / "train.csv", [("text", "label"), *labelled])
    write(
        tmp_path / "small" / "clinc150" / "valid.csv", [("text", "label"), *((f"{t}!", y) for t, y in labelled[:80])]
    )
    write(
        tmp_path / "small" / "clinc150" / "oos_valid.csv", [("text",), *((f"%% {i} ## {i} $$",) for i in range(20))]
    )
    places = ("--data", str(tmp_path), "--encoder", str(bert_folder), "--store", str(tmp_path / "store"))
    done = program(SCRIPT, *places, "--datasets", "clinc150", "trec")
    assert done.returncode == 0, done.stderr
    header, *lines = done.stdout.splitlines()
    assert header.split("  ")[-1].strip() == "mean"
    assert all(title in header for title in ("clinc150", "clinc150, 16", "trec", "trec, 16"))
    figures = {line[:42].strip(): [float(value) for value in line[42:].split()] for line in lines}
    assert all(len(values) == 5 and 0 <= min(values) <= max(values) <= 100 for values in figures.values())
    for name in ("max probability", "LDA cosine", "kNN 3", "log-odds + kNN 3", "linear: AUROC"):
        assert name in figures
    assert figures["linear: AUROC"][0] > 90, "symbols are not like words"
