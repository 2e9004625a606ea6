# ruff: noqa: PLC0415 - pyarrow's file systems are imported only for object storage
"""Location of a store: a folder on disk, or a prefix in object storage (`s3://bucket/prefix`).

Credentials, region and endpoint of object storage come from the environment, as its vendors define them
(AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT_URL, …): they are never part of the command line or the store.
"""

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from fusion_classifier.errors import StoreError, UsageError, reason
from fusion_classifier.support.files import user_path


@dataclass(frozen=True)
class StorePlace:
    """A folder, by its path, or a prefix in object storage, by its URI."""

    root: Path | str

    @classmethod
    def of(cls, root: str | os.PathLike[str]) -> "StorePlace":
        """The location of this name; UsageError if it is neither a folder nor a prefix."""
        text = os.fspath(root)
        scheme, separator, rest = text.partition("://")
        if not separator:
            return cls(user_path(text, "store"))
        if scheme != "s3":
            raise UsageError(
                f"`store`: {scheme}://… is neither a folder nor a prefix in object storage, s3://BUCKET/…"
            )
        if "@" in rest.partition("/")[0]:
            raise UsageError("`store`: credentials belong in the environment, not in the name s3://…")
        return cls(text.rstrip("/"))

    def __str__(self) -> str:
        return str(self.root)

    def absolute(self) -> str:
        """Name that is valid in any working directory."""
        return str(self.root.absolute() if isinstance(self.root, Path) else self.root)

    def uri(self, name: str) -> str:
        """URI of a folder in it, for Lance."""
        return f"{self.root}/{name}"

    def folders(self) -> list[str]:
        """Names of the folders in it."""
        if isinstance(self.root, Path):
            return sorted(path.name for path in self.root.iterdir() if path.is_dir()) if self.root.is_dir() else []
        return sorted(info.base_name for info in self._listed() if not info.is_file)

    def has_files(self, name: str, ending: str) -> bool:
        """Whether a folder in it has a file with this suffix."""
        if isinstance(self.root, Path):
            return any((self.root / name).glob(f"*{ending}"))
        return any(info.base_name.endswith(ending) for info in self._listed(f"/{name}"))

    def exists(self, name: str) -> bool:
        """Whether the folder exists."""
        if isinstance(self.root, Path):
            return (self.root / name).exists()
        return any(True for _ in self._listed(f"/{name}"))

    def remove(self, name: str) -> None:
        """Delete a folder."""
        if isinstance(self.root, Path):
            # Renamed first, so that an interrupted deletion leaves nothing that looks like features.
            trash = (self.root / name).with_suffix(".deleted")
            shutil.rmtree(trash, ignore_errors=True)
            (self.root / name).rename(trash)
            shutil.rmtree(trash)
            return
        self._ask(lambda system, path: system.delete_dir(f"{path}/{name}"))

    def locked(self, name: str) -> AbstractContextManager[Any]:
        """Lock that excludes other writers on a disk. Object storage has no locks."""
        if isinstance(self.root, Path):
            self.root.mkdir(parents=True, exist_ok=True)
            return FileLock(self.root / f"{name}.lock")
        return nullcontext()

    def _listed(self, folder: str = "") -> list[Any]:
        """Entries directly below a folder in object storage; empty if it does not exist."""
        from pyarrow import fs

        found: list[Any] = self._ask(
            lambda system, path: system.get_file_info(fs.FileSelector(f"{path}{folder}", allow_not_found=True))
        )
        return found

    def _ask(self, question: Callable[[Any, str], Any]) -> Any:
        from pyarrow import fs

        try:
            return question(*fs.FileSystem.from_uri(str(self.root)))
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{self.root} can't be reached ({reason(error)}); check that the bucket exists and that the "
                "environment has its credentials, region and endpoint"
            ) from error
