"""Atomic writes: a file or folder is written completely or not at all, even if the process is killed or the disk is
full."""

import glob
import logging
import os
import platform
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from fusion_classifier.errors import FecError, UsageError, reason

logger = logging.getLogger(__name__)

NODE = re.sub(r"[^A-Za-z0-9-]", "-", platform.node()) or "here"  # process ids are unique per machine only


def user_path(text: str, name: str = "") -> Path:
    """A path given by a user, `~` expanded; it need not exist.

    Args:
        text: The path.
        name: Name of the parameter, for error messages.
    """
    prefix = f"`{name}`: " if name else ""
    if not text:
        raise UsageError(f"{prefix}an empty string is not a path; give a name or a path")
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        raise UsageError(f"{prefix}{shown!r} is not a valid path ({error.__class__.__name__})") from error
    return path


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path, which replaces `path` when the block succeeds."""
    path, ending = path.absolute(), f"tmp{path.suffix}"  # matplotlib chooses the format by the suffix
    temporary = _beside(path.stem, path, ending)
    try:
        with _os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(path.stem, path, ending)
            yield temporary
            temporary.chmod(_default_mode(_beside(path.stem, path, f"mode.{ending}")))
            temporary.replace(path)
        logger.info("written", extra={"file": str(path)})
    finally:
        _remove(temporary)


def atomic_write(path: Path, text: str) -> None:
    """Write a text file atomically; raises `FecError` if it can't be written."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")  # the same bytes on every system


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder, which replaces `path` and all its contents when the block succeeds."""
    path = path.absolute()
    temporary, old = _beside(path.name, path, "tmp"), _beside(path.name, path, "old")
    try:
        with _os_errors(path):
            if path.exists() and not path.is_dir():
                raise FecError(f"{path} is a file, not a folder; choose another path")
            _remove_leftovers(path.name, path, "tmp")
            _remove_leftovers(path.name, path, "old", restore=not path.exists())
            temporary.mkdir(parents=True)
            yield temporary
            mode = _default_mode(temporary / ".mode")
            for file in temporary.rglob("*"):
                if file.is_file():
                    file.chmod(mode)
            if path.exists():
                path.rename(old)
            try:
                temporary.rename(path)
            except BaseException:
                if old.exists():
                    old.rename(path)
                raise
        logger.info("written", extra={"folder": str(path)})
    finally:
        _remove(temporary)
        _remove(old)


@contextmanager
def _os_errors(path: Path) -> Iterator[None]:
    """Raise an error that names the path if writing fails, such as on a full disk."""
    try:
        yield
    except OSError as error:
        raise FecError(f"{path} can't be written ({error.strerror or error})") from error
    except FecError:
        raise
    except Exception as error:
        if "(os error " not in str(error):  # how libraries in Rust (safetensors, tokenizers) report it
            raise
        raise FecError(f"{path} can't be written ({reason(error)})") from error


def _beside(name: str, path: Path, ending: str) -> Path:
    """A hidden path next to `path` that names this machine and process."""
    return path.with_name(f".{name}.{NODE}.{os.getpid()}.{ending}")


def _remove_leftovers(name: str, path: Path, ending: str, *, restore: bool = False) -> None:
    """Remove the temporary files that killed processes of this machine left next to `path`.

    With `restore` the first of them becomes `path`: its process was killed between the two renames.
    """
    for left in path.parent.glob(f".{glob.escape(name)}.{NODE}.*.{glob.escape(ending)}"):
        process = left.name.removeprefix(f".{name}.{NODE}.").partition(".")[0]
        if not process.isdecimal() or psutil.pid_exists(int(process)):
            continue
        if restore and not path.exists():
            with suppress(OSError):
                left.rename(path)
        else:
            _remove(left)


def _remove(path: Path) -> None:
    """Remove a file or folder, if it exists; for a link, only the link."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _default_mode(probe: Path) -> int:
    """Permissions of new files, read from `probe`, which is created and removed; safetensors does not set them.

    `os.umask` can be read only by changing it, for all threads.
    """
    try:
        with probe.open("wb") as file:
            return stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    finally:
        _remove(probe)
