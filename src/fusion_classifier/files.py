"""Files that are there whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fusion_classifier.errors import FecError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well.

    Raises:
        FecError: the file can't be written.
    """
    # The ending stays: matplotlib goes by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _usual_permissions(temporary)
        temporary.replace(path)
    except OSError as error:
        raise FecError(f"{path}: can't be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place, old content and all, when the block ends well.

    Raises:
        FecError: the folder can't be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _usual_permissions(file)
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    except OSError as error:
        raise FecError(f"{path}: can't be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


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
