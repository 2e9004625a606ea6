"""Heads of your own: a scikit-learn classifier, a torch module, and a registered head.

    python examples/own_head.py

Needs no download; a scikit-learn classifier is saved by skops: pip install 'llm-fusion-classifier[skops]'. The same
values of `head` work in `FusionClassifier`, which reads texts (docs/extend.md).
"""

import tempfile
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from fusion_classifier import FusionHeadClassifier, Head, HeadConfig, register_head


class Perceptron(nn.Module):
    """A plain torch module, made from the shape of each encoder's feature and the number of labels."""

    def __init__(self, shapes: Mapping[str, Any], n_classes: int) -> None:
        super().__init__()
        width = sum(shape.layers * shape.width for shape in shapes.values())
        self.layers = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, n_classes))

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits (B, C) of the features of B texts, by encoder name."""
        x = torch.cat([feature.float().flatten(1) for feature in batch.values()], dim=1)
        logits: Tensor = self.layers(x)
        return logits


class GatedConfig(HeadConfig):
    """Configuration of the head `gated`; stored in a model's config.json."""

    name: Literal["gated"] = "gated"
    width: int = 32


@register_head(GatedConfig)
class Gated(Head):
    """A head with a name: a weighted sum of projections, one per encoder."""

    def __init__(self, config: GatedConfig, shapes: Mapping[str, Any], n_classes: int) -> None:
        super().__init__(config, shapes, n_classes)
        widths = [shape.layers * shape.width for shape in shapes.values()]
        self.projections = nn.ModuleList(nn.Linear(width, config.width) for width in widths)
        self.gates = nn.Parameter(torch.zeros(len(widths)))
        self.classify = nn.Linear(config.width, n_classes)

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """Logits (B, C)."""
        features = [feature.flatten(1) for feature in self.pooled(batch)]
        projected = [project(feature) for project, feature in zip(self.projections, features, strict=True)]
        mixed = sum(gate * one for gate, one in zip(self.gates.softmax(0), projected, strict=True))
        logits: Tensor = self.classify(torch.relu(mixed))
        return logits


def main() -> None:
    """Train each head on the same features, save it and read it again."""
    pixels, digits = load_digits(return_X_y=True)  # stand in for features: two encoders of width 32
    rows = np.random.default_rng(0).permutation(len(digits))
    train, test = rows[:1200], rows[1200:]
    for name, head in {
        "scikit-learn": LogisticRegression(C=100, max_iter=1000),
        "torch module": Perceptron,
        "registered, by name": "gated",
        "registered, configured": GatedConfig(width=64),
    }.items():
        classifier = FusionHeadClassifier(head, blocks={"upper": 32, "lower": 32})
        classifier.fit(pixels[train], digits[train])
        with tempfile.TemporaryDirectory() as folder:
            classifier.save_pretrained(folder)
            # The code of a torch module is not saved: pass it again. The others need no `head` here.
            again = FusionHeadClassifier.from_pretrained(folder, head=head)
        assert np.array_equal(again.predict(pixels[test]), classifier.predict(pixels[test]))
        print(f"{name}: accuracy {again.score(pixels[test], digits[test]):.3f}")


if __name__ == "__main__":
    main()
