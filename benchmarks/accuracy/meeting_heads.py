"""Heads in which encoders interact: the head `fusion` plus a joint part (meeting.py).

    h_e           all tokens of encoder e in a common width d: standardized, projected, LayerNorm (attention.py)
    own parts     as in `fusion`: one query per label over h_e                                      (E, B, C)
    joint part    one more part, from the tokens of all encoders; by default with projections of its own   (B, C)
    loss          (1 − share) · mean loss of the own parts + share · loss of the joint part

After training, all parts are weighted on the validation split as in `fusion`.

Sources: Vaswani et al.: Attention Is All You Need, NeurIPS 2017; Xiong et al.: On Layer Normalization in the
Transformer Architecture, ICML 2020 (norm before attention).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

from fusion_classifier.config import FusionConfig
from fusion_classifier.features.arrays import FeatureShape, TokenStates
from fusion_classifier.fusion.attention import AttentivePooling
from fusion_classifier.fusion.dropout import dropout
from fusion_classifier.fusion.fusion import FusionHead
from fusion_classifier.fusion.head import Batch

WORDS = " words"  # after an encoder's name: the feature with the word number of each of its tokens, (T, 1, 1)
POSITION_SCALE = 0.3  # of position vectors relative to states of norm √d


@dataclass(frozen=True)
class Joint:
    """Settings of the joint part."""

    own: bool = True  # whether it has projections of its own; otherwise those of the own parts
    depth: int = 1  # self-attention layers; of `each`: per encoder
    heads: int = 8
    drop: float = 0.1  # dropout in self-attention layers
    share: float = 0.5  # of the loss
    pos: bool = True  # whether tokens have position vectors


@dataclass(frozen=True)
class Encoded:
    """One encoder's tokens of a batch."""

    feature: TokenStates
    h: Tensor  # (T, d)
    kept: Tensor  # (B, L), bool: tokens with attention
    words: Tensor | None  # (T,), int64

    @property
    def padded(self) -> Tensor:
        """(B, L, d)."""
        return self.feature.padded(self.h)


def project(pool: AttentivePooling, feature: TokenStates) -> Tensor:
    """h of all tokens (T, d), as in `AttentivePooling.forward`."""
    c = pool.config
    projected = linear(pool._standardized(pool.flat(feature)), pool._weight(), pool.project.bias)
    h = layer_norm(projected.float(), (c.width,), pool.norm.weight, pool.norm.bias).to(projected.dtype)
    return dropout(h, c.token_dropout, pool.training)


def attend(queries: Tensor, padded: Tensor, kept: Tensor) -> Tensor:
    """One vector per query (B, Q, d): attention of queries (Q, d) over tokens (B, L, d)."""
    scores = (padded @ queries.T.to(padded.dtype)).float().masked_fill(~kept[..., None], -torch.inf)  # (B, L, Q)
    return scores.softmax(1).to(padded.dtype).transpose(1, 2) @ padded


def sinusoid(position: Tensor, d: int) -> Tensor:
    """Position vectors (…, d)."""
    rate = torch.exp(-math.log(1000.0) * torch.arange(d // 2, device=position.device) / (d // 2))
    angle = position[..., None].float() * rate
    return POSITION_SCALE * torch.cat([angle.sin(), angle.cos()], -1)


class Layer(nn.Module):
    """A transformer layer with the norm first."""

    def __init__(self, d: int, heads: int, drop: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 2 * d), nn.Linear(2 * d, d)
        self.heads, self.drop = heads, drop

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """(B, L, d) from (B, L, d)."""
        b, length, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mask = None if kept is None else kept[:, None, None, :]
        attended = scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(b, length, d)
        x = x + dropout(self.out(attended), self.drop, self.training).to(x.dtype)
        return x + dropout(self.down(gelu(self.up(self.norm2(x)))), self.drop, self.training).to(x.dtype)


class MeetingHead(FusionHead):
    """Base class: the own parts of `fusion`, and a joint part that a subclass defines in `build` and `joint`."""

    def __init__(
        self, config: FusionConfig, shapes: Mapping[str, FeatureShape], n_classes: int, settings: Joint | None = None
    ) -> None:
        super().__init__(config, {k: v for k, v in shapes.items() if not k.endswith(WORDS)}, n_classes)
        self.settings = settings or Joint()
        encoders, d = len(self.shapes), config.width
        self.joint_pooling: Iterable[nn.Module] = self.pooling
        if self.settings.own:
            self.joint_pooling = nn.ModuleList(AttentivePooling(config, s, 1) for s in self.shapes.values())
        self.kind = nn.Parameter(torch.randn(encoders, d) * 0.02)  # tells the encoders' tokens apart
        self.joint_norm = nn.LayerNorm(d)
        self.build(encoders, n_classes, d)
        self.mixture = torch.full((encoders + 1,), 1 / (encoders + 1))

    def build(self, encoders: int, labels: int, d: int) -> None:
        """Create the parameters of the joint part."""
        raise NotImplementedError

    def joint(self, encoded: Sequence[Encoded]) -> Tensor:
        """Logits of the joint part (B, C)."""
        raise NotImplementedError

    def layers(self, count: int) -> nn.ModuleList:
        """Self-attention layers."""
        return nn.ModuleList(Layer(self.config.width, self.settings.heads, self.settings.drop) for _ in range(count))

    def fit_statistics(self, batches: Iterable[Batch]) -> None:
        """Also for the joint part's projections."""
        super().fit_statistics(batches)
        for joint, own in zip(self.joint_pooling, self.pooling, strict=True):
            assert isinstance(joint, AttentivePooling)
            assert isinstance(own, AttentivePooling)
            joint.mean.copy_(own.mean)
            joint.std.copy_(own.std)

    def parts(self, batch: Batch) -> Tensor:
        """Each encoder's logits and the joint ones: (E + 1, B, C)."""
        own: list[Encoded] = []
        encoded: list[Encoded] = []
        pooled: list[Tensor] = []
        for name, pool in zip(self.shapes, self.pooling, strict=True):
            feature = batch[name]
            assert isinstance(pool, AttentivePooling)
            assert isinstance(feature, TokenStates)
            h, kept = project(pool, feature), pool._kept(feature.mask)
            pooled.append(attend(pool.queries, feature.padded(h), kept))
            words = batch.get(name + WORDS)
            numbers = words.states.flatten().long() if isinstance(words, TokenStates) else None
            own.append(Encoded(feature, h, kept, numbers))
        evidence = dropout(torch.stack(pooled), self.config.dropout, self.training).float()  # (E, B, C, d)
        logits = (evidence * self.weight[:, None]).sum(3) + self.bias[:, None]
        for pool, e in zip(self.joint_pooling, own, strict=True):
            assert isinstance(pool, AttentivePooling)
            encoded.append(Encoded(e.feature, project(pool, e.feature), e.kept, e.words) if self.settings.own else e)
        return torch.cat([logits, self.joint(encoded)[None]])

    def objectives(self, batch: Batch) -> list[tuple[float, Tensor]]:
        """The own parts and the joint part."""
        *own, joint = self.parts(batch)
        share = self.settings.share
        return [*(((1 - share) / len(own), logits) for logits in own), (share, joint)]


class SequenceHead(MeetingHead):
    """`seq`: the tokens of all encoders in one sequence, with self-attention over all of them, then label queries."""

    def build(self, encoders: int, labels: int, d: int) -> None:  # noqa: ARG002 - subclasses need it
        self.blocks = self.layers(self.settings.depth)
        self.label_weights(1, labels, d)

    def label_weights(self, groups: int, labels: int, d: int) -> None:
        """Queries and weights per label, for each of the groups of tokens."""
        self.queries = nn.Parameter(torch.randn(groups, labels, d) / math.sqrt(d))
        self.joint_weight = nn.Parameter(torch.randn(groups, labels, d) / math.sqrt(d))
        self.joint_bias = nn.Parameter(torch.zeros(labels))

    def sequence(self, position: int, e: Encoded) -> Tensor:
        """One encoder's tokens with the vectors of encoder and position: (B, L, d)."""
        x = e.padded
        if self.settings.pos:
            places = torch.arange(x.shape[1], device=x.device)[None] if e.words is None else e.feature.padded(e.words)
            x = x + sinusoid(places, x.shape[2]).to(x.dtype)
        return x + self.kind[position].to(x.dtype)

    def classified(self, group: int, x: Tensor, kept: Tensor, blocks: Iterable[nn.Module]) -> Tensor:
        """Logits without bias (B, C), of tokens (B, L, d)."""
        for block in blocks:
            x = block(x, kept)
        vectors = attend(self.queries[group], self.joint_norm(x), kept)  # (B, C, d)
        vectors = dropout(vectors, self.config.dropout, self.training).float()
        return (vectors * self.joint_weight[group]).sum(-1)

    def joint(self, encoded: Sequence[Encoded]) -> Tensor:
        x = torch.cat([self.sequence(i, e) for i, e in enumerate(encoded)], 1)  # (B, ΣL, d)
        kept = torch.cat([e.kept for e in encoded], 1)
        return self.classified(0, x, kept, self.blocks) + self.joint_bias


class EachHead(SequenceHead):
    """`each`: as `seq`, but each encoder's tokens attend to themselves only; the mean of the encoders' logits.

    It has the layers of `seq` without the interaction, so the gain of `seq` over it is due to interaction.
    """

    def build(self, encoders: int, labels: int, d: int) -> None:
        self.blocks = self.layers(self.settings.depth * encoders)
        self.label_weights(encoders, labels, d)

    def joint(self, encoded: Sequence[Encoded]) -> Tensor:
        depth, total = self.settings.depth, torch.zeros_like(self.joint_bias)
        for i, e in enumerate(encoded):
            blocks = list(self.blocks)[i * depth : (i + 1) * depth]
            total = total + self.classified(i, self.sequence(i, e), e.kept, blocks) / len(encoded)
        return total + self.joint_bias


class WordHead(SequenceHead):
    """`word`: the mean of each encoder's tokens of a word; the encoders' means concatenated and projected, then
    self-attention over the words."""

    def build(self, encoders: int, labels: int, d: int) -> None:
        super().build(encoders, labels, d)
        self.merge = nn.Linear(encoders * d, d)

    def merged(self, means: Sequence[Tensor]) -> Tensor:
        """The encoders' means (B, W, d) as one vector per word."""
        result: Tensor = self.merge(torch.cat(list(means), -1))
        return result

    def joint(self, encoded: Sequence[Encoded]) -> Tensor:
        longest = 1 + max(int(e.words.max()) for e in encoded if e.words is not None)
        means: list[Tensor] = []
        known = torch.zeros(1, dtype=torch.bool, device=self.kind.device)
        for e in encoded:
            assert e.words is not None, "needs word numbers"
            texts = len(e.feature)
            cell = (
                torch.repeat_interleave(torch.arange(texts, device=e.h.device), e.feature.lengths) * longest + e.words
            )
            total = e.h.new_zeros(texts * longest, e.h.shape[1], dtype=torch.float32).index_add_(0, cell, e.h.float())
            count = torch.bincount(cell, minlength=texts * longest)
            means.append((total / count.clamp(min=1)[:, None]).view(texts, longest, -1))
            known = known | (count > 0).view(texts, longest)
        x = self.merged(means).to(encoded[0].h.dtype)  # (B, W, d)
        if self.settings.pos:
            x = x + sinusoid(torch.arange(longest, device=x.device), x.shape[2]).to(x.dtype)
        pool = self.pooling[0]
        assert isinstance(pool, AttentivePooling)
        return self.classified(0, x, pool._kept(known), self.blocks) + self.joint_bias


class WordSumHead(WordHead):
    """`wordsum`: as `word`, but the encoders' means are added."""

    def build(self, encoders: int, labels: int, d: int) -> None:
        SequenceHead.build(self, encoders, labels, d)

    def merged(self, means: Sequence[Tensor]) -> Tensor:
        """The sum."""
        return torch.stack(list(means)).sum(0)


class LabelsHead(MeetingHead):
    """`labels`: every encoder is pooled with one query per label; the vectors of a label are concatenated over the
    encoders and pass through a small network with a vector per label (label anchors)."""

    def build(self, encoders: int, labels: int, d: int) -> None:
        self.label = nn.Parameter(torch.randn(labels, d) * 0.02)
        self.merge, self.inner = nn.Linear(encoders * d, d), nn.Linear(d, d)
        self.blocks = self.layers(0)
        self.queries = nn.Parameter(torch.randn(encoders, labels, d) / math.sqrt(d))
        self.joint_weight = nn.Parameter(torch.randn(labels, d) / math.sqrt(d))
        self.joint_bias = nn.Parameter(torch.zeros(labels))

    def joint(self, encoded: Sequence[Encoded]) -> Tensor:
        pooled = [attend(q, e.padded, e.kept) for q, e in zip(self.queries, encoded, strict=True)]  # (B, C, d) each
        x = self.inner(gelu(self.merge(torch.cat(pooled, -1)) + self.label))
        for block in self.blocks:
            x = block(x + self.label.to(x.dtype))
        x = dropout(self.joint_norm(x), self.config.dropout, self.training).float()
        return (x * self.joint_weight).sum(-1) + self.joint_bias


class LabelAttentionHead(LabelsHead):
    """`labelattn`: as `labels`, then self-attention between the labels' vectors."""

    def build(self, encoders: int, labels: int, d: int) -> None:
        super().build(encoders, labels, d)
        self.blocks = self.layers(self.settings.depth)


class MlpHead(MeetingHead):
    """`mlp`: the means of the encoders' tokens, concatenated, through one hidden layer."""

    def build(self, encoders: int, labels: int, d: int) -> None:
        self.up, self.out = nn.Linear(encoders * d, 2 * d), nn.Linear(2 * d, labels)

    def joint(self, encoded: Sequence[Encoded]) -> Tensor:
        means = torch.cat([e.padded.float().sum(1) / e.feature.lengths[:, None] for e in encoded], 1)  # (B, E · d)
        x = gelu(self.up(dropout(means, 0.3, self.training)))
        logits: Tensor = self.out(dropout(x, self.config.dropout, self.training)).float()
        return logits


HEADS: dict[str, type[MeetingHead]] = {
    "seq": SequenceHead,
    "each": EachHead,
    "word": WordHead,
    "wordsum": WordSumHead,
    "labels": LabelsHead,
    "labelattn": LabelAttentionHead,
    "mlp": MlpHead,
}
