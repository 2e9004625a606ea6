"""The trained head in a model folder: `model.safetensors`, or `head.skops` for a scikit-learn classifier.

Files may be untrusted: nothing is unpickled, no code is executed, and no memory is allocated for what a configuration
merely claims.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fusion_classifier.config import HeadConfig, ModuleConfig
from fusion_classifier.errors import FecError, UsageError
from fusion_classifier.features.arrays import FeatureShape
from fusion_classifier.fusion.head import Head
from fusion_classifier.fusion.registry import build_head
from fusion_classifier.fusion.scikit_learn import SklearnHead


def save_head(head: Head, folder: Path) -> None:
    """Write a trained head to the file `head.config.file` in a folder.

    Raises:
        UsageError: A scikit-learn classifier can't be saved.
        OSError: It can't be written.
    """
    path = folder / head.config.file
    if isinstance(head, SklearnHead):
        head.save(path)
        return
    # Copies: shared weights are saved twice.
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in head.state_dict().items()}, path)


def load_head(
    config: HeadConfig, shapes: Mapping[str, FeatureShape], n_classes: int, folder: Path, given: object = None
) -> Head:
    """Read a head written by `save_head`, ready for prediction.

    For a head that was given as a torch module, `given` is that module, or a function or class that returns it.
    """
    path = folder / config.file
    if isinstance(config, ModuleConfig):
        if given is None:
            raise UsageError(
                f"{folder}: the head is your torch module {config.class_path}, whose code is not in the "
                f"folder; give it: from_pretrained(…, head={config.class_path.rpartition('.')[2]})"
            )
        head = build_head(given, shapes, n_classes)
    else:
        if config.defined_in is None:
            _check_size(config, shapes, n_classes, path)
        head = build_head(config, shapes, n_classes)
    if isinstance(head, SklearnHead):
        head.load(path)
    else:
        load_weights(head, path)
    return head.eval()


def load_weights(head: Head, path: Path) -> None:
    """Read the weights of a head from a safetensors file."""
    try:
        head.load_state_dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise FecError(f"{path} can't be read ({error})") from error
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise FecError(f"{path} does not fit the head of its configuration ({reason})") from error
    broken = next((name for name, tensor in head.state_dict().items() if not tensor.isfinite().all()), None)
    if broken:
        raise FecError(f"{path}: NaN or infinity in {broken}; the file is damaged, or its training diverged")
    head.eval()


def _check_size(config: HeadConfig, shapes: Mapping[str, FeatureShape], n_classes: int, path: Path) -> None:
    """Compare the size of the described head with that of the file before allocating memory for it."""
    try:
        with torch.device("meta"):
            size = sum(tensor.nbytes for tensor in build_head(config, shapes, n_classes).state_dict().values())
    except Exception as error:  # of any kind, caused by the configuration
        raise FecError(f"{path}: the configuration does not describe a valid head") from error
    if not path.is_file():
        raise FecError(f"{path} is missing")
    if size > path.stat().st_size:
        raise FecError(f"{path} does not fit the head of its configuration ({size:,} bytes)")
