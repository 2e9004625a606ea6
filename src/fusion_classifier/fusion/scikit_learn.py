"""A scikit-learn classifier as a head: fitted once to the pooled features.

It reads the concatenated pooled features of all encoders, each layer's vector scaled to unit L2 norm: (N, D),
float32. Logits are the logarithms of its probabilities, or their log-odds in a multi-label task, and are calibrated
like those of any head.

Saved with skops, never with pickle. A file may contain scikit-learn classes and the numpy and scipy types that skops
trusts; anything else is rejected, so that no code from the file is executed.
"""

# ruff: noqa: PLC0415  # scikit-learn and skops are imported only where such a head is used

import importlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusion_classifier.config import SklearnConfig
from fusion_classifier.errors import FecError, UsageError, reason
from fusion_classifier.features.arrays import FeatureShape
from fusion_classifier.fusion.head import Batch, OutOfFold, SolvedHead
from fusion_classifier.support.extras import require

MIN_PROBABILITY = 1e-6  # forests and nearest neighbours return 0, which has no logarithm


class SklearnHead(SolvedHead):
    """Wraps a classifier, which is cloned before fitting; None if a fitted one is read from a file."""

    def __init__(
        self, config: SklearnConfig, shapes: Mapping[str, FeatureShape], n_classes: int, classifier: Any = None
    ) -> None:
        super().__init__(config, shapes, n_classes)
        self.classifier = classifier
        self.multilabel = False

    @property
    def _class_name(self) -> str:
        return type(self.classifier).__name__

    def solve(
        self,
        x: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray | None,
        seed: int,
        n_label_names: int = 0,
        groups: np.ndarray | None = None,  # noqa: ARG002 - it does not cross-validate
    ) -> OutOfFold | None:
        """See `SolvedHead`; label names are not used. Every `random_state` that is None is set to the seed."""
        from sklearn.base import clone
        from sklearn.utils.validation import has_fit_parameter

        if self.classifier is None:
            raise UsageError("`head`: give the scikit-learn classifier itself, not its configuration")
        x, labels = x[: len(x) - n_label_names], labels[: len(x) - n_label_names]
        weights = None if weights is None else weights[: len(x)]
        classifier = clone(self.classifier)
        seeds = [n for n, v in classifier.get_params().items() if v is None and n.endswith("random_state")]
        classifier.set_params(**dict.fromkeys(seeds, seed))
        if weights is not None and not has_fit_parameter(classifier, "sample_weight"):
            raise UsageError(f"`head`: {self._class_name} does not support sample weights")
        try:
            classifier.fit(x, labels, **({} if weights is None else {"sample_weight": weights}))
        except (ValueError, NotImplementedError) as error:
            several = "; for several labels per text wrap it in a OneVsRestClassifier" if labels.ndim > 1 else ""
            raise UsageError(f"`head`: {self._class_name} can't be fitted ({reason(error)}){several}") from error
        self.classifier, self.multilabel = classifier, labels.ndim > 1
        return None

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, C)."""
        x = self.transform(batch)
        return torch.from_numpy(self._logits(x.cpu().numpy())).to(x.device)

    def _logits(self, x: np.ndarray) -> np.ndarray:
        """Logits (N, C), float32, for the output of `transform` (N, D)."""
        given, classes = self.classifier.predict_proba(x), self.classifier.classes_
        if isinstance(given, list):  # one array (N, 2) per label; (N, 1) if no training text, or every one, has it
            columns = [
                p[:, list(c).index(1)] if 1 in c else np.zeros(len(x)) for c, p in zip(classes, given, strict=True)
            ]
            p = np.stack(columns, axis=1)
        elif self.multilabel:
            p = np.asarray(given)
        else:
            p = np.zeros((len(x), self.n_classes))
            p[:, classes] = given
        if p.shape[1] != self.n_classes:
            raise ValueError(f"{self._class_name} returns {p.shape[1]} probabilities for {self.n_classes} labels")
        p = np.clip(p.astype(np.float64), MIN_PROBABILITY, 1 - MIN_PROBABILITY if self.multilabel else 1)
        logits: np.ndarray = np.log(p) - np.log1p(-p) if self.multilabel else np.log(p)
        return logits.astype(np.float32)

    def save(self, path: Path) -> None:
        """Write the fitted classifier."""
        io = _skops_io()
        content = io.dumps({"classifier": self.classifier, "multilabel": self.multilabel})
        foreign = [name for name in io.get_untrusted_types(data=content) if not _is_trusted(name)]
        if foreign:
            raise UsageError(f"`head` contains a {foreign[0]}, but only scikit-learn's own types can be saved")
        path.write_bytes(content)

    def load(self, path: Path) -> None:
        """Read a classifier written by `save`."""
        io = _skops_io()
        try:
            with zipfile.ZipFile(path) as archive:  # saved without compression
                if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                    raise ValueError("its content is larger than the file")
            names = io.get_untrusted_types(file=path)
            foreign = [name for name in names if not _is_trusted(name)]
            if foreign:
                raise ValueError(f"rejected: it contains a {foreign[0]}, not a type of scikit-learn")
            content = io.load(path, trusted=names)
            self.classifier, self.multilabel = content["classifier"], bool(content["multilabel"])
            self._logits(np.full((1, self.pooled_width), self.pooled_width**-0.5, dtype=np.float32))
        except Exception as error:  # of any kind, including MemoryError: the file may contain anything
            raise FecError(f"{path} can't be read, or does not fit its configuration ({reason(error)})") from error


def _skops_io() -> Any:
    require("a scikit-learn head", "skops", "skops")
    from skops import io

    return io


def is_classifier(head: object) -> bool:
    """Whether this is a scikit-learn classifier or its class, with or without `predict_proba`."""
    return all(hasattr(head, name) for name in ("fit", "predict", "get_params"))


def sklearn_config(classifier: Any) -> SklearnConfig:
    """Configuration of a scikit-learn classifier."""
    kind = type(classifier)
    if not hasattr(classifier, "predict_proba"):
        raise UsageError(f"`head`: {kind.__name__} has no predict_proba; wrap it in a CalibratedClassifierCV")
    return SklearnConfig(class_path=f"{kind.__module__}.{kind.__qualname__}")


def _is_trusted(name: str) -> bool:
    """Whether this is a class defined in scikit-learn (skops itself trusts types of numpy and scipy).

    Functions, and foreign classes that scikit-learn modules import, are not trusted: a file could have them called
    with arbitrary arguments.
    """
    module, _, attribute = name.rpartition(".")
    if module.partition(".")[0] != "sklearn" or "__" in module:
        return False
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return False
    return isinstance(found, type) and f"{found.__module__}.{found.__qualname__}" == name
