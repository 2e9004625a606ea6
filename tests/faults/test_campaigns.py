"""The fault campaigns of benchmarks/, each in short: what they plant and kill costs nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.linux, pytest.mark.slow]
BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "reliability"


def campaign(name: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_killed_run_ends_as_one_that_was_not() -> None:
    found = campaign("crash.py", "--kills", "2", "--only", "run")
    assert found["all"]["kills"] == 2
    assert found["all"]["different"] == 0


def test_no_fault_in_a_store_becomes_a_wrong_feature() -> None:
    found = campaign("storage_faults.py", "--faults", "16")
    assert sum(kind["tried"] for kind in found.values()) == 16
    assert sum(kind.get("found", 0) for kind in found.values()) >= 4


def test_a_server_stands_good_bad_slow_and_vanishing_clients() -> None:
    found = campaign("soak.py", "--requests", "300", "--minutes", "0.05")
    assert found["right"] + found["overloaded"] == 300
    assert not any(found[part]["wrong"] for part in ("overload", "steady", "stop"))
    assert found["overload"]["refused_429"] > 0
    assert found["stop"]["exit_code"] == 0
    assert not any(found["in_log"].values())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting file systems requires root")
def test_a_full_disk_is_reported_and_survived() -> None:
    found = campaign("full_disk.py", "--disks", "1", "--only", "extract")
    assert found["all"]["disks"] == 1
    assert found["all"]["different"] == 0
