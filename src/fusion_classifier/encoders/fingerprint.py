"""SHA-256 of a model's files, cached per user, so that 13 GB are not read at every start."""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import platformdirs

from fusion_classifier.encoders.weights import Weights
from fusion_classifier.errors import FecError, WeightsError
from fusion_classifier.support.files import atomic_write


def fingerprint(weights: Weights) -> str:
    """SHA-256 over the names and contents of a model's files; a GGUF file counts by its content alone."""
    digest = hashlib.sha256()
    for path, file_digest in zip(weights.files(), file_digests(weights.files()), strict=True):
        name = "model.gguf" if weights.gguf_file is not None else path.name
        digest.update(f"{name} {file_digest}\n".encode())
    return digest.hexdigest()


def file_digests(paths: Iterable[Path]) -> list[str]:
    """SHA-256 of each file, cached by path, size, modification time and inode."""
    memory = Path(platformdirs.user_cache_dir("fec")) / "file-digests.json"
    try:
        known = json.loads(memory.read_text())
    except (OSError, ValueError):
        known = {}
    if not isinstance(known, dict):
        known = {}
    digests, added = [], False
    for path in paths:
        try:
            status = path.stat()
            place = f"{path.resolve()}:{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"
            if place not in known:
                with path.open("rb") as file:
                    known[place] = hashlib.file_digest(file, "sha256").hexdigest()
                added = True
        except OSError as error:
            raise WeightsError(f"{path} can't be read ({error.strerror or error})") from error
        digests.append(known[place])
    if added:
        with suppress(FecError):  # it only costs time
            atomic_write(memory, json.dumps(known))
    return digests
