"""Where a store is: a folder on a disk, or a prefix in object storage (`s3://bucket/prefix`).

Credentials, region and endpoint of object storage come from the environment, as its vendors define them
(AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT_URL, …): neither the command line nor the store ever holds them.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from pyarrow import fs

from fusion_classifier.errors import StoreError, UsageError, reason
from fusion_classifier.support.files import user_path


@dataclass(frozen=True)
class Place:
    """A folder, by its path, or a prefix in object storage, by its URI."""

    root: Path | str

    @classmethod
    def of(cls, root: str | os.PathLike[str]) -> "Place":
        """The place that a user names."""
        text = os.fspath(root)
        scheme, separator, rest = text.partition("://")
        if not separator:
            return cls(user_path(text, "--store "))
        if scheme != "s3":
            raise UsageError(
                f"--store {scheme}://…: a store is a folder, or a prefix in object storage, s3://BUCKET/…"
            )
        if "@" in rest.partition("/")[0]:
            raise UsageError("--store s3://…: credentials belong into the environment, not into the store's name")
        return cls(text.rstrip("/"))

    def __str__(self) -> str:
        return str(self.root)

    def absolute(self) -> str:
        """What names it from any folder."""
        return str(self.root.absolute() if isinstance(self.root, Path) else self.root)

    def uri(self, name: str) -> str:
        """Of a folder in it, for Lance."""
        return f"{self.root}/{name}"

    def folders(self) -> list[str]:
        """Names of the folders in it."""
        if isinstance(self.root, Path):
            return sorted(path.name for path in self.root.iterdir() if path.is_dir()) if self.root.is_dir() else []
        system, path = self._remote()
        found = self._asked(lambda: system.get_file_info(fs.FileSelector(path, allow_not_found=True)))
        return sorted(entry.base_name for entry in found if entry.type == fs.FileType.Directory)

    def has_files(self, name: str, ending: str) -> bool:
        """Whether a folder in it holds a file with this ending."""
        if isinstance(self.root, Path):
            return any((self.root / name).glob(f"*{ending}"))
        system, path = self._remote()
        selector = fs.FileSelector(f"{path}/{name}", allow_not_found=True)
        return any(entry.base_name.endswith(ending) for entry in self._asked(lambda: system.get_file_info(selector)))

    def exists(self, name: str) -> bool:
        """Whether there is such a folder."""
        if isinstance(self.root, Path):
            return (self.root / name).exists()
        system, path = self._remote()
        return bool(self._asked(lambda: system.get_file_info(f"{path}/{name}")).type != fs.FileType.NotFound)

    def remove(self, name: str) -> None:
        """Delete a folder."""
        if isinstance(self.root, Path):
            # Renamed first, so that a deletion cut short leaves nothing that looks like features.
            trash = (self.root / name).with_suffix(".deleted")
            shutil.rmtree(trash, ignore_errors=True)
            (self.root / name).rename(trash)
            shutil.rmtree(trash)
            return
        system, path = self._remote()
        self._asked(lambda: system.delete_dir(f"{path}/{name}"))

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Held against other writers on a disk, so that no work is lost to them. Object storage has no locks."""
        if isinstance(self.root, Path):
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / f"{name}.lock"):
                yield
            return
        yield

    def _remote(self) -> tuple[Any, str]:
        system, path = self._asked(lambda: fs.FileSystem.from_uri(str(self.root)))
        return system, path

    def _asked(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{self.root}: can't be reached ({reason(error)}); see that the bucket exists and that the "
                "environment has its credentials, region and endpoint"
            ) from error
