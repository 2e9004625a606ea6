"""The run folder: locked while it is written, and bound to one configuration."""

import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import yaml
from filelock import FileLock

from fusion_classifier.config import RunConfig
from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.errors import FecError, UsageError
from fusion_classifier.runs.config_file import CONFIG_FILE, read_config, read_run_config
from fusion_classifier.support.files import atomic_folder, atomic_write
from fusion_classifier.tasks.loaded import LoadedTask
from fusion_classifier.training.tracking import STATE_FILE, TENSORBOARD_FOLDER
from fusion_classifier.version import __version__, source_commit

if TYPE_CHECKING:
    import torch

METRICS_FILE = "metrics.json"
STAGES_FILE = "stages.json"
REPORT_FILE = "report.html"
REPORTED_PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "scikit-learn", "pylance", "pyarrow")


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Lock the run folder against other commands that write to it."""
    lock = FileLock(out / ".lock", blocking=False)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        raise FecError(
            f"{out}: another fec command is writing there; wait for it, or choose another `out`"
        ) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise FecError(f"{out} is a file; choose another `out`") from error
    except OSError as error:
        raise FecError(f"{out} can't be written ({error.strerror}); choose another `out`") from error
    try:
        yield
    finally:
        lock.release()


def claim(
    out: Path,
    config: RunConfig,
    task: LoadedTask,
    identities: Sequence[EncoderIdentity],
    device: "torch.device",
    *,
    overwrite: bool,
) -> None:
    """Write `config.yaml`, or compare with the existing one."""
    parts = task.splits | ({"augmentation": task.augmentation} if task.augmentation else {})
    decides = {
        "run": config.model_dump(mode="json"),
        "data": {
            "source": task.source,
            "licence": task.licence,
            "labels": len(task.labels),
            "splits": {name: {"rows": len(part), "sha256": part.fingerprint()} for name, part in parts.items()},
        },
        "encoder_keys": {identity.config.name: identity.key for identity in identities},
    }
    path = out / CONFIG_FILE
    if path.exists() and not overwrite:
        # Validated, so that a field added by a newer version has its default.
        there = read_config(out) | {"run": read_run_config(out).model_dump(mode="json")}
        for part, value in decides.items():
            difference = _difference(value, there.get(part), part)
            if difference:
                raise UsageError(
                    f"{out} contains a run with a different configuration ({difference}); "
                    "choose another `out`, or `overwrite` to replace it"
                )
        return
    others = [entry.name for entry in out.iterdir() if not entry.name.startswith(".")]
    if others and not path.exists():  # a run's config.yaml is written first
        raise UsageError(f"{out} is not a run folder (it contains {others[0]}); choose another `out`")
    if overwrite:
        _discard(out)
    described = decides | {
        "weights": {i.config.name: {"source": i.weights.source, "fingerprint": i.fingerprint} for i in identities},
        "environment": environment(device),
    }
    atomic_write(path, yaml.safe_dump(described, sort_keys=False, allow_unicode=True))


def _discard(out: Path) -> None:
    """Remove seeds, model and results of a run to be replaced; everything else is overwritten."""
    with atomic_folder(out / "seeds"):
        pass
    for name in (METRICS_FILE, STAGES_FILE, REPORT_FILE, STATE_FILE):
        (out / name).unlink(missing_ok=True)
    for name in ("model", TENSORBOARD_FOLDER):  # an old model could be mistaken for that of the new seeds
        shutil.rmtree(out / name, ignore_errors=True)


def _difference(new: Any, old: Any, where: str) -> str | None:
    """The first difference between two configurations."""
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        for key in [*new, *(key for key in old if key not in new)]:
            found = _difference(new.get(key), old.get(key), f"{where}.{key}")
            if found:
                return found
        return None
    if isinstance(new, Sequence) and not isinstance(new, str) and isinstance(old, Sequence) and len(new) == len(old):
        pairs = enumerate(zip(new, old, strict=True))
        return next((d for i, (a, b) in pairs if (d := _difference(a, b, f"{where}.{i}"))), None)
    return None if new == old else f"{where}: there {old!r}, now {new!r}"


def environment(device: "torch.device") -> dict[str, Any]:
    """Versions, platform and processor, on which a result may depend in addition to the configuration."""
    import torch  # noqa: PLC0415 - report and compare read run folders without it

    return {
        "fusion_classifier": __version__,
        "commit": source_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device.type,
        "threads": torch.get_num_threads(),
        **{name: version(name) for name in REPORTED_PACKAGES},
    }
