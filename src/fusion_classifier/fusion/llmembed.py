"""Head `llmembed`: the classifier exactly as published.

Source: Liu et al.: LLMEmbed, ACL 2024, https://aclanthology.org/2024.acl-long.433, as used by
LLM-FusionClassifier (2025) with Llama-2-7b, BERT-large and RoBERTa-large.

    each LLM layer   z_i = Dropout(ReLU(W_i h_i + b_i))             (d)
    stack            X = [z_1 … z_5, BERT, RoBERTa]                 (n, d)
    co-occurrence    c = 2·sigmoid(σ · vec(X Xᵀ)) − 1               (n²)
    classifier       [c, mean of the h_i] → 1024 → 256 → C          ReLU and Dropout between

For that trio d = 1024 and n = 7, so the classifier reads 49 + 4096 numbers, and with 32 classes there are
25.49 M parameters. In general, an encoder with several layers takes the LLM's role; one with a single vector joins X,
through a linear projection if its width is not d; if no encoder has several layers, the first takes the LLM's role
with its single layer.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fusion_classifier.config import LlmEmbedConfig
from fusion_classifier.features.arrays import FeatureShape
from fusion_classifier.fusion.cooccurrence import cooccurrence, power_normalize
from fusion_classifier.fusion.dropout import Dropout
from fusion_classifier.fusion.head import Batch, Head, product_dtype

HIDDEN = (1024, 256)


class LlmEmbedHead(Head):
    """See the module's docstring."""

    def __init__(self, config: LlmEmbedConfig, shapes: Mapping[str, FeatureShape], n_classes: int) -> None:
        super().__init__(config, shapes, n_classes)
        self.sigma = config.sigma
        layered = [name for name, shape in shapes.items() if shape.layers > 1] or [next(iter(shapes))]
        self.is_layered = [name in layered for name in shapes]
        self.compress = nn.ModuleList()  # one module per layer of each encoder with several layers
        self.project = nn.ModuleList()  # one module per single vector; none if the width is d
        residual = vectors = 0
        for shape, is_layered in zip(shapes.values(), self.is_layered, strict=True):
            if is_layered:
                self.compress.extend(_compression(shape.width, config) for _ in range(shape.layers))
                residual += shape.width
                vectors += shape.layers
            else:
                same = shape.width == config.width
                self.project.append(nn.Identity() if same else nn.Linear(shape.width, config.width))
                vectors += 1
        self.classifier = nn.Sequential(
            nn.Linear(vectors**2 + residual, HIDDEN[0]),
            nn.ReLU(),
            Dropout(config.dropout),
            nn.Linear(HIDDEN[0], HIDDEN[1]),
            nn.ReLU(),
            Dropout(config.dropout),
            nn.Linear(HIDDEN[1], n_classes),
        )

    @property
    def output_bias(self) -> nn.Parameter:
        """See `Head`: (C,)."""
        last = self.classifier[-1]
        assert isinstance(last, nn.Linear)
        return last.bias

    def stack(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """X, (B, n, d), and the mean over the layers of each encoder with several layers, (B, H) each."""
        features = self.pooled(batch, product_dtype(self.mixture.device))  # each (B, layers, H)
        layered = [f for f, is_layered in zip(features, self.is_layered, strict=True) if is_layered]
        single = [f for f, is_layered in zip(features, self.is_layered, strict=True) if not is_layered]
        states = [feature[:, layer] for feature in layered for layer in range(feature.shape[1])]  # each (B, H)
        stack = [compress(state) for compress, state in zip(self.compress, states, strict=True)]
        stack += [project(feature[:, 0]) for project, feature in zip(self.project, single, strict=True)]
        return torch.stack(stack, dim=1), [feature.mean(1) for feature in layered]

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, C)."""
        logits: Tensor = self.classifier(self._inputs(batch))
        return logits

    def transform(self, batch: Batch) -> Tensor:
        """Input of the last layer: (B, 256)."""
        hidden: Tensor = self.classifier[:-1](self._inputs(batch))
        return hidden.float()

    def _inputs(self, batch: Batch) -> Tensor:
        """Input of the classifier: (B, n² + H)."""
        X, means = self.stack(batch)
        c = power_normalize(cooccurrence(X), self.sigma)  # (B, n²)
        return torch.cat([c, *means], dim=1)


def _compression(width: int, config: LlmEmbedConfig) -> nn.Module:
    return nn.Sequential(nn.Linear(width, config.width), nn.ReLU(), Dropout(config.dropout))
