"""The fault campaigns of benchmarks/, each in short: what they plant and kill costs nothing; disks: test_disk.py."""

import json
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
    found = campaign("crash.py", "--kills", "1", "--only", "run")
    assert found["all"]["kills"] == 1
    assert found["all"]["different"] == 0


def test_no_fault_in_a_store_becomes_a_wrong_feature() -> None:
    found = campaign("storage_faults.py", "--faults", "8")
    assert sum(kind["tried"] for kind in found.values()) == 8
    assert sum(kind.get("found", 0) for kind in found.values()) >= 2


def test_a_server_stands_good_bad_slow_and_vanishing_clients() -> None:
    found = campaign("soak.py", "--requests", "300", "--minutes", "0.05")
    assert found["right"] + found["overloaded"] == 300
    assert not any(found[part]["wrong"] for part in ("overload", "steady", "stop"))
    assert found["overload"]["refused_429"] > 0
    assert found["stop"]["exit_code"] == 0
    assert not any(found["in_log"].values())
