"""A disk that is full or read-only: a sentence, nothing half-written, and the same command goes on afterwards."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import fec

from fusion_classifier.features.store import FeatureStore

pytestmark = pytest.mark.linux


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here ({mounted.stderr.strip()})")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


def said(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a command that failed."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return sentence


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [("tasks",), ("tasks", "--json"), ("predict", "we won", "it is dark", "--json")]
)
def test_output_into_a_full_disk_is_said_in_a_sentence(arguments: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "fusion_classifier", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=240)
    assert said(done) == "error: standard output: No space left on device"
    assert len(done.stderr.splitlines()) == 1


def test_a_command_without_standard_output_works() -> None:
    command = ["sh", "-c", '"$0" -m fusion_classifier tasks >&-', sys.executable]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_work_goes_on_when_the_log_can_not_be_written() -> None:
    done = fec("tasks", "--log-file", "/dev/full")
    assert done.returncode == 0
    assert "go_emotion" in done.stdout
    assert done.stderr.startswith("warning: /dev/full: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_extraction_resumes_after_a_full_disk(disk: Path, bert_folder: Path, tmp_path: Path) -> None:
    command = ("extract", "demo", "-e", bert_folder, "--head", "fusion", "--limit", 300, "--store")
    assert "can't be written" in said(fec(*command, disk / "store"))
    remount(disk, "size=200M")
    assert fec(*command, disk / "store").returncode == 0
    assert fec(*command, tmp_path / "elsewhere").returncode == 0
    (here,), (there,) = FeatureStore(disk / "store").entries(), FeatureStore(tmp_path / "elsewhere").entries()
    assert here.rows == there.rows
    assert list(FeatureStore(disk / "store").verify(here.key)) == []


@pytest.mark.slow
def test_a_run_on_a_full_or_read_only_disk_ends_when_resumed(disk: Path, bert_folder: Path, tmp_path: Path) -> None:
    settings = ("-e", bert_folder, "--head", "linear", "--epochs", 2, "--limit", 60, "--no-report")
    command = ("run", "demo", *settings, "--store", tmp_path / "store", "--out")
    remount(disk, "ro")
    assert "can't be written" in said(fec(*command, disk / "run"))
    remount(disk, "rw,size=40k")
    assert "can't be written" in said(fec(*command, disk / "run"))
    remount(disk, "size=50M")
    assert fec(*command, disk / "run").returncode == 0
    assert fec(*command, tmp_path / "run").returncode == 0
    for name in ("predictions.parquet", "model/model.safetensors"):
        assert (disk / "run" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
    hidden = [path.name for path in (disk / "run").rglob(".*") if path.name != ".lock"]
    assert hidden == []
