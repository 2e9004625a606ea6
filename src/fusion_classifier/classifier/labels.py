"""The labels and the decision of a trained model in its `config.json`; does not import torch."""

from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from fusion_classifier.config import FrozenModel, TextColumns
from fusion_classifier.training.decision import Decision
from fusion_classifier.version import __version__

LABEL_TYPES = {"str": str, "int": np.int64, "float": np.float64, "bool": np.bool_}


class LabelledConfig(FrozenModel):
    """Fields of every model's `config.json`."""

    version: str = __version__
    """Version of the package that wrote it."""
    task: str
    """Name of the data it was trained on."""
    id2label: dict[int, str] = Field(min_length=2)
    """Label of each output."""
    label_type: Literal["str", "int", "float", "bool"] = "str"
    """Type of the labels given to `fit`."""
    text_column: TextColumns = "text"
    """Columns with the training texts; the texts of several columns are joined by line breaks."""
    decision: Decision = Decision()
    """Calibration, offsets of the labels if there are any, and for a multi-label task thresholds."""

    @model_validator(mode="after")
    def _consistent_labels(self) -> Self:
        if sorted(self.id2label) != list(range(len(self.id2label))):
            raise ValueError("id2label must number the labels from 0 without a gap")
        if len(set(self.id2label.values())) < len(self.id2label):
            raise ValueError("id2label contains a duplicate label")
        thresholds = self.decision.thresholds
        if thresholds is not None and len(thresholds) != len(self.id2label):
            raise ValueError(f"{len(thresholds)} thresholds for {len(self.id2label)} labels")
        offsets = self.decision.offsets
        if offsets is not None and len(offsets) != len(self.id2label):
            raise ValueError(f"{len(offsets)} offsets for {len(self.id2label)} labels")
        return self

    @property
    def labels(self) -> list[str]:
        """Label names by index."""
        return [self.id2label[index] for index in range(len(self.id2label))]

    @property
    def classes(self) -> np.ndarray:
        """Labels in the type given to `fit`: (C,)."""
        if self.label_type == "bool":
            return np.array([label == "True" for label in self.labels])
        return np.array(self.labels).astype(LABEL_TYPES[self.label_type])
