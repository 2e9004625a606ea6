"""What a run took: kept over several calls, however each of them ended."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fusion_classifier.runs.stages import Stages


def test_a_second_call_continues_the_first(tmp_path: Path) -> None:
    path = tmp_path / "stages.json"
    first = Stages(path)

    def stopped() -> None:
        with first.stage("extract"):
            time.sleep(0.05)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    before = json.loads(path.read_text())["extract"]
    assert before["calls"] == 1
    assert before["seconds"] >= 0.05
    second = Stages(path)
    with second.stage("extract") as stage:
        stage.encoded += 7
    after = json.loads(path.read_text())["extract"]
    assert after["calls"] == 2
    assert after["seconds"] > before["seconds"]
    assert after["encoded"] == 7
    assert second.figures()["extract"] == after


def test_the_peak_is_that_of_the_stage(tmp_path: Path) -> None:
    stages = Stages(tmp_path / "stages.json")
    with stages.stage("small"):
        pass
    with stages.stage("large"):
        block = np.ones(200 * 2**20, dtype=np.uint8)
        time.sleep(0.3)  # three looks at the memory
        del block
    with stages.stage("small again"):
        pass
    peaks = {name: figures["peak_memory"] for name, figures in stages.figures().items()}
    assert peaks["large"] > peaks["small"] + 150 * 2**20
    assert peaks["small again"] < peaks["large"] - 100 * 2**20


@pytest.mark.posix
def test_a_kill_loses_no_more_than_the_last_seconds(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from fusion_classifier.runs import stages as s\n"
        "s.WRITE_SECONDS = 0.05\n"
        "with s.Stages(Path(sys.argv[1])).stage('extract'):\n    time.sleep(60)"
    )
    path = tmp_path / "stages.json"
    with subprocess.Popen([sys.executable, "-c", code, str(path)]) as process:
        deadline = time.monotonic() + 30
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    assert Stages(path).figures()["extract"]["seconds"] > 0


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1]",
        '{"extract": {"days": 3}}',
        '{"train": {"calls": {}}}',
        '{"train": {"seconds": NaN}}',
        "\x00",
        '{"train": {"calls": -1}}',
    ],
)
def test_a_record_that_can_not_be_read_starts_again(tmp_path: Path, content: str) -> None:
    (tmp_path / "stages.json").write_text(content)
    stages = Stages(tmp_path / "stages.json")
    with stages.stage("train"):
        pass
    assert list(stages.figures()) == ["train"]
