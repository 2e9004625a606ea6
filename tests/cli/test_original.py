"""The original's commands, word for word, on small stand-ins for its three models."""

import csv
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fusion_classifier.cli.original import extraction_of, training_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path, llama_folder: Path, bert_folder: Path, roberta_folder: Path) -> Path:
    """The repository root as a user has it: the scripts, `data/ED` as published, models in `$FEC_MODELS`."""
    for script in ("llama2_rep_extract.py", "bert_rep_extract.py", "roberta_rep_extract.py", "main.py"):
        shutil.copy(ROOT / script, tmp_path)
    for name, folder in (
        ("llama2-7b-chat", llama_folder),
        ("bert-large", bert_folder),
        ("roberta-large", roberta_folder),
    ):
        shutil.copytree(folder, tmp_path / "models" / name)
    data = tmp_path / "data" / "ED"
    data.mkdir(parents=True)
    from fusion_classifier.tasks.named.ed import EmpatheticDialogues

    (data / "label2idx.txt").write_text("".join(f"{name} {i}\n" for i, name in enumerate(EmpatheticDialogues.labels)))
    for split, rows in (("train", 32), ("valid", 12), ("test", 12)):
        with (data / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "aug_text", "label"])
            writer.writerows(
                [f"{split} text number {i} of label {i % 3}", "a paraphrase", i % 3] for i in range(rows)
            )
    return tmp_path


def call(checkout: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> subprocess.CompletedProcess[str]:
    monkeypatch.setenv("FEC_MODELS", str(checkout / "models"))
    monkeypatch.setenv("FEC_STORE", str(checkout / "store"))
    return subprocess.run(
        [sys.executable, *command.split()[1:]], capture_output=True, text=True, cwd=checkout, check=False, timeout=240
    )


@pytest.mark.slow
def test_the_published_commands_extract_train_and_report(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command in (
        "python llama2_rep_extract.py -device cpu -task ED -mode train",
        "python bert_rep_extract.py -device cpu -task ED -mode train",
        "python roberta_rep_extract.py -device cpu -task ED -mode test",
    ):
        done = call(checkout, command, monkeypatch)
        assert done.returncode == 0, done.stderr
        assert "encoded now" in done.stdout
    done = call(
        checkout,
        "python main.py -dataset ED -epochs 2 -SIGMA 1.5 -batch_size 8 -early-stop 2 -lr 1e-3 -seeds 2",
        monkeypatch,
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads((checkout / "runs" / "ED-llmembed" / "metrics.json").read_text())
    assert metrics["head"] == "llmembed"
    assert metrics["encoders"] == ["llama2-7b-chat", "bert-large", "roberta-large"]
    assert metrics["rows"] == {"train": 32, "valid": 12, "test": 12}
    # 32 train texts and 32 label names of two encoders and 12 test texts of the third were there already.
    assert metrics["encoded_texts"] == {"llama2-7b-chat": 24, "bert-large": 24, "roberta-large": 76}
    config = (checkout / "runs" / "ED-llmembed" / "config.yaml").read_text()
    for setting in ("sigma: 1.5", "batch_size: 8", "patience: 2", "learning_rate: 0.001", "max_epochs: 2"):
        assert setting in config


def options_of(words: list[str]) -> dict[str, str]:
    """Values of the options in the arguments of `fec` (of --encoder the first)."""
    found: dict[str, str] = {}
    for name, value in itertools.pairwise(words):
        if name.startswith("--"):
            found.setdefault(name, value)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for task in ("ED", "go_emotion"):
        (tmp_path / "data" / task).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("", {"--epochs": "200", "--batch-size": "10", "--patience": "10", "--lr": "0.0001", "--sigma": "1.0"}),
        ("-dat go_emotion -ep 3 -b 8 -ea 4 -l 1e-3 -S 2", {"--epochs": "3", "--patience": "4", "--sigma": "2.0"}),
        ("-epochs=3 -batch_size=8 -early-stop=4", {"--epochs": "3", "--batch-size": "8", "--patience": "4"}),
        ("--llama llama2-7b", {"--encoder": "llama2-7b", "--recipe": "published"}),
        ("-dev cpu", {"--device": "cpu", "--encoder": "llama2-7b-chat"}),
    ],
)
def test_flags_may_be_abbreviated_as_in_the_original(root: Path, command: str, expected: dict[str, str]) -> None:
    assert expected.items() <= options_of(training_of(root, command.split())).items()


def test_flags_of_extraction_may_be_abbreviated(root: Path) -> None:
    words = extraction_of(
        "llama2-7b-chat", root, ["-d", "cpu", "-t", "go_emotion", "-m", "valid", "--llama", "llama2-7b"]
    )
    assert words[:2] == ["extract", "go_emotion"]
    assert {"--split": "valid", "--encoder": "llama2-7b", "--device": "cpu"}.items() <= options_of(words).items()


@pytest.mark.parametrize(
    ("visible", "given", "seen"),
    [("", "cuda:0", "0"), ("", "cuda:1", "1"), ("5,7", "cuda:1", "7"), ("5", "cuda", "5")],
)
def test_one_of_several_gpus(
    root: Path, monkeypatch: pytest.MonkeyPatch, visible: str, given: str, seen: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert options_of(extraction_of("bert-large", root, ["-device", given]))["--device"] == "cuda"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("-device cuda:9", "-device"),
        ("-device cuda:x", "cuda:x"),
        ("-epochs many", "-epochs"),
        ("-e 3", "-epochs, -early-stop"),  # ambiguous there, too
    ],
)
def test_wrong_flags_are_named(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, named: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(SystemExit) as stopped:
        training_of(root, command.split())
    assert stopped.value.code == 2
    assert named in capsys.readouterr().err


def test_help_shows_the_defaults(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        training_of(root, ["-h"])
    said = " ".join(capsys.readouterr().out.split())
    for default in ("epochs. (default: 200)", "(default: 10)", "(default: 0.0001)", "(default: llama2-7b-chat)"):
        assert default in said


def test_data_are_found_beside_the_script(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    assert Path(options_of(training_of(root, []))["--data"]).resolve() == (root / "data" / "ED").resolve()
    (elsewhere / "data" / "other").mkdir(parents=True)
    assert options_of(training_of(root, ["-dataset", "other"]))["--data"] == str(Path("data") / "other")


@pytest.mark.slow
def test_its_files_are_written_where_it_wrote_them(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = call(checkout, "python llama2_rep_extract.py -device cpu -task ED -mode valid --pt", monkeypatch)
    assert done.returncode == 0, done.stderr
    done = call(checkout, "python bert_rep_extract.py -device cpu -task ED -mode valid --pt", monkeypatch)
    assert done.returncode == 0, done.stderr
    tensors = checkout / "data" / "ED" / "dataset_tensor"
    found = {path.relative_to(tensors).as_posix() for path in tensors.rglob("*.*")}
    assert found == {
        f"{model}/valid_{what}.safetensors" for model in ("llama2_7b_chat", "bert") for what in ("sents", "labels")
    }
    assert load_file(tensors / "bert" / "valid_labels.safetensors")["labels"].tolist() == [i % 3 for i in range(12)]
    assert load_file(tensors / "bert" / "valid_sents.safetensors")["sents"].ndim == 2
    exported = call(
        checkout,
        "python -m fusion_classifier export ED --data data/ED --split valid -e llama2-7b-chat --out exported",
        monkeypatch,
    )
    assert exported.returncode == 0, exported.stderr
    ours = load_file(checkout / "exported" / "valid.safetensors")["llama2-7b-chat"]
    theirs = load_file(tensors / "llama2_7b_chat" / "valid_sents.safetensors")["sents"]
    np.testing.assert_array_equal(theirs, ours[:, ::-1], err_msg="the original stacks the last layer first")


def test_missing_data_is_named(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = call(checkout, "python main.py -dataset go_emotion", monkeypatch)
    assert done.returncode == 2
    assert "data/go_emotion" in done.stderr
    assert "Traceback" not in done.stderr
