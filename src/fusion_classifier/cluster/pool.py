"""Ray: a pool of workers on this machine or a cluster, each with the models loaded.

Needs the extra `ray`. How it is used: docs/cluster.md.

A worker is a process with one GPU, or a share of the cores. What goes wrong in one travels to the command as data, so
that the user reads the same sentence as without Ray; a worker that dies is started anew, and its part done again.
"""

import importlib.util
import logging
import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from fusion_classifier import errors
from fusion_classifier.config import Device
from fusion_classifier.errors import FecError, UsageError, reason

OBJECT_STORE_BYTES = 512 * 2**20  # of a Ray that is started here: texts and results only, no features
ANSWER_SECONDS = 10  # in which a cluster's address must be reached
INSTALL = "pip install 'llm-fusion-classifier[ray]'"

# Nothing is reported to Ray's makers; its C++ part writes to the terminal only what ends it; what befalls a worker is
# not printed among the results on standard output; a worker without a GPU of its own does not see the others'.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
}

R = TypeVar("R")


@dataclass(frozen=True)
class RayEngine:
    """Where the workers are, and how many: on the cluster of `address`, else here; one a GPU or core unless said."""

    address: str | None = None
    workers: int | None = None
    device: Device = "auto"


@dataclass(frozen=True)
class Pool:
    """What each of `workers` gets: one GPU, or `cores`."""

    workers: int
    cores: int
    gpus: int

    def arguments(self) -> dict[str, Any]:
        """Of `ray.data.Dataset.map_batches`, for a class that is made once a worker."""
        import ray.data  # noqa: PLC0415

        wanted = {"num_gpus": self.gpus} if self.gpus else {"num_cpus": self.cores}
        # A second part waits at each worker, so that none is idle in between.
        strategy = ray.data.ActorPoolStrategy(size=self.workers, max_tasks_in_flight_per_actor=2)
        return {"compute": strategy, **wanted}


@contextmanager
def connected(engine: RayEngine) -> Iterator[Pool]:
    """Ray, started here or joined by its address; left afterwards.

    Raises:
        UsageError: Ray is not installed, or can't be reached, or has nothing to give.
        FecError: Ray itself failed, or a worker can't be started anew.
    """
    prepare()
    import ray  # noqa: PLC0415
    import ray.data  # noqa: PLC0415

    started_here = not ray.is_initialized()
    if started_here:
        settings: dict[str, Any] = {"address": engine.address or "local"}
        if engine.address is None:
            settings |= {"object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
        try:
            _see_that_it_answers(engine.address)
            with _silent(), warnings.catch_warnings():
                # Ray's own processes are started by a fork; none of them touches a store.
                warnings.filterwarnings("ignore", "lance is not fork-safe")
                ray.init(log_to_driver=False, logging_level=logging.ERROR, **settings)
        except (OSError, ValueError, RuntimeError) as error:
            place = engine.address or "this machine"
            raise UsageError(f"--engine ray: no Ray at {place} ({reason(error)})") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what fails is raised
    try:
        yield _pool(engine, ray.cluster_resources())
    except ray.exceptions.RayError as error:
        raise FecError(
            f"--engine ray: {reason(error)}; run the same command again: what was stored is kept"
        ) from error
    finally:
        if started_here:
            ray.shutdown()


def _see_that_it_answers(address: str | None) -> None:
    """Raises OSError where nothing listens: Ray itself would go on trying for minutes."""
    host, sign, port = (address or "").rpartition("://")[2].rpartition(":")
    if sign and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()


@contextmanager
def _silent() -> Iterator[None]:
    """Ray's C++ part says on standard error that it has been told to be silent; what fails is raised, not printed."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def prepare() -> None:
    """To be called before Ray is imported: it reads its environment then.

    Raises:
        UsageError: Ray is not installed.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if importlib.util.find_spec("ray") is None:
        raise UsageError(f"--engine ray: Ray is not installed; {INSTALL}")


def _pool(engine: RayEngine, resources: Mapping[str, float]) -> Pool:
    cores = int(resources.get("CPU", 0))
    gpus = 0 if engine.device == "cpu" else int(resources.get("GPU", 0))
    most = gpus or cores
    workers = engine.workers or most
    if not 0 < workers <= most:
        raise UsageError(f"--workers {workers}: there are {gpus} GPUs and {cores} cores, so up to {most} workers")
    return Pool(workers, max(cores // workers, 1), 1 if gpus else 0)


def as_data(work: Callable[[], R]) -> tuple[R | None, dict[str, str] | None]:
    """The result of a call, or its error in a form that every machine can read.

    An error that nobody foresaw is one too; its traceback goes to the worker's log.
    """
    try:
        return work(), None
    except FecError as error:
        return None, {"kind": type(error).__name__, "message": str(error)}
    except Exception as error:
        logging.getLogger(__name__).exception("a worker failed")
        message = f"--engine ray: a worker failed ({type(error).__name__}: {reason(error)})"
        return None, {"kind": FecError.__name__, "message": f"{message}; Ray's log of the worker says where"}


def raise_again(error: Mapping[str, str]) -> None:
    """The error that `as_data` has made data of.

    Raises:
        FecError: always, of the kind it was.
    """
    raise getattr(errors, error["kind"], FecError)(error["message"])
