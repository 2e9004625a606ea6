"""Head `fusion`: attention per label over the tokens of every encoder.

    attentive pooling    p_{e,c} = Σ_t α_{e,t,c} h_{e,t}       for each encoder e and label c (attention.py)
    encoder's logits     s_{e,c} = w_{e,c} · Dropout(p_{e,c}) + b_{e,c}
    co-occurrence        r_c = cosines of all pairs of (V_e p_{e,c}) over encoders, in m subspaces; off by default
    logits               o_c = Σ_e a_e s_{e,c} + a_r v_c · (r_c / √(|r_c| + ε)),     a_e = 1/E, a_r = 1 in training
    loss                 (1/E) Σ_e loss(s_e), with co-occurrence the mean of that and loss(o)
    afterwards           a ≥ 0 with the lowest loss(o) on the validation split (training/calibration.py)

Each encoder has its own loss (deep supervision). With a loss on the common logits alone, encoders divide the work and
each learns less than it could: three were hardly better than two.

The encoders' tokens need no alignment: each encoder is pooled separately first. A single encoder has no pairs, and so
no co-occurrence term. With more labels than `MAX_LABEL_QUERIES`, K queries are shared by all labels, and a linear
layer computes the logits from all pooled vectors.

Sources: attention.py for the pooling; Lee et al.: Deeply-Supervised Nets, AISTATS 2015,
https://proceedings.mlr.press/v38/lee15a.html, for the losses of the parts; Wolpert: Stacked Generalization, Neural
Networks 5, 1992, for weights fitted on held-out texts. The co-occurrence pooling and power normalization are derived
from Liu et al.: LLMEmbed, ACL 2024, https://aclanthology.org/2024.acl-long.433, with cosines
and a signed root instead of dot products and tanh, which saturate (docs/fusion.md).
"""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from fusion_classifier.config import FusionConfig
from fusion_classifier.features.arrays import FeatureShape
from fusion_classifier.fusion.attention import AttentivePooling
from fusion_classifier.fusion.cooccurrence import cosine_cooccurrence, signed_root
from fusion_classifier.fusion.dropout import dropout
from fusion_classifier.fusion.head import Batch, Head

MAX_LABEL_QUERIES = 256  # with more labels, attention per label costs more than it gains
SHARED_QUERIES = 32


class FusionHead(Head):
    """See the module's docstring."""

    def __init__(self, config: FusionConfig, shapes: Mapping[str, FeatureShape], n_classes: int) -> None:
        super().__init__(config, shapes, n_classes)
        self.config: FusionConfig = config
        self.by_label = n_classes <= MAX_LABEL_QUERIES
        queries = n_classes if self.by_label else SHARED_QUERIES
        encoders, d = len(shapes), config.width
        self.pooling = nn.ModuleList(AttentivePooling(config, shape, queries) for shape in shapes.values())
        evidence = d if self.by_label else queries * d
        self.weight = nn.Parameter(torch.randn(encoders, n_classes, evidence) / math.sqrt(evidence))
        self.bias = nn.Parameter(torch.zeros(encoders, n_classes))
        self.pairs = encoders * (encoders - 1) // 2
        mixture = torch.full((encoders,), 1 / encoders)
        if self.cooccurs:
            mixture = torch.cat([mixture, torch.ones(1)])
            self.common = nn.Parameter(torch.eye(d).repeat(encoders, 1, 1))  # V_e, (E, d, d)
            # Zero: the term has no effect at first.
            self.pair_weight = nn.Parameter(torch.zeros(n_classes, config.cooccurrence * self.pairs))
        self.register_buffer("mixture", mixture)

    @property
    def cooccurs(self) -> bool:
        """Whether there is a co-occurrence term."""
        return self.by_label and self.config.cooccurrence > 0 and self.pairs > 0

    @property
    def output_bias(self) -> nn.Parameter:
        """See `Head`: (E, C)."""
        return self.bias

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Compute mean and standard deviation of each encoder's states from a sample of the training tokens."""
        pools = [pool for pool in self.pooling if isinstance(pool, AttentivePooling)]
        samples: list[list[Tensor]] = [[] for _ in pools]
        for batch in batches:
            lacking = 0
            for name, pool, sample in zip(self.shapes, pools, samples, strict=True):
                if sum(map(len, sample)) < pool.sample_size:
                    sample.append(pool.flat(batch[name]).float())
                lacking += sum(map(len, sample)) < pool.sample_size
            if not lacking:
                break
        for pool, sample in zip(pools, samples, strict=True):
            pool.fit_statistics(torch.cat(sample))

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, C)."""
        return self._mixed(self.parts(batch))

    def transform(self, batch: Batch) -> Tensor:
        """The attentive-pooled vectors, averaged over the queries and concatenated over the encoders: (B, E · d)."""
        return self._pooled(batch).mean(2).transpose(0, 1).flatten(1).float()

    def _pooled(self, batch: Batch) -> Tensor:
        """One vector per encoder, text and query: (E, B, Q, d)."""
        return torch.stack([pool(batch[name]) for name, pool in zip(self.shapes, self.pooling, strict=True)])

    def parts(self, batch: Batch) -> Tensor:
        """Each encoder's logits and, if any, the co-occurrence term: (P, B, C)."""
        pooled = self._pooled(batch)
        evidence = dropout(pooled, self.config.dropout, self.training).float()  # (E, B, Q, d)
        if self.by_label:
            logits = (evidence * self.weight[:, None]).sum(3)
        else:
            logits = evidence.flatten(2) @ self.weight.transpose(1, 2)
        logits = logits.float() + self.bias[:, None]  # (E, B, C)
        if not self.cooccurs:
            return logits
        common = torch.einsum("ebcd,edf->bcef", pooled, self.common.to(pooled.dtype)).float()
        cosines = cosine_cooccurrence(common, self.config.cooccurrence)  # (B, C, heads · pairs)
        return torch.cat([logits, (signed_root(cosines) * self.pair_weight).sum(2)[None]])

    def objectives(self, batch: Batch) -> list[tuple[float, Tensor]]:
        """Each encoder's logits, (B, C) each, and with co-occurrence the fused ones."""
        parts = self.parts(batch)
        count = len(self.shapes)
        if not self.cooccurs:
            return [(1 / count, logits) for logits in parts]
        return [*((0.5 / count, logits) for logits in parts[:count]), (0.5, self._mixed(parts))]

    def _mixed(self, parts: Tensor) -> Tensor:
        return (self.mixture[:, None, None] * parts).sum(0)
