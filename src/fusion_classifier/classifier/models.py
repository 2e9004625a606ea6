"""Trained models by name: folders, the models that come with the package, and those on the Hub."""

import json
import os
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from fusion_classifier.config import TextColumns
from fusion_classifier.errors import FecError, UsageError
from fusion_classifier.support.files import user_path
from fusion_classifier.support.hub import download_model, is_hub_id
from fusion_classifier.training.known import KNOWN_FILE

CONFIG_FILE = "config.json"
HEAD_FILES = ("model.safetensors", "head.skops")  # one of them is in a model folder
CARD_FILE = "README.md"
OPTIMIZED_HEAD = "head.onnx"  # is in the folder of an optimized model, or of a head exported alone
# Format strings with the number of an encoder.
PROJECTION_FILE = "projection-{}.safetensors"
ENCODER_GRAPH = "encoder-{}.onnx"
TOKENIZER_FILE = "tokenizer-{}/tokenizer.json"
# Patterns of all files that are loaded, and so downloaded from the Hub. None of them is code: no predict.py.
MODEL_FILES = (
    CONFIG_FILE,
    CARD_FILE,
    KNOWN_FILE,
    *HEAD_FILES,
    PROJECTION_FILE.format("*"),
    f"{OPTIMIZED_HEAD}*",  # large weights are in a file with the suffix .data
    f"{ENCODER_GRAPH.format('*')}*",
    TOKENIZER_FILE.format("*"),
)
METRICS_FILE = "metrics.json"  # of a model that comes with the package: the scores of its run
DEFAULT_MODEL = "go-emotions"  # comes with the package
STANDALONE_FILE = Path(__file__).with_name("standalone.py")  # predict.py of an optimized model
BUILT_IN_FOLDER = Path(__file__).with_name("builtin")  # package data: one model folder per name


def is_model(folder: Path) -> bool:
    """Whether this looks like a model folder."""
    return (folder / CONFIG_FILE).is_file() and any((folder / name).is_file() for name in HEAD_FILES)


def is_optimized(folder: Path) -> bool:
    """Whether this looks like the folder of an optimized model."""
    return (folder / CONFIG_FILE).is_file() and (folder / OPTIMIZED_HEAD).is_file() and not is_model(folder)


def check_replaceable(folder: Path, name: str) -> None:
    """Raise `UsageError` if replacing this folder with a model would delete anything but a model.

    Args:
        folder: Folder, which need not exist.
        name: Name of the parameter, for the error message.
    """
    patterns = [pattern.partition("/")[0] for pattern in MODEL_FILES]
    entries = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    foreign = [entry for entry in entries if not any(fnmatch(entry, pattern) for pattern in patterns)]
    if foreign or (entries and not is_model(folder)):
        first = (foreign or entries)[0]
        raise UsageError(f"`{name}`: {folder} contains {first}, which is not part of a model; choose another folder")


def built_in_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.name for path in BUILT_IN_FOLDER.iterdir() if is_model(path))


def describe_models() -> list[dict[str, Any]]:
    """Every model that comes with the package: task, labels, head, encoders, size in bytes, scores on test."""
    described = []
    for name in built_in_models():
        folder = BUILT_IN_FOLDER / name
        config, metrics = (json.loads((folder / file).read_text("utf-8")) for file in (CONFIG_FILE, METRICS_FILE))
        described.append(
            {
                "name": name,
                "task": config["task"],
                "labels": list(config["id2label"].values()),
                "head": config["head"]["name"],
                "encoders": [saved["config"]["name"] for saved in config["encoders"]],
                "packages": [saved["package"] for saved in config["encoders"]],
                "bytes": sum(file.stat().st_size for file in folder.iterdir()),
                "test": {metric: metrics["test"][metric]["mean"] for metric in ("accuracy", "weighted_f1", "ece")},
            }
        )
    return described


def find_model(name: str | os.PathLike[str], **hub: Any) -> Path:
    """The model folder for a name, which is a model folder, run folder, built-in model or Hub id, in this order."""
    path = user_path(os.fspath(name))
    if path.exists():
        return path / "model" if (path / "model").is_dir() else path
    if str(name) in built_in_models():
        return BUILT_IN_FOLDER / str(name)
    if is_hub_id(str(name)):
        return download_model(str(name), MODEL_FILES, **hub)
    there = ", ".join(built_in_models())
    raise FecError(f"{name}: no such model folder, run folder or built-in model ({there})")


def text_column_of(name: str | os.PathLike[str]) -> TextColumns:
    """Columns of a model's training texts; "text" if its `config.json` has none."""
    with suppress(OSError, ValueError, AttributeError):  # the model's own reader reports what is wrong
        found = json.loads((find_model(name) / CONFIG_FILE).read_text("utf-8")).get("text_column", "text")
        return found if isinstance(found, str) else tuple(found)
    return "text"


def find_run_or_model(name: str | os.PathLike[str]) -> Path:
    """Like `find_model`, but a run folder is returned as it is, for all its seeds."""
    path = user_path(os.fspath(name))
    has_encoder = is_model(path) and (path / "model").is_dir()  # config.json and weights, as `fec tune` writes them
    return path if path.exists() and not has_encoder else find_model(name)
