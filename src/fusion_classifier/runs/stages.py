"""Time, peak memory and encoded texts of each stage of a run, over all calls.

A run may be stopped and continued: the record is a file that accumulates all calls and is written every few seconds.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import psutil
from pydantic import ConfigDict, Field, NonNegativeInt, TypeAdapter

from fusion_classifier.errors import FecError
from fusion_classifier.support.files import atomic_write

SAMPLE_SECONDS = 0.1  # interval of memory measurements: a shorter peak may be missed
WRITE_SECONDS = 5.0  # interval of writes: the part of the record that a kill can lose


@dataclass
class Stage:
    """One stage: seconds over all calls, peak memory in bytes (resident set), number of calls, encoded texts."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    peak_memory: NonNegativeInt = 0
    calls: NonNegativeInt = 0
    encoded: NonNegativeInt = 0


STAGES = TypeAdapter(dict[str, Stage])


class Stages:
    """The record of a run in a file, continued from earlier calls."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.by_name = _read(path)

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Measure a `with` block as this stage, however it ends."""
        record = self.by_name.setdefault(name, Stage())
        record.calls += 1
        before, started = record.seconds, time.perf_counter()
        done = threading.Event()

        def watch() -> None:
            process, written = psutil.Process(), started
            while True:
                record.peak_memory = max(record.peak_memory, process.memory_info().rss)
                now = time.perf_counter()
                record.seconds = before + now - started
                if done.is_set():
                    return
                if now - written > WRITE_SECONDS:
                    self._write()
                    written = now
                done.wait(SAMPLE_SECONDS)

        watcher = threading.Thread(target=watch, name=f"stage {name}", daemon=True)
        watcher.start()
        try:
            yield record
        finally:
            done.set()
            watcher.join()
            self._write()

    def figures(self) -> dict[str, dict[str, float]]:
        """All stages as JSON values."""
        return {name: asdict(stage) for name, stage in self.by_name.items()}

    def _write(self) -> None:
        with suppress(FecError):  # the record must never interrupt the work
            atomic_write(self.path, json.dumps(self.figures(), indent=1) + "\n")


def _read(path: Path) -> dict[str, Stage]:
    """Record of earlier calls; empty if it can't be read."""
    try:
        return STAGES.validate_json(path.read_bytes(), strict=True)
    except (OSError, ValueError):
        return {}
