"""Whatever has become of a run folder's files, every command that reads it gives a result or one sentence.

FEC_FUZZ_EXAMPLES=2000 pytest tests/faults/test_run_folders.py tries more.
"""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzzing import EXAMPLES, command_ends, damaged, fuzzed, given, mutated, settled, st
from hypothesis import settings

from fusion_classifier.classifier.folder import load_model
from fusion_classifier.evaluation.predictions import read_predictions
from fusion_classifier.runs.seeds import read_seed

resource = pytest.importorskip("resource", reason="POSIX only")
pytestmark = [pytest.mark.linux, pytest.mark.slow]  # many commands or trainings

TASK = ["data.csv", "--head", "linear", "--epochs", "2", "--seeds", "2", "--store", "store", "--out", "run"]


@pytest.fixture(scope="module")
def finished(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with data, a store and a run, and the command that made it."""
    folder = tmp_path_factory.mktemp("finished") / "here"
    folder.mkdir()
    rows = [f"{text} {i},{label}" for i in range(10) for text, label in [("we won", "joy"), ("it is dark", "fear")]]
    (folder / "data.csv").write_text("\n".join(["text,label", *rows]) + "\n", "utf-8")
    command = ["run", *TASK, "-e", f"{bert_folder}?dtype=float32&max_length=64"]
    assert command_ends(command, folder) == 0
    shutil.copytree(folder / "run", folder / "other")
    return folder, command


READERS = {
    "report": ["report", "run"],
    "compare": ["compare", "other", "run"],
    "evaluate": ["evaluate", "run", "--store", "store"],
    "predict": ["predict", "run", "we won"],
    "explain": ["explain", "run", "we won"],
    "optimize": ["optimize", "run", "--out", "graphs", "--no-encoders"],
}


@pytest.mark.parametrize("reader", [*READERS, "run"])
@settings(fuzzed, max_examples=max(4, EXAMPLES // 8))
@given(seed=st.integers(0, 2**32))
def test_any_damage_to_a_run_folder(
    reader: str, seed: int, finished: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole, command = finished
    here, draw = tmp_path_factory.mktemp("run") / "here", random.Random(seed)
    shutil.copytree(whole, here)
    files = sorted(path for path in (here / "run").rglob("*") if path.is_file() and path.suffix != ".png")
    file = draw.choice(files)
    way = draw.choice(["gone", "folder", "empty", "damaged", "odd", "odd"])
    content = file.read_bytes()
    file.unlink()
    if way == "folder":
        file.mkdir()
    elif way == "odd" and file.suffix == ".json":
        file.write_text(json.dumps(mutated(json.loads(content), draw)), "utf-8")
    elif way != "gone":
        file.write_bytes(b"" if way == "empty" else damaged(content, draw))
    command_ends(READERS.get(reader, command), here)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", '{"valid": {}, "seeds": [0, 1], "test": {"accuracy": 1}}'),
        ("seeds/0/training.json", '{"best_epoch": 1, "history": [{"valid_loss": NaN, "train_loss": NaN}]}'),
        ("config.yaml", "run: [a, list]"),
    ],
)
def test_a_report_of_other_files_than_a_runs_is_refused(
    name: str, content: str, finished: tuple[Path, list[str]], tmp_path: Path
) -> None:
    shutil.copytree(finished[0] / "run", tmp_path / "run")
    (tmp_path / "run" / name).write_text(content, "utf-8")
    assert command_ends(["report", "run"], tmp_path) == 1


def test_a_seed_whose_head_is_gone_is_said_with_the_way_out(finished: tuple[Path, list[str]], tmp_path: Path) -> None:
    shutil.copytree(finished[0], tmp_path / "here")
    seed = tmp_path / "here" / "run" / "seeds" / "0"
    (seed / "model.safetensors").unlink()
    said = settled(lambda: read_seed(seed, 0))
    assert said
    assert f"delete {seed} to train seed 0" in said


def test_a_model_with_a_label_twice_is_refused(finished: tuple[Path, list[str]], tmp_path: Path) -> None:
    shutil.copytree(finished[0] / "run" / "model", tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"id2label": {"0": "joy", "1": "joy"}}), "utf-8")
    said = settled(lambda: load_model(tmp_path / "model"))
    assert said
    assert said.endswith("id2label contains a duplicate label")


def test_a_configuration_of_a_billion_aliases_is_refused(finished: tuple[Path, list[str]]) -> None:
    folder, command = finished
    whole = (folder / "run" / "config.yaml").read_text("utf-8")
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    for bomb in ("\n".join([*lines, whole]), "\n".join([*lines, "run: *a29", "environment: *a29"])):
        (folder / "run" / "config.yaml").write_text(bomb, "utf-8")
        for arguments in [*READERS.values(), command]:
            command_ends(arguments, folder)
    (folder / "run" / "config.yaml").write_text(whole, "utf-8")


@pytest.mark.parametrize("characters", [10, 1_000_000])
def test_predictions_that_unpack_to_gigabytes_are_refused(characters: int, tmp_path: Path) -> None:
    rows = 500_000_000 // characters
    once = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array(["a" * characters]))
    lists = pa.ListArray.from_arrays(pa.array(np.arange(rows + 1), pa.int32()), once)
    path = tmp_path / "predictions.parquet"
    table = pa.table({"split": once, "label": lists})
    pq.write_table(table, path, compression="zstd", store_schema=False)
    del table, lists, once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = settled(lambda: read_predictions(path, multilabel=True))
    assert said
    assert "damaged or malicious" in said
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024 < 400
