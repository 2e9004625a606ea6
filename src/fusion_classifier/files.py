"""Files that are there whole or not at all."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fusion_classifier.errors import FecError, UsageError

logger = logging.getLogger(__name__)


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
    # The ending stays: matplotlib goes by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _usual_permissions(temporary)
        temporary.replace(path)
        logger.info("written", extra={"file": str(path)})
    except OSError as error:
        raise FecError(f"{path}: can't be written ({error.strerror or error})") from error
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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        if path.exists() and not path.is_dir():
            raise FecError(f"{path}: is a file, not a folder; choose another place")
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
    except OSError as error:
        raise FecError(f"{path}: can't be written ({error.strerror or error})") from error
    finally:
        for rest in (temporary, old):
            if rest.is_symlink():
                rest.unlink()
            else:
                shutil.rmtree(rest, ignore_errors=True)


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
