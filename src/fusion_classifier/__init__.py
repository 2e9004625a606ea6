"""Text classification on frozen language models: extract once, fuse, train a compact classifier.

    from fusion_classifier import FusionClassifier      # texts in, labels out
    from fusion_classifier import FusionHeadClassifier  # features in, labels out

These names are the public API; docs/extend.md shows encoders, heads and tasks of your own. The command line is `fec`.
"""

import sys
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fusion_classifier.version import __version__

if TYPE_CHECKING:
    from fusion_classifier.classifier.estimator import FusionClassifier
    from fusion_classifier.classifier.explanation import Explanation
    from fusion_classifier.classifier.head_estimator import FusionHeadClassifier
    from fusion_classifier.config import EncoderConfig, HeadConfig, TaskConfig, TrainingChanges, TrainingConfig
    from fusion_classifier.encoders.protocol import Encoder, FunctionEncoder, PrecomputedEncoder
    from fusion_classifier.fusion.head import Head
    from fusion_classifier.fusion.registry import register_head
    from fusion_classifier.tasks.hub_dataset import HubDataset
    from fusion_classifier.tasks.loaded import LoadedTask, Split
    from fusion_classifier.tasks.registry import load_task, register_task
    from fusion_classifier.tasks.task import Task

# Imported at first use: torch and transformers take seconds, and `fec --help` needs neither.
_MODULES = {
    "Encoder": "encoders.protocol",
    "EncoderConfig": "config",
    "Explanation": "classifier.explanation",
    "FunctionEncoder": "encoders.protocol",
    "FusionClassifier": "classifier.estimator",
    "FusionHeadClassifier": "classifier.head_estimator",
    "Head": "fusion.head",
    "HeadConfig": "config",
    "HubDataset": "tasks.hub_dataset",
    "LoadedTask": "tasks.loaded",
    "PrecomputedEncoder": "encoders.protocol",
    "Split": "tasks.loaded",
    "Task": "tasks.task",
    "TaskConfig": "config",
    "TrainingChanges": "config",
    "TrainingConfig": "config",
    "load_task": "tasks.registry",
    "register_head": "fusion.registry",
    "register_task": "tasks.registry",
}

__all__ = [
    "Encoder",
    "EncoderConfig",
    "Explanation",
    "FunctionEncoder",
    "FusionClassifier",
    "FusionHeadClassifier",
    "Head",
    "HeadConfig",
    "HubDataset",
    "LoadedTask",
    "PrecomputedEncoder",
    "Split",
    "Task",
    "TaskConfig",
    "TrainingChanges",
    "TrainingConfig",
    "__version__",
    "load_task",
    "register_head",
    "register_task",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if "ipykernel" in sys.modules:
        with warnings.catch_warnings():  # in a notebook without ipywidgets tqdm warns; its bars are not used here
            warnings.filterwarnings("ignore", "IProgress not found")
            import_module("tqdm.auto")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
