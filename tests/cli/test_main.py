"""`fec`: what it prints, where, and with which exit code."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from command import fec

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("few_penalties")]  # many commands or trainings

ROWS = [("we won", "joy"), ("he broke it", "anger"), ("it is dark", "fear")]


def process(*arguments: object) -> str:
    """What a command prints as a process of its own."""
    command = [sys.executable, "-m", "fusion_classifier", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=240).stdout


def result_of(*arguments: object, cwd: Path | None = None) -> str:
    done = fec(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "moods.csv"
    rows = [f"{text} {i},{label}" for i in range(20) for text, label in ROWS]
    path.write_text("\n".join(["comment,mood", *rows]) + "\n", "utf-8")
    return path


@pytest.fixture(scope="module")
def finished(data: Path, bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run by the command line, and its store."""
    folder = tmp_path_factory.mktemp("run")
    out, store = folder / "run", folder / "store"
    columns = ("--text-column", "comment", "--label-column", "mood")
    printed = result_of(
        *("run", data, *columns, "-e", bert_folder, "--head", "linear", "--seeds", 2, "--no-cross-validate"),
        *("--store", store, "--out", out),
    )
    assert "weighted F1" in printed
    assert f"fec predict {out}" in printed.replace("\n", "")
    return out, store


@pytest.mark.parametrize("command", ["--help", "run --help-all", "tasks", "encoders", "models", "store"])
def test_help_and_lists_load_no_heavy_package(command: str, tmp_path: Path) -> None:
    python = [sys.executable, "-X", "importtime", "-m", "fusion_classifier", *command.split()]
    env = os.environ | {"FEC_STORE": str(tmp_path / "store")}
    done = subprocess.run(python, capture_output=True, text=True, env=env, check=True)
    imported = set(re.findall(r"\| +(\w+)$", done.stderr, re.MULTILINE))
    assert "typer" in imported
    assert not imported & {"torch", "transformers", "sklearn", "scipy", "datasets", "matplotlib"}


def test_faults_in_the_data_show_before_torch_is_loaded(data: Path) -> None:
    code = "import sys; from fusion_classifier.cli.main import app; " + (
        f"app(['run', {str(data)!r}], standalone_mode=False)"  # no column called text
    )
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=False
    )
    assert "DataError" in done.stderr
    assert not re.search(r"\| +torch$", done.stderr, re.MULTILINE)


def test_it_says_its_version() -> None:
    assert re.fullmatch(r"fec \d+\.\d+\.\d+\S*\n", process("--version"))


COMMANDS = [
    *("tasks", "encoders", "extract", "train", "run", "evaluate", "predict", "export"),
    *("ablate", "project", "compare", "audit"),
    "report",
    "optimize",
    "doctor",
    "serve",
    *("models", "push"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    assert "Example:" in result_of(command, "--help")


def test_a_run_on_a_file_of_ones_own_writes_its_folder(finished: tuple[Path, Path]) -> None:
    metrics = json.loads((finished[0] / "metrics.json").read_text())
    assert metrics["rows"] == {"train": 48, "valid": 6, "test": 6}
    assert metrics["seeds"] == [0, 1]


def test_predict_answers_with_text_label_and_score(finished: tuple[Path, Path]) -> None:
    lines = result_of("predict", finished[0], "we won 3", "it is dark 4").splitlines()
    answers = [json.loads(line) for line in lines]
    assert [answer["text"] for answer in answers] == ["we won 3", "it is dark 4"]
    assert all(list(answer) == ["text", "label", "score"] and 0 < answer["score"] <= 1 for answer in answers)
    (top,) = map(json.loads, result_of("predict", finished[0] / "model", "we won 3", "--top-k", 3).splitlines())
    scores = [top[f"score_{k}"] for k in (1, 2, 3)]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-4)
    assert (top["label_1"], top["score_1"]) == (answers[0]["label"], pytest.approx(answers[0]["score"]))


def test_predict_reads_files_and_standard_input(finished: tuple[Path, Path], data: Path, tmp_path: Path) -> None:
    from_table = result_of("predict", finished[0], "--file", data, "--text-column", "comment").splitlines()
    assert len(from_table) == 60
    (tmp_path / "texts.txt").write_text("we won 0\nhe broke it 0\n", "utf-8")
    from_lines = result_of("predict", finished[0], "--file", tmp_path / "texts.txt").splitlines()
    piped = fec("predict", finished[0], "--file", "-", stdin="we won 0\nhe broke it 0\n").stdout.splitlines()
    labels = [json.loads(line)["label"] for line in from_table[:2]]
    assert [json.loads(line)["label"] for line in from_lines] == labels
    assert [json.loads(line)["label"] for line in piped] == labels


def test_predict_writes_a_file_with_all_columns(finished: tuple[Path, Path], data: Path, tmp_path: Path) -> None:
    with data.open(newline="", encoding="utf-8") as file:
        given = list(csv.DictReader(file))
    lines = result_of("predict", finished[0], "--file", data, "--text-column", "comment").splitlines()
    expected = [json.loads(line) for line in lines]
    assert [list(row) for row in expected] == [[*given[0], "label", "score"]] * 60
    out = tmp_path / "answers.jsonl"
    printed = result_of("predict", finished[0], "--file", data, "--text-column", "comment", "--out", out)
    assert printed == f"{out}: 60 rows\n"
    found = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [{name: row[name] for name in given[0]} for row in found] == given
    assert [row["label"] for row in found] == [row["label"] for row in expected]
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_predict_rejects_what_is_like_no_class(finished: tuple[Path, Path], data: Path, tmp_path: Path) -> None:
    texts = ("we won 3", "Q17: 1/2 + 3/4 = 5/4; see [9], [10] and {11}")
    plain, rejecting = (
        [json.loads(line) for line in result_of("predict", finished[0], *texts, *more).splitlines()]
        for more in ((), ("--reject-unknown", "--false-alarm-rate", 0.3))
    )
    for before, after in zip(plain, rejecting, strict=True):
        assert list(after) == ["text", "label", "score", "unknown", "unknown_score"]
        assert after["label"] == (None if after["unknown"] else before["label"])
        assert after["score"] == pytest.approx(before["score"])
    assert rejecting[1]["unknown"]
    assert rejecting[1]["unknown_score"] > rejecting[0]["unknown_score"]
    out = tmp_path / "answers.parquet"
    result_of("predict", finished[0], "--file", data, "--text-column", "comment", "--reject-unknown", "--out", out)
    rows = pq.read_table(out).to_pylist()
    assert all(row["unknown"] == (row["label"] is None) for row in rows)
    said = fec("predict", finished[0], "a text", "--reject-unknown").stderr
    assert "6 held-out texts are too few for a false-alarm rate of 0.05: about 0.14" in said
    assert sum(row["unknown"] for row in rows) < 15
    for wrong in (("--false-alarm-rate", 0.1), ("--reject-unknown", "--false-alarm-rate", 0)):
        done = fec("predict", finished[0], "a text", *wrong)
        assert (done.returncode, done.stderr.count("--false-alarm-rate")) == (2, 1)


def test_a_fault_in_the_texts_leaves_no_file_of_answers(finished: tuple[Path, Path], tmp_path: Path) -> None:
    texts, out = tmp_path / "texts.csv", tmp_path / "answers.csv"
    texts.write_text("comment\nwe won\nwell, fine\nit is dark\n", "utf-8")
    out.write_text("mine", "utf-8")
    for arguments, said in (
        (("--file", texts, "--out", out), "line 3: 2 fields where there are 1 columns"),
        (("--file", texts, "--out", tmp_path / "answers.txt"), "--out"),
        (("--file", texts, "--out", texts), "is the file with the texts"),
        (("we won", "--out", out), "--file"),
    ):
        done = fec("predict", finished[0], *arguments)
        assert done.returncode != 0
        assert said in " ".join(done.stderr.split())
    assert out.read_text("utf-8") == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"texts.csv", "answers.csv"}


def test_stages_one_by_one_end_as_the_run_does(
    finished: tuple[Path, Path], data: Path, bert_folder: Path, tmp_path: Path
) -> None:
    out, store = tmp_path / "run", tmp_path / "store"
    read = ("--text-column", "comment", "--label-column", "mood")
    common = (data, *read, "-e", bert_folder, "--head", "linear", "--store", store)
    extracted = json.loads(result_of("extract", *common, "--json"))
    assert extracted[0]["encoded"] == 60 + 3, "rows, and names of labels"
    assert json.loads(result_of("extract", *common, "--json"))[0]["encoded"] == 0
    result_of("train", *common, "--no-cross-validate", "--seeds", 2, "--out", out)
    figures = json.loads(result_of("evaluate", out, "--store", store, "--json"))
    expected = json.loads((finished[0] / "metrics.json").read_text())
    assert figures["test"]["metrics"] == expected["test"]


def test_the_store_is_listed_verified_and_emptied(data: Path, bert_folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    read = ("--text-column", "comment", "--label-column", "mood")
    result_of("extract", data, *read, "-e", bert_folder, "--store", store, "--limit", 5)
    (entry,) = json.loads(result_of("store", "--store", store, "--json"))["encoders"]
    assert entry["encoder"] == bert_folder.name
    assert entry["rows"] == 15 + 3, "rows, and names of labels"
    assert bert_folder.name in result_of("store", "--store", store)
    assert "ok" in result_of("store", "verify", "--store", store)
    result_of("extract", data, *read, "-e", bert_folder, "--store", store, "--limit", 6)
    assert "removed 0" in result_of("store", "clean", "--store", store), "nothing is a week old"
    assert "removed 0" not in result_of("store", "clean", entry["key"][:6], "--now", "--store", store)
    assert "no features of 'x'" in fec("store", "clean", "x", "--store", store).stderr
    assert json.loads(result_of("store", "--store", store, "--json"))["encoders"][0]["rows"] == 18 + 3
    result_of("store", "delete", entry["key"][:6], "--store", store)
    assert json.loads(result_of("store", "--store", store, "--json"))["encoders"] == []


def test_verify_fails_on_a_damaged_store(data: Path, bert_folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    read = ("--text-column", "comment", "--label-column", "mood")
    result_of("extract", data, *read, "-e", bert_folder, "--store", store)
    file = next(store.glob("*.lance/data/*"))
    file.write_bytes(file.read_bytes()[:100])
    done = fec("store", "verify", "--store", store)
    assert done.returncode == 1
    assert f"fec store delete KEY --store {store}" in done.stderr


def test_results_go_to_stdout_and_nothing_else_does(data: Path, bert_folder: Path, tmp_path: Path) -> None:
    read = ("--text-column", "comment", "--label-column", "mood")
    done = fec("extract", data, *read, "-e", bert_folder, "--store", tmp_path / "store", "--json")
    json.loads(done.stdout)
    assert "split into train" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "no-such-task"], 2, "no task and no file"),
        (["run", "demo", "--head", "huge"], 2, "unknown head 'huge'"),
        (["run", "demo", "--head", "linear", "--sigma", "2"], 2, "has no sigma"),
        (["run", "demo", "--recipe", "secret"], 2, "--recipe"),
        (["run", "demo", "--lr", "-1"], 2, "--lr: "),
        (["run", "demo", "--seeds", "0"], 2, "--seeds"),
        (["run", "demo", "--memory", "plenty"], 2, "--memory: "),
        (["run", "demo", "-e", "minilm-l6?volume=11"], 2, "unknown setting 'volume'"),
        (["run", "demo", "-e", "minilm-l6", "--layers", "x"], 2, "layers 'x'"),
        (["run", "demo", "-e", "minilm-l6", "-e", "minilm-l6"], 2, "given twice"),
        (["run", "demo", "-e", "minilm-l6=/no/such/folder"], 1, "no such model folder"),
        (["run", "demo", "--device", "cuda"], 2, "not available"),
        (["extract", "demo", "--split", "tset"], 2, "--split"),
        (["evaluate", "nowhere"], 1, "nowhere"),
        (["predict", "nowhere", "a text"], 2, "no such model folder"),
        (["predict", "runs/nowhere"], 2, "--model go-emotions"),
        (["predict"], 2, "--file"),
        (["store", "delete", "nothing"], 2, "no features"),
        (["frobnicate"], 2, "frobnicate"),
    ],
)
def test_errors_are_one_sentence_with_the_right_exit_code(
    arguments: list[str], code: int, message: str, tmp_path: Path
) -> None:
    if arguments[-1] == "cuda":
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has CUDA")
    done = fec(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_bad_row_is_named_before_anything_is_written(bert_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("text,label\nfine,joy\n   ,anger\n", "utf-8")
    done = fec("run", tmp_path / "bad.csv", "-e", bert_folder, "--out", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 1
    assert "bad.csv, line 3: the text is empty" in done.stderr
    assert not (tmp_path / "run").exists()


def test_redirected_output_is_utf8_whatever_the_system_uses(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fusion_classifier", "encoders"]
    environment = os.environ | {"PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, capture_output=True, check=False, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "…" in done.stdout.decode("utf-8")


@pytest.mark.posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_with_a_word_on_how_to_go_on(
    number: signal.Signals, bert_folder: Path, tmp_path: Path
) -> None:
    rows = [f"word{i} and another {i},{'ab'[i % 2]}" for i in range(60_000)]
    (tmp_path / "many.csv").write_text("\n".join(["text,label", *rows]), "utf-8")
    command = [
        "extract",
        tmp_path / "many.csv",
        "-e",
        bert_folder,
        "--store",
        tmp_path / "store",
        "--pooling",
        "tokens",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "fusion_classifier", *map(str, command)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    while not (tmp_path / "store").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "run the same command again" in errors
    assert "Traceback" not in errors


def test_a_model_of_own_data_is_evaluated_on_a_named_task(
    finished: tuple[Path, Path], data: Path, tmp_path: Path
) -> None:
    out, store = finished
    done = fec("evaluate", out / "model", "--store", store)
    assert done.returncode == 2
    assert "--task" in done.stderr
    read = ("--text-column", "comment", "--label-column", "mood")
    figures = json.loads(result_of("evaluate", out / "model", "--task", data, *read, "--store", store, "--json"))
    assert figures["test"]["rows"] == 60, "a file that is given is evaluated whole"


# Abstaining, ablation, projection.


def test_a_confidence_to_abstain_below_is_taken_and_checked(finished: tuple[Path, Path]) -> None:
    plain = result_of("predict", finished[0], "we won 3")
    assert result_of("predict", finished[0], "we won 3", "--abstain", 0) == plain
    assert fec("predict", finished[0], "text", "--abstain", 1.5).returncode == 2


def test_a_run_says_what_abstaining_brings(finished: tuple[Path, Path]) -> None:
    metrics = json.loads((finished[0] / "metrics.json").read_text())
    rows = metrics["risk_coverage"]["test"]
    assert rows[0]["coverage"] == 1
    assert rows[0]["accuracy"] == pytest.approx(metrics["test"]["accuracy"]["mean"])
    of_valid = metrics["risk_coverage"]["valid"]
    assert [row["threshold"] for row in rows] == [row["threshold"] for row in of_valid], "never read off test"
    assert (finished[0] / "risk_coverage.png").is_file()
    assert all(0.01 < value < 100 for value in metrics["temperatures"].values())


def test_ablation_by_the_command_line(data: Path, bert_folder: Path, roberta_folder: Path, tmp_path: Path) -> None:
    common = (data, "--text-column", "comment", "--label-column", "mood", "-e", bert_folder, "-e", roberta_folder)
    store, out = ("--store", tmp_path / "store"), ("--out", tmp_path / "out")
    printed = result_of("ablate", *common, *store, *out, "--head", "linear", "--epochs", 5)
    assert "what this adds" in printed
    assert (tmp_path / "out" / "ablation.png").is_file()
    assert fec("ablate", *common, *store, *out, "--head", "linear,nothing").returncode == 2


def test_a_projection_by_the_command_line(data: Path, bert_folder: Path, tmp_path: Path) -> None:
    columns = ("--text-column", "comment", "--label-column", "mood")
    path = tmp_path / "small.safetensors"
    printed = result_of("project", bert_folder, data, *columns, "--width", 8, "--int8", "--out", path)
    assert f"projection={path}" in printed
    spec = f"{bert_folder}?projection={path}"
    result_of(
        "run", data, *columns, "-e", spec, "--store", tmp_path / "store", "--out", tmp_path / "run", "--epochs", 2
    )
    path.unlink()
    assert json.loads(result_of("predict", tmp_path / "run", "we won"))["label"] in ("joy", "anger", "fear")
    wrong = fec("project", bert_folder, data, *columns, "--width", 8000, "--out", path)
    assert wrong.returncode == 2
    assert "--width 8000" in wrong.stderr
