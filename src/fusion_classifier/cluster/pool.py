"""Ray: a pool of workers on this machine or a cluster, each with one GPU or a share of the cores (docs/cluster.md).

Needs the extra `ray`.
"""

import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fusion_classifier.config import Device
from fusion_classifier.errors import FecError, UsageError, reason
from fusion_classifier.support.attributes import changed
from fusion_classifier.support.extras import require

# Ray is imported on use: it is an extra, and takes a second.
# ruff: noqa: PLC0415

OBJECT_STORE_BYTES = 512 * 2**20  # for a Ray started here: texts and results only, no features
ANSWER_SECONDS = 10  # timeout for reaching a cluster's address

# No usage statistics; only fatal errors from Ray's C++ code; no worker output among the results on standard output; a
# worker without a GPU does not see other workers' GPUs. Ray reads it on import.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
}


@dataclass(frozen=True)
class RayEngine:
    """Address of a cluster (default: start Ray here), number of workers (default: one per GPU or core), and their
    device."""

    address: str | None = None
    workers: int | None = None
    device: Device = "auto"


@dataclass(frozen=True)
class Pool:
    """Number of workers, and cores and GPUs per worker."""

    workers: int
    cores: int
    gpus: int

    def arguments(self) -> dict[str, Any]:
        """Arguments of `ray.data.Dataset.map_batches` for a class with one instance per worker."""
        import ray.data

        wanted = {"num_gpus": self.gpus} if self.gpus else {"num_cpus": self.cores}
        # A second part is queued at each worker, so that none is idle in between.
        strategy = ray.data.ActorPoolStrategy(size=self.workers, max_tasks_in_flight_per_actor=2)
        return {"compute": strategy, **wanted}


@contextmanager
def connected(engine: RayEngine) -> Iterator[Pool]:
    """Start Ray here, or connect to a cluster by its address, for the duration of the block."""
    require("Ray", "ray", "ray")
    with _quiet():
        import ray

        started_here = not ray.is_initialized()
        if started_here:
            _start(engine.address)
        try:
            yield _pool(engine, ray.cluster_resources())
        except ray.exceptions.RayError as error:
            raise FecError(f"Ray: {reason(error)}; run the same command again: stored features are kept") from error
        finally:
            if started_here:
                ray.shutdown()


def _start(address: str | None) -> None:
    import ray

    settings: dict[str, Any] = {"address": address or "local"}
    if address is None:
        settings |= {"object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    try:
        _check_address(address)
        with _no_standard_error(), warnings.catch_warnings():
            # Ray's own processes are forked; none of them accesses a store.
            warnings.filterwarnings("ignore", "lance is not fork-safe")
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **settings)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"`address`: no Ray at {address or 'this machine'} ({reason(error)})") from error


def _check_address(address: str | None) -> None:
    """Raise OSError if nothing listens there: Ray itself would retry for minutes."""
    host, sign, port = (address or "").rpartition("://")[2].rpartition(":")
    if sign and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()


def _pool(engine: RayEngine, resources: Mapping[str, float]) -> Pool:
    cores = int(resources.get("CPU", 0))
    gpus = 0 if engine.device == "cpu" else int(resources.get("GPU", 0))
    most = gpus or cores
    workers = engine.workers or most
    if not 0 < workers <= most:
        raise UsageError(
            f"`workers`: {workers}, but there are {gpus} GPUs and {cores} cores, so up to {most} workers"
        )
    return Pool(workers, max(cores // workers, 1), 1 if gpus else 0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress Ray's output; restore environment, log level and settings afterwards."""
    added = {name: value for name, value in QUIET.items() if name not in os.environ}
    os.environ.update(added)
    logger = logging.getLogger("ray.data")
    level = logger.level
    try:
        from ray.data import DataContext

        logger.setLevel(logging.CRITICAL)  # failures are raised
        with changed(DataContext.get_current(), enable_progress_bars=False, print_on_execution_start=False):
            yield
    finally:
        logger.setLevel(level)
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _no_standard_error() -> Iterator[None]:
    """Suppress the message on standard error by which Ray's C++ code confirms the log level."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
