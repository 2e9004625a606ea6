"""Files that are there whole or not at all."""

import glob
import logging
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from fusion_classifier.errors import FecError, UsageError, reason

logger = logging.getLogger(__name__)

NODE = re.sub(r"[^A-Za-z0-9-]", "-", platform.node()) or "here"  # a process number means nothing on another machine


def user_path(text: str, what: str = "") -> Path:
    """The path that a user has written, `~` expanded, there or not; `what` (an option) begins the message.

    Raises:
        UsageError: no path at all, such as an empty string or a name of a thousand letters.
    """
    shown = text if len(text) <= 60 else f"{text[:60]}…"
    if not text:
        raise UsageError(f"{what}an empty string is no path; give a name or a path")
    try:
        path = Path(text).expanduser()
        path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{what}{shown!r} is no usable path ({error.__class__.__name__})") from error
    return path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well.

    Raises:
        FecError: the file can't be written.
    """
    path = path.absolute()
    temporary = _beside(path.stem, path, f"tmp{path.suffix}")  # the ending stays: matplotlib goes by it
    try:
        with _said(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _sweep(path.stem, path, f"tmp{path.suffix}")
            yield temporary
            _usual_permissions(temporary)
            temporary.replace(path)
        logger.info("written", extra={"file": str(path)})
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place, old content and all, when the block ends well.

    Raises:
        FecError: the folder can't be written.
    """
    path = path.absolute()
    temporary, old = _beside(path.name, path, "tmp"), _beside(path.name, path, "old")
    try:
        with _said(path):
            if path.exists() and not path.is_dir():
                raise FecError(f"{path}: is a file, not a folder; choose another place")
            if path.parent.is_dir():
                _sweep(path.name, path, "tmp")
                _sweep(path.name, path, "old", restored=not path.exists())
            temporary.mkdir(parents=True)
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _usual_permissions(file)
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
        for rest in (temporary, old):
            if rest.is_symlink():
                rest.unlink()
            else:
                shutil.rmtree(rest, ignore_errors=True)


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """What the system says, such as that the disk is full, becomes an error that names the place."""
    try:
        yield
    except OSError as error:
        raise FecError(f"{path}: can't be written ({error.strerror or error})") from error
    except FecError:
        raise
    except Exception as error:
        # Libraries in Rust (safetensors, tokenizers) pass it on in exceptions of their own.
        if "(os error " not in str(error):
            raise
        raise FecError(f"{path}: can't be written ({reason(error)})") from error


def _beside(name: str, path: Path, ending: str) -> Path:
    """A hidden place beside `path` that says which process of which machine it belongs to."""
    return path.with_name(f".{name}.{NODE}.{os.getpid()}.{ending}")


def _sweep(name: str, path: Path, ending: str, *, restored: bool = False) -> None:
    """Remove what killed processes of this machine have left beside `path`.

    With `restored` the first of them takes the path's place: that process was killed between the two renamings.
    """
    for left in path.parent.glob(f".{glob.escape(name)}.{NODE}.*.{glob.escape(ending)}"):
        process = left.name.removeprefix(f".{name}.{NODE}.").removesuffix(f".{ending}")
        if not process.isdecimal() or psutil.pid_exists(int(process)):
            continue
        with suppress(OSError):
            if restored and not path.exists():
                left.rename(path)
            elif left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()


def _usual_permissions(file: Path) -> None:
    """Those of any new file; safetensors makes its files readable by their owner only."""
    mask = os.umask(0)
    os.umask(mask)
    file.chmod(0o666 & ~mask)


def write_whole(path: Path, text: str) -> None:
    """Write a text file in one step.

    Raises:
        FecError: the file can't be written.
    """
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
