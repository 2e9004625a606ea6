"""Whatever a file holds, reading it gives a result or one sentence: no traceback, no endless memory.

FEC_FUZZ_EXAMPLES=5000 pytest tests/faults/test_input.py tries more.
"""

import gzip
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzzing import ODD, anything, encoded, fuzzed, given, mutated, settled, st

from fusion_classifier.classifier.folder import load_model
from fusion_classifier.classifier.models import BUILT_IN_FOLDER
from fusion_classifier.commands.compare import compare_runs
from fusion_classifier.config import TaskConfig
from fusion_classifier.evaluation.predictions import SplitPredictions, read_predictions, write_predictions
from fusion_classifier.runs.config_file import read_run_config
from fusion_classifier.tasks.readers import texts_of
from fusion_classifier.tasks.registry import describe_tasks, load_task

resource = pytest.importorskip("resource", reason="POSIX only")
pytestmark = [pytest.mark.linux, pytest.mark.slow]  # many commands or trainings

ENDINGS = ["csv", "tsv", "jsonl", "parquet", "txt", "csv.gz", "json", ""]


def read_all(path: Path) -> None:
    """As a task of one's own, with one label a text and several, and as texts to classify."""
    for config in (
        TaskConfig(name=str(path)),
        TaskConfig(name=str(path), multilabel=True),
        TaskConfig(name=str(path), label_columns=("a", "b")),
        TaskConfig(name=str(path), augment_column="aug"),
    ):
        settled(lambda config=config: load_task(config))  # type: ignore[misc]
    settled(lambda: list(texts_of(path, "text")))


@fuzzed
@given(content=anything, ending=st.sampled_from(ENDINGS))
def test_any_bytes_under_any_ending(content: bytes, ending: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("fuzz") / f"data.{ending}".rstrip(".")
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") and len(content) % 2 else content)
    read_all(path)


cell = st.one_of(st.sampled_from(ODD), st.text(max_size=20))


@fuzzed
@given(
    rows=st.lists(st.lists(cell, min_size=1, max_size=4), max_size=12),
    header=st.lists(st.sampled_from(["text", "label", "a", "b", "aug", "", "text "]), max_size=5),
    encoding=encoded,
    separator=st.sampled_from(",\t;"),
)
def test_any_table_in_any_encoding(
    rows: list[list[str]], header: list[str], encoding: str, separator: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = "\n".join(separator.join(row) for row in [header, *rows])
    path = tmp_path_factory.mktemp("fuzz") / ("data.tsv" if separator == "\t" else "data.csv")
    path.write_bytes(text.encode(encoding, "replace"))
    read_all(path)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from([10**400, "\ud800", [], {}, ["a", "b"], [None], {"text": "x"}]),
)


@fuzzed
@given(rows=st.lists(st.dictionaries(st.sampled_from(["text", "label", "a", "b", "aug"]), scalars), max_size=12))
def test_any_json_values(rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "data.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    read_all(path)


@fuzzed
@given(
    text=st.sampled_from(
        [pa.string(), pa.large_string(), pa.binary(), pa.int64(), pa.float64(), pa.list_(pa.string())]
    ),
    label=st.sampled_from([pa.string(), pa.int8(), pa.float32(), pa.bool_(), pa.date32(), pa.list_(pa.string())]),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=3),
)
def test_any_parquet_types_and_damaged_parquet_files(
    text: pa.DataType, label: pa.DataType, flips: list[tuple[float, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    def values(kind: pa.DataType) -> pa.Array:
        if pa.types.is_list(kind):
            return pa.array([["a"], ["b", "c"], []] * 8, kind)
        return (
            pa.array([i % 3 for i in range(24)], pa.int32()).cast(pa.string()).cast(kind)
            if kind
            in (
                pa.string(),
                pa.large_string(),
                pa.binary(),
            )
            else pa.array([i % 2 for i in range(24)], pa.int32())
            .cast(pa.int8())
            .cast(kind if kind != pa.date32() else pa.int32())
        )

    path = tmp_path_factory.mktemp("fuzz") / "data.parquet"
    pq.write_table(pa.table({"text": values(text), "label": values(label)}), path)
    data = bytearray(path.read_bytes())
    for place, change in flips:
        data[int(place * len(data))] ^= change
    path.write_bytes(data)
    read_all(path)


@pytest.mark.parametrize("name", [task["name"] for task in describe_tasks() if task["name"] != "demo"])
@fuzzed
@given(content=anything)
def test_a_named_tasks_folder_with_anything_in_it(
    name: str, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    for file in ("train.tsv", "dev.tsv", "labels.txt", "train.csv", "valid.csv"):
        (folder / file).write_bytes(content)
    settled(lambda: load_task(TaskConfig(name=name, data=str(folder))))


# --- places that are no files ------------------------------------------------------------------------------


def fec(*arguments: object, memory: int | None = None) -> subprocess.CompletedProcess[str]:
    def limited() -> None:
        if memory is not None:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

    command = [sys.executable, "-m", "fusion_classifier", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, preexec_fn=limited, errors="replace"
    )


def test_places_that_are_no_files_are_said_in_a_sentence(tmp_path: Path) -> None:
    loop, folder, pipe = tmp_path / "loop.csv", tmp_path / "folder.csv", tmp_path / "pipe.csv"
    loop.symlink_to(loop)
    folder.mkdir()
    os.mkfifo(pipe)
    dangling = tmp_path / "dangling.csv"
    dangling.symlink_to(tmp_path / "nothing")
    for path in (loop, folder, pipe, dangling, Path("/dev/zero"), tmp_path / ("a" * 300), Path("/proc/self/mem")):
        assert settled(lambda path=path: load_task(TaskConfig(name=str(path)))), path  # type: ignore[misc]
        assert settled(lambda path=path: list(texts_of(path, "text"))), path  # type: ignore[misc]


def test_a_message_about_a_long_field_is_shortened(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text(f"{'a' * 70_000},label\n" + "x,y\n" * 20, "utf-8")
    said = settled(lambda: load_task(TaskConfig(name=str(path))))
    assert said
    assert said.startswith(f"{path}: no column 'text'")
    assert said.endswith("set `text_column`")


def test_long_texts_and_many_labels_are_read(tmp_path: Path) -> None:
    long = tmp_path / "long.csv"
    rows = [f"{'word ' * 200_000}{i},{'ab'[i % 2]}" for i in range(20)]
    long.write_text("\n".join(["text,label", *rows]), "utf-8")
    assert settled(lambda: load_task(TaskConfig(name=str(long)))) is None
    many = tmp_path / "many.csv"
    many.write_text("text,label\n" + "".join(f"t{i},l{i % 100_000}\n" for i in range(300_000)), "utf-8")
    assert len(load_task(TaskConfig(name=str(many))).labels) == 100_000


def of_one_value(text: str, rows: int, path: Path) -> Path:
    """A Parquet file that holds one text once, and says that it stands in so many rows."""
    column = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([text]))
    labels = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array(["a"]))
    pq.write_table(pa.table({"text": column, "label": labels}), path, compression="zstd", store_schema=False)
    return path


@pytest.mark.parametrize(("characters", "rows"), [(10, 20_000_000), (1_000_000, 50_000)])
def test_a_parquet_bomb_is_refused_in_little_memory(characters: int, rows: int, tmp_path: Path) -> None:
    bomb = of_one_value("a" * characters, rows, tmp_path / "bomb.parquet")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for work in (lambda: load_task(TaskConfig(name=str(bomb))), lambda: sum(map(len, texts_of(bomb, "text")))):
        said = settled(work)
        assert said
        assert "damaged or malicious" in said
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024 < 600


def test_without_enough_memory_a_command_says_so(tmp_path: Path) -> None:
    """A line of four gigabytes; the process may have two."""
    large = tmp_path / "large.csv"
    with large.open("wb") as file:
        file.write(b"text,label\n")
        file.truncate(2**32)
    done = fec("run", large, memory=2**31)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: out of memory"), done.stderr[-500:]


@pytest.mark.parametrize("change", [2, 255])
def test_each_byte_of_a_parquet_file_changed(change: int, tmp_path: Path) -> None:
    """Arrow's C++ code ends the process where its assertions fail: that would end the test run, too."""
    path = tmp_path / "data.parquet"
    table = pa.table({"text": ["we won", "it is dark", "he broke it"] * 8, "label": ["joy", "fear", "anger"] * 8})
    pq.write_table(table, path, row_group_size=12, store_schema=False, compression="none")
    whole = path.read_bytes()
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= change
        path.write_bytes(data)
        settled(lambda: load_task(TaskConfig(name=str(path))))
        settled(lambda: read_predictions(path))


# --- models and runs are data, too -------------------------------------------------------------------------

MODEL = BUILT_IN_FOLDER / "go-emotions"


@fuzzed
@given(seed=st.integers(0, 2**32))
def test_any_model_configuration(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("model") / "model"
    shutil.copytree(MODEL, folder)
    described = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(mutated(described, random.Random(seed))), "utf-8")
    settled(lambda: load_model(folder))


@fuzzed
@given(seed=st.integers(0, 2**32))
def test_any_weights(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, draw = tmp_path_factory.mktemp("model") / "model", random.Random(seed)
    shutil.copytree(MODEL, folder)
    data = bytearray((folder / "model.safetensors").read_bytes())
    size = int.from_bytes(data[:8], "little")
    way = draw.randrange(4)
    if way == 0:  # the header's length
        data[:8] = draw.choice([2**60, 2**63, len(data), size - 1, 0]).to_bytes(8, "little")
    elif way == 1:  # the header: shapes, offsets, types
        header = json.loads(data[8 : 8 + size])
        changed = json.dumps(mutated(header, draw)).encode()
        data = bytearray(len(changed).to_bytes(8, "little") + changed + data[8 + size :])
    elif way == 2:
        data = data[: draw.randrange(len(data))]
    else:  # not a number
        data[8 + size : 8 + size + 4000] = np.full(1000, np.nan, np.float32).tobytes()
    (folder / "model.safetensors").write_bytes(data)
    said = settled(lambda: load_model(folder))
    assert way != 3 or said, "weights that are no numbers are refused"


@fuzzed
@given(
    content=st.one_of(
        anything, st.sampled_from([b"!!python/object/apply:os.system ['true']", b"a: &a [*a]", b"run: {}"])
    )
)
def test_any_run_configuration(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.yaml").write_bytes(content)
    settled(lambda: read_run_config(folder))


@fuzzed
@given(flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4))
def test_any_stored_predictions(flips: list[tuple[float, int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    generator, runs = np.random.default_rng(0), []
    for name in "ab":
        folder = tmp_path_factory.mktemp("run")
        probabilities = {0: generator.dirichlet([1, 1, 1], 30).astype(np.float32)}
        answers = {0: probabilities[0].argmax(1)}
        labels = generator.integers(0, 3, 30)
        part = SplitPredictions("test", [f"{i:032x}" for i in range(30)], labels, probabilities, answers)
        write_predictions([part], ("x", "y", "z"), folder / "predictions.parquet")
        runs.append(folder)
        if name == "b":
            path = folder / "predictions.parquet"
            data = bytearray(path.read_bytes())
            for place, change in flips:
                data[int(place * len(data))] ^= change
            path.write_bytes(data)
    settled(lambda: compare_runs(runs[0], runs[1]))
