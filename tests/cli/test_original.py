"""The original's commands, word for word, on small stand-ins for its three models."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.slow
def test_main_without_flags_has_published_hyper_parameters(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = call(checkout, "python main.py -dataset ED -epochs 1 -seeds 1", monkeypatch)
    assert done.returncode == 0, done.stderr
    config = (checkout / "runs" / "ED-llmembed" / "config.yaml").read_text()
    for setting in ("sigma: 1.0", "batch_size: 10", "patience: 10", "learning_rate: 0.0001"):
        assert setting in config


def test_missing_data_is_named(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = call(checkout, "python main.py -dataset go_emotion", monkeypatch)
    assert done.returncode == 2
    assert "data/go_emotion" in done.stderr
    assert "Traceback" not in done.stderr
