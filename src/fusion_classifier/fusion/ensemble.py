"""Head `ensemble`, the default: linear and attention members, weighted by out-of-fold predictions.

    linear members      logistic regression on the last layers of all encoders, on all their layers, and, with several
                        encoders, on all layers of each (linear.py)
    attention members   attention per label over the tokens of each encoder (fusion.py), the mean of several seeds
    upper layers        of the smallest encoder, trained on its token states (upper_layers.py); up to 5,000 texts
    logits              o = Σ_m a_m s_m,   a ≥ 0

Which members are better depends on the texts and their number; so the weights a_m are those with
the lowest loss on texts that the members were not trained on (training/ensemble.py).

Source: Wolpert: Stacked Generalization, Neural Networks 5, 1992.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from fusion_classifier.config import EnsembleConfig, HeadConfig, LinearConfig
from fusion_classifier.features.arrays import FeatureShape
from fusion_classifier.fusion.fusion import FusionHead
from fusion_classifier.fusion.head import Batch, Head
from fusion_classifier.fusion.linear import LinearHead
from fusion_classifier.fusion.upper_layers import UpperLayers

REPEATS = 3  # number of seeds on few texts, where they differ most
HALF_TRUST_ROWS = 50  # training texts at which attention has half of its final prior weight
UPPER_HALF_TRUST_ROWS = 16  # the same for the upper layers, whose prior weight rises to 1


class EnsembleHead(Head):
    """See the module's docstring.

    Attributes:
        linear: Linear members: `last`, `all`, and `encoder0`, … in the order of the encoders.
        attention: `FusionHead`s of different seeds; each has a member per encoder.
        upper: The upper layers, if any.
        members: Names of the members, in the order of `mixture` and `parts`.
        sizes: Numbers of linear members, attention members, and upper layers (0 or 1).
    """

    def __init__(self, config: EnsembleConfig, shapes: Mapping[str, FeatureShape], n_classes: int) -> None:
        super().__init__(config, shapes, n_classes)
        self.config: EnsembleConfig = config
        kinds = ("last", "all") if any(shape.layers > 1 for shape in shapes.values()) else ("all",)
        self.linear = nn.ModuleDict({kind: LinearHead(_linear(kind), shapes, n_classes) for kind in kinds})
        alone = shapes if len(shapes) > 1 else {}
        for number, (name, shape) in enumerate(alone.items()):  # a name may contain ".", which no key may
            self.linear[f"encoder{number}"] = LinearHead(_linear("all"), {name: shape}, n_classes)
        heads = [FusionHead(config.attention, shapes, n_classes) for _ in range(config.repeats or 1)]
        self.attention = nn.ModuleList(heads)
        self.upper = None
        if config.upper is not None:
            self.upper = UpperLayers(config.upper, shapes[config.upper.encoder].width, n_classes)
        linear = [f"linear {part}" for part in (*kinds, *alone)]
        tokens = [f"attention {name}" for name in shapes] + ["co-occurrence"] * heads[0].cooccurs
        upper = [] if config.upper is None else [f"upper layers {config.upper.encoder}"]
        self.members = linear + tokens + upper
        self.sizes = len(linear), len(tokens), len(upper)
        self.register_buffer("mixture", torch.full((len(self.members),), 1 / len(self.members)))

    def parts(self, batch: Batch) -> Tensor:
        """Logits of each member (P, B, C)."""
        # Computed once for all linear members: the mean over tokens reads every state.
        pooled = dict(zip(self.shapes, self.pooled(batch), strict=True))
        linear = [member.logits_of([pooled[name] for name in member.shapes]) for member in self.linear.values()]  # type: ignore[operator, union-attr]
        attention = torch.stack([head.parts(batch) for head in self.attention]).mean(0)  # type: ignore[operator]
        upper = [] if self.upper is None else [self.upper(batch)[None]]
        return torch.cat([torch.stack(linear), attention, *upper])

    def columns_of(self, member: LinearHead) -> np.ndarray:
        """Indices of a linear member's features among those of `linear all`, which contain them: (D,), int64."""
        chosen, start = [], 0
        for name, shape in self.shapes.items():
            end = start + shape.layers * shape.width
            if name in member.shapes:
                chosen.append(np.arange(end - shape.width if member.last_only else start, end))
            start = end
        return np.concatenate(chosen)

    def prior(self, rows: int) -> Tensor:
        """Prior weights of the members (P,) for this number of training texts: with fewer texts, linear members
        get more."""
        linear, attention, upper = self.sizes
        trusted = rows / (rows + HALF_TRUST_ROWS)
        prior = torch.tensor([(1 - trusted / 2) / linear] * linear + [trusted / attention] * attention)
        of_upper = rows / (rows + UPPER_HALF_TRUST_ROWS)
        return torch.cat([prior * (1 - upper * of_upper / 4), torch.full((upper,), of_upper)])

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, C)."""
        return (self.mixture[:, None, None] * self.parts(batch)).sum(0)

    def transform(self, batch: Batch) -> Tensor:
        """Pooled features, as the linear members read them, and attentive-pooled vectors of the first seed: (B,
        D)."""
        attentive: Tensor = self.attention[0].transform(batch)  # type: ignore[operator]
        return torch.cat([self.unit_vectors(batch), attentive], dim=1)


def with_repeats(config: HeadConfig, rows: int) -> HeadConfig:
    """The configuration with the number of `repeats` for this number of training texts, unless it is given."""
    if not isinstance(config, EnsembleConfig) or config.repeats is not None:
        return config
    return config.model_copy(update={"repeats": REPEATS if rows <= config.cross_validated_rows else 1})


def _linear(kind: str) -> LinearConfig:
    return LinearConfig(linear_layers="last" if kind == "last" else "all")
