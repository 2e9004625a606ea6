"""Text classification on frozen language models: extract once, fuse, train a compact classifier.

    from fusion_classifier import FusionClassifier      # texts in, labels out
    from fusion_classifier import FusionHeadClassifier  # features in, labels out

The command line is `fec`; see `fec --help`.
"""

import logging
from typing import TYPE_CHECKING, Any

from fusion_classifier.version import __version__

if TYPE_CHECKING:
    from fusion_classifier.classifier.estimator import FusionClassifier
    from fusion_classifier.classifier.head_estimator import FusionHeadClassifier

# Where torchao is installed, transformers imports it, and it warns of every kernel that this machine can't use.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)

__all__ = ["FusionClassifier", "FusionHeadClassifier", "__version__"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: torch and transformers take seconds, and `fec --help` needs neither.
    if name == "FusionClassifier":
        from fusion_classifier.classifier.estimator import FusionClassifier  # noqa: PLC0415

        return FusionClassifier
    if name == "FusionHeadClassifier":
        from fusion_classifier.classifier.head_estimator import FusionHeadClassifier  # noqa: PLC0415

        return FusionHeadClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
