"""Head `fusion`, the default: every label looks for its own evidence in the tokens of every encoder.

    attentive pooling    p_{e,c} = Σ_t α_{e,t,c} h_{e,t}       for each encoder e, a query a label c (attention.py)
    label evidence       s_c = Σ_e w_{e,c} · Dropout(p_{e,c}) + b_c     in training now and then without some e
    co-occurrence        r_c = cosines of all pairs of (V_e p_{e,c}) over encoders, in m subspaces
    logits               o_c = s_c + v_c · (r_c / √(|r_c| + ε))

The encoders' tokens need no alignment: each encoder is pooled on its own before anything meets. A single
encoder has no pairs, and the co-occurrence term is absent. With more labels than `MOST_LABEL_QUERIES` the
queries are shared: K of them, and a linear layer from all pooled vectors to the logits.

Sources: attention.py for the pooling; the co-occurrence pooling and power normalization descend from Liu et
al.: LLMEmbed, ACL 2024, https://aclanthology.org/2024.acl-long.433, with cosines and a signed root instead of
dot products and tanh, which saturate (docs/fusion.md).
"""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear

from fusion_classifier.config import FusionConfig
from fusion_classifier.features.arrays import FeatureShape
from fusion_classifier.fusion.attention import AttentivePooling, kept_share
from fusion_classifier.fusion.cooccurrence import cosine_cooccurrence, signed_root
from fusion_classifier.fusion.head import Batch, Head

MOST_LABEL_QUERIES = 256  # beyond, attention a label costs more than it is worth
SHARED_QUERIES = 32


class FusionHead(Head):
    """See the module's docstring."""

    def __init__(self, config: FusionConfig, shapes: Mapping[str, FeatureShape], n_classes: int) -> None:
        super().__init__(shapes)
        self.config = config
        self.by_label = n_classes <= MOST_LABEL_QUERIES
        queries = n_classes if self.by_label else SHARED_QUERIES
        encoders, d = len(shapes), config.width
        self.pooling = nn.ModuleList(AttentivePooling(config, shape, queries) for shape in shapes.values())
        evidence = encoders * d * (1 if self.by_label else queries)
        self.weight = nn.Parameter(torch.randn(n_classes, evidence) / math.sqrt(evidence))
        self.bias = nn.Parameter(torch.zeros(n_classes))
        self.pairs = encoders * (encoders - 1) // 2
        if self.cooccurs:
            self.common = nn.Parameter(torch.eye(d).repeat(encoders, 1, 1))  # V_e, (E, d, d)
            # Zero: the term starts without a say and earns one.
            self.pair_weight = nn.Parameter(torch.zeros(n_classes, config.cooccurrence * self.pairs))

    @property
    def cooccurs(self) -> bool:
        """Whether there is a co-occurrence term."""
        return self.by_label and self.config.cooccurrence > 0 and self.pairs > 0

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Mean and standard deviation of each encoder's states, from a sample of the training tokens."""
        samples: list[list[Tensor]] = [[] for _ in self.shapes]
        for batch in batches:
            for name, pool, sample in zip(self.shapes, self.pooling, samples, strict=True):
                assert isinstance(pool, AttentivePooling)
                if sum(map(len, sample)) < pool.sample_size:
                    sample.append(pool.flat(batch[name]).float())
            if all(
                sum(map(len, sample)) >= pool.sample_size  # type: ignore[operator]
                for sample, pool in zip(samples, self.pooling, strict=True)
            ):
                break
        for pool, sample in zip(self.pooling, samples, strict=True):
            assert isinstance(pool, AttentivePooling)
            pool.fit_statistics(torch.cat(sample))

    def _kept_encoders(self, pooled: Tensor) -> Tensor:
        """A factor an encoder, (E,): in training whole encoders are left out at random, never all.

        So the head can't lean on the one that fits the training texts best.
        """
        count, rate = pooled.shape[2], self.config.encoder_dropout
        if not self.training or not rate or count == 1:
            return pooled.new_ones(count)
        return kept_share(count, rate, pooled.device).to(pooled.dtype)

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, C)."""
        vectors = [pool(batch[name]) for name, pool in zip(self.shapes, self.pooling, strict=True)]
        pooled = torch.stack(vectors, 2)  # (B, Q, E, d)
        pooled = pooled * self._kept_encoders(pooled)[:, None]
        evidence = dropout(pooled, self.config.dropout, self.training).float()
        if not self.by_label:
            return linear(evidence.flatten(1), self.weight, self.bias)
        logits = (evidence.flatten(2) * self.weight).sum(2) + self.bias  # (B, C)
        if self.cooccurs:
            common = torch.einsum("bced,edf->bcef", pooled, self.common.to(pooled.dtype)).float()
            cosines = cosine_cooccurrence(common, self.config.cooccurrence)  # (B, C, heads · pairs)
            logits = logits + (signed_root(cosines) * self.pair_weight).sum(2)
        return logits
