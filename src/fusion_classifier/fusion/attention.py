"""Converts the token states of one encoder to one vector per query: standardize, project, attend.

    z_t = clip((x_t − mean) / std, ±c)                     x_t: all chosen layers of token t
    h_t = LayerNorm(Σ_l W_l z_{t,l} + b)                   learned mixing of layers, to a common width d
    α_t,q = softmax_t(h_t · u_q),   p_q = Σ_t α_t,q h_t    attentive pooling with learned queries u_q

A pooled feature is treated as a text of one token, with attention 1.

Sources: Lin et al.: A Structured Self-attentive Sentence Embedding, ICLR 2017, https://arxiv.org/abs/1703.03130
(multiple learned queries); Mullenbach et al.: Explainable Prediction of Medical Codes from Clinical Text, NAACL
2018, https://arxiv.org/abs/1802.05695 (one query per label); Peters et al.: Deep contextualized word
representations, NAACL 2018 (learned mixing of layers); Sun et al.: Massive Activations in Large Language Models,
COLM 2024, https://arxiv.org/abs/2402.17762 (why states are clipped).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear

from fusion_classifier.config import FusionConfig
from fusion_classifier.encoders.statistics import clipped_statistics
from fusion_classifier.features.arrays import FeatureShape, TokenStates
from fusion_classifier.fusion.dropout import dropout
from fusion_classifier.fusion.head import product_dtype

STATISTICS_BYTES = 2**28  # of float32 states from which mean and standard deviation are computed
CACHED_VALUES = 2**18  # float32 values that fit into a core's cache


class AttentivePooling(nn.Module):
    """One encoder's part of the head `fusion`; see the module's docstring."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: FusionConfig, shape: FeatureShape, queries: int) -> None:
        super().__init__()
        self.config, self.layers, self.states = config, shape.layers, shape.layers * shape.width
        self.register_buffer("mean", torch.zeros(self.states))
        self.register_buffer("std", torch.ones(self.states))
        self.project = nn.Linear(self.states, config.width)
        self.norm = nn.LayerNorm(config.width)
        self.n_queries = queries
        if shape.ragged:  # a single token needs no attention
            self.queries = nn.Parameter(torch.randn(queries, config.width) / math.sqrt(config.width))

    @property
    def sample_size(self) -> int:
        """Number of tokens from which statistics are computed, in bounded memory."""
        return max(STATISTICS_BYTES // (4 * self.states), 1024)

    def flat(self, feature: Tensor | TokenStates) -> Tensor:
        """States of all tokens: (T, layers · H)."""
        states = feature.states if isinstance(feature, TokenStates) else feature
        return states.reshape(states.shape[0], self.states)  # len would be a constant in an exported graph

    def fit_statistics(self, x: Tensor) -> None:
        """Mean and standard deviation of each state over training tokens (T, layers · H)."""
        mean, std = clipped_statistics(x)
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, feature: Tensor | TokenStates) -> Tensor:
        """One vector per query (B, Q, d), of token states or of a pooled feature (B, layers, H)."""
        c = self.config
        projected = linear(self._standardized(self.flat(feature)), self._weight(), self.project.bias)  # (T, d)
        # The norm needs float32; the rest uses the precision of the products.
        h = layer_norm(projected.float(), (c.width,), self.norm.weight, self.norm.bias).to(projected.dtype)
        h = dropout(h, c.token_dropout, self.training)
        if not isinstance(feature, TokenStates):
            return h[:, None].expand(-1, self.n_queries, -1)
        padded, mask = feature.padded(h), self._kept(feature.mask)  # (B, L, d), (B, L)
        scores = (
            (padded @ self.queries.T.to(padded.dtype)).float().masked_fill(~mask[..., None], -torch.inf)
        )  # (B, L, Q)
        weights = scores.softmax(1).to(padded.dtype)
        return weights.transpose(1, 2) @ padded

    def _standardized(self, states: Tensor) -> Tensor:
        """z of all tokens (T, layers · H) in the precision of the products, in blocks that fit into the cache."""
        if torch.compiler.is_exporting():  # an exported graph has any number of tokens, so no loop
            z = (states.float() - self.mean) / self.std
            return z.clamp(-self.config.clip, self.config.clip)
        z = torch.empty(states.shape, dtype=product_dtype(states.device), device=states.device)
        size = max(CACHED_VALUES // self.states if states.device.type == "cpu" else len(states), 1)
        for start in range(0, len(states), size):
            part = states[start : start + size].to(torch.float32, copy=True)
            z[start : start + size] = part.sub_(self.mean).div_(self.std).clamp_(-self.config.clip, self.config.clip)
        return z

    def _weight(self) -> Tensor:
        """The projection's weight; in training, random states are dropped for all tokens of the batch.

        Dropout of single values is no better here and needs random numbers per token.
        """
        weight, rate = self.project.weight, self.config.state_dropout
        if not self.training or not rate:
            return weight
        return weight * dropout(torch.ones(self.states, device=weight.device), rate, training=True)

    def _kept(self, mask: Tensor) -> Tensor:
        """Mask of the tokens with attention; in training, random tokens are dropped, but never all of a text."""
        if not self.training or not self.config.word_dropout:
            return mask
        kept = mask & (torch.rand(mask.shape, device=mask.device) >= self.config.word_dropout)
        return torch.where(kept.any(1, keepdim=True), kept, mask)
