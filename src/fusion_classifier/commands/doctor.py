"""Information for a bug report: versions, machine, precision, encoders, store; no secrets."""

import os
import platform
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import psutil
import torch

from fusion_classifier.encoders.device import resolve_device, resolve_dtype
from fusion_classifier.encoders.weights import describe_presets
from fusion_classifier.errors import FecError
from fusion_classifier.features.store import FeatureStore
from fusion_classifier.version import DISTRIBUTION, __version__, source_commit

# They affect the computation. Other variables are not shown, not even their names.
VARIABLES = ("CUDA_VISIBLE_DEVICES", "FEC_MODELS", "FEC_STORE", "HF_HOME", "HF_HUB_OFFLINE", "OMP_NUM_THREADS")


def examine(store: str | None) -> dict[str, dict[str, str]]:
    """Names and values, by topic."""
    device = resolve_device("auto")
    memory, here = psutil.virtual_memory(), FeatureStore(store)
    cores, threads = psutil.cpu_count(logical=False), psutil.cpu_count()
    return {
        "software": {
            "fec": f"{__version__} (commit {source_commit()})" if source_commit() else __version__,
            "python": platform.python_version() + (" (virtual environment)" if sys.prefix != sys.base_prefix else ""),
            "platform": platform.platform(),
        },
        "machine": {
            "cores": f"{cores} ({threads} threads, {torch.get_num_threads()} used)",
            "memory": f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free",
            "device": _device(device),
            "precision": resolve_dtype("auto", device),
        },
        "packages": _packages(),
        "store": {"place": str(here.root), **_store(here)},
        "encoders": {one["name"]: one["weights"] for one in describe_presets()},
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _device(device: torch.device) -> str:
    if device.type == "cuda":
        return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return device.type


def _packages() -> dict[str, str]:
    """Versions of the package's dependencies, then of its extras'."""
    found: dict[str, str] = {}
    for requirement in requires(DISTRIBUTION) or []:
        name, _, condition = requirement.partition(";")
        name = re.split(r"[\s<>=!~\[]", name.strip(), maxsplit=1)[0]
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", condition)
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = f"not installed (extra {extra[1]})" if extra else "not installed"
    return found


def _store(store: FeatureStore) -> dict[str, str]:
    try:
        entries = store.entries()
    except FecError as error:
        return {"features": f"can't be read: {error}"}
    figures: dict[str, Any] = {"features": f"{sum(e.bytes for e in entries) / 1e9:.2f} GB of {len(entries)} encoders"}
    folder = Path(str(store.root))
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if "://" not in str(store.root):
        figures["disk"] = f"{shutil.disk_usage(folder).free / 1e9:.1f} GB free"
    return figures
