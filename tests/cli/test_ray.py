"""`--engine ray`: the same features and answers as in one process, and its errors; the engine: tests/cluster."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from command import fec

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(800)]

RAY = ("--engine", "ray", "--workers", 2)
WORDS = {"we won": "joy", "he broke it": "anger", "it is dark": "fear"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "moods.csv"
    rows = [f"{text} {i},{label}" for i in range(20) for text, label in WORDS.items()]
    path.write_text("\n".join(["text,label", *rows]) + "\n", "utf-8")
    return path


def test_extraction_is_that_of_this_process(data: Path, bert_folder: Path, tmp_path: Path) -> None:
    command = ("extract", data, "-e", bert_folder, "--store", tmp_path / "store")
    process = [sys.executable, "-m", "fusion_classifier", *map(str, (*command, *RAY))]
    done = subprocess.run(process, capture_output=True, text=True, check=True, timeout=240)
    assert "63 encoded now" in done.stdout
    assert "0 encoded now" in fec(*command).stdout


def test_prediction_is_that_of_this_process(saved_model: Path, data: Path, bert_folder: Path, tmp_path: Path) -> None:
    from fusion_classifier.cluster.pool import RayEngine, connected

    many = tmp_path / "many.jsonl"
    texts = [f"{text} {i}" for i in range(400) for text in WORDS]
    many.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    answers = {}
    with connected(RayEngine(workers=2)):  # the commands join it
        for name, engine in {"local": (), "ray": RAY}.items():
            out = tmp_path / f"{name}.parquet"
            done = fec("predict", saved_model, "--file", many, "--reject-unknown", "--out", out, *engine)
            assert "1,200 rows" in done.stdout, done.stderr
            answers[name] = pq.read_table(out).to_pydict()
        extract = ("extract", data, "-e", bert_folder, "--store", tmp_path / "store", "--engine", "ray")
        refused = fec(*extract, "--workers", 5000)
    assert answers["ray"]["text"] == answers["local"]["text"] == texts
    assert answers["ray"]["label"] == answers["local"]["label"]
    np.testing.assert_allclose(answers["ray"]["score"], answers["local"]["score"], atol=1e-3)
    np.testing.assert_allclose(answers["ray"]["unknown_score"], answers["local"]["unknown_score"], atol=0.01)
    assert (refused.returncode, "--workers: 5000, but there are" in refused.stderr) == (2, True), refused.stderr


def test_errors_are_one_sentence(saved_model: Path, data: Path, bert_folder: Path, tmp_path: Path) -> None:
    extract = ("extract", data, "-e", bert_folder, "--store", tmp_path / "store", *RAY)
    for arguments, says in (
        (("predict", saved_model, "a text", *RAY), "--engine ray requires --file"),
        (("predict", saved_model, "a text", "--workers", 2), "--workers requires --engine ray"),
        (("predict", saved_model, "--file", "-", "--out", tmp_path / "x.jsonl", *RAY), "standard input"),
        ((*extract, "--address", "127.0.0.1:1"), "no Ray at 127.0.0.1:1"),
    ):
        done = fec(*arguments)
        assert says in done.stderr, done.stderr
        assert done.returncode == 2
        assert len([line for line in done.stderr.strip().splitlines() if "was split into" not in line]) == 1
