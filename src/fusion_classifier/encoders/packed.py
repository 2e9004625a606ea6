"""A model's forward pass over concatenated texts, without padding.

Every part of a transformer except attention processes one token at a time. A batch of B texts can therefore be one
sequence of T tokens, (1, T, H), without padding. The states of a text do not depend on the length of the other texts.
Attention is computed for each group of texts of equal length as a dense (n, heads, L, L), without a mask; batches are
sorted by length, so there are few groups.

The model's own code from transformers runs, with another attention function
(https://huggingface.co/docs/transformers/attention_interface). MPNet adds a bias for the distance of tokens to its
attention and does not support another function, so its attention modules are replaced.

Measured gains: docs/decisions.md, extraction.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from fusion_classifier.encoders.reordered import reorder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "fec_packed"
# Model types whose attention is plain, or causal, within a text. Others mask more, or are not tested.
BY_INTERFACE = ("bert", "roberta", "xlm-roberta", "camembert", "llama", "mistral", "qwen2", "qwen3")
# Products in bfloat16 are compiled for each number of tokens; of multiples of this there are few.
TOKENS_MULTIPLE = 8


@dataclass(frozen=True)
class Group:
    """`texts` consecutive texts of `length` tokens each, starting at token `start`."""

    start: int
    texts: int
    length: int

    @property
    def tokens(self) -> slice:
        """Range of its tokens."""
        return slice(self.start, self.start + self.texts * self.length)


def grouped(lengths: Sequence[int]) -> list[Group]:
    """Groups of consecutive texts of equal length."""
    groups, start = [], 0
    for length, same in groupby(lengths):
        texts = len(list(same))
        groups.append(Group(start, texts, length))
        start += texts * length
    return groups


def by_text(values: Tensor, group: Group) -> Tensor:
    """View of a group's values: (T, …) to (n, L, …)."""
    return values[group.tokens].view(group.texts, group.length, *values.shape[1:])


def prepare(model: "PreTrainedModel", max_length: int) -> bool:
    """Prepare a loaded model for `states`; False, without changes, if it can't be run this way."""
    config = model.config
    if config.model_type == "mpnet":
        _prepare_mpnet(model)
        reorder(model)
        return True
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if (
        config.model_type not in BY_INTERFACE
        or getattr(config, "is_decoder", False)  # a BERT made causal
        or (window is not None and window < max_length)
    ):
        return False
    from transformers import AttentionInterface  # noqa: PLC0415 - takes seconds; the model has imported it

    AttentionInterface.register(NAME, _attention_function)
    model.set_attn_implementation(NAME)
    reorder(model)
    return True


def is_known(model: "PreTrainedModel") -> bool:
    """Whether a model is of a type that `prepare` supports."""
    return model.config.model_type in (*BY_INTERFACE, "mpnet")


def drop_layers(model: Any, deepest: int) -> None:
    """Remove the layers beyond hidden state `deepest`, and with them a decoder's norm after the last one.

    Models of unknown types keep all layers.
    """
    if not is_known(model):
        return
    layers = model.encoder.layer if hasattr(model, "encoder") else model.layers
    if deepest < len(layers):
        del layers[max(deepest, 1) :]  # transformers takes the embeddings from the first one's input
        if hasattr(model, "norm"):
            model.norm = nn.Identity()


def states(
    model: "PreTrainedModel", texts: Sequence[Sequence[int]], layers: Sequence[int], first_position: int
) -> tuple[Tensor, list[Group]]:
    """Hidden states (T, layers, H) of texts, in the model's dtype, text after text; and their groups.

    Args:
        model: Prepared by `prepare`.
        texts: Token ids of each text, at least one; texts of equal length should be adjacent.
        layers: Indices of hidden states, 0 (embeddings) to the number of layers.
        first_position: Position of a text's first token.
    """
    groups = grouped([len(ids) for ids in texts])
    tokens = sum(len(ids) for ids in texts)
    filler = -tokens % TOKENS_MULTIPLE  # tokens whose states nobody reads
    device = model.device
    ids = torch.tensor([[*chain.from_iterable(texts), *[0] * filler]], device=device)  # (1, T + filler)
    of_texts = [torch.arange(group.length).repeat(group.texts) for group in groups]
    positions = torch.cat([*of_texts, torch.zeros(filler, dtype=torch.int64)])[None].to(device) + first_position
    _here.groups = groups
    try:
        output = model(input_ids=ids, position_ids=positions, output_hidden_states=list(layers))
    finally:
        del _here.groups
    return torch.stack([output.hidden_states[layer][0, :tokens] for layer in layers], dim=1), groups


_here = threading.local()  # groups of this thread's pass


def attend(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None, causal: bool, bias: Tensor | None = None
) -> Tensor:
    """Attention within each text of this thread's pass: (T, heads, d).

    Args:
        query: (T, heads, d).
        key: (T, heads or a divisor of it, d).
        value: As the key.
        scale: Factor of the products; 1/√d if None.
        causal: Whether a token sees only those before it.
        bias: (heads, longest, longest), added to the products. Default: none.
    """
    result = torch.empty_like(query)
    result[_here.groups[-1].tokens.stop :] = 0  # the filler
    for group in _here.groups:
        n, length = group.texts, group.length
        q, k, v = (by_text(x, group).transpose(1, 2) for x in (query, key, value))
        attended = scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=None if bias is None else bias[:, :length, :length].expand(n, -1, -1, -1),
            scale=scale,
            is_causal=causal,
            enable_gqa=k.shape[1] != q.shape[1],
        )  # (n, heads, L, d)
        by_text(result, group).copy_(attended.transpose(1, 2))
    return result


def _attention_function(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _mask: Tensor | None,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Called by transformers: (1, heads, T, d) each, to (1, T, heads, d)."""
    causal = bool(getattr(module, "is_causal", True)) if is_causal is None else is_causal
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    return attend(q, k, v, scaling, causal)[None], None


class _DistanceBias:
    """MPNet's bias for every pair of positions, (heads, L, L) of the longest text; shorter texts use its corner."""

    def __init__(self, encoder: Any) -> None:
        self.compute = encoder.compute_position_bias
        self.bias: Tensor | None = None

    def __call__(self, hidden_states: Tensor) -> Tensor:
        longest = max(group.length for group in _here.groups)
        bias = self.bias
        if bias is None or bias.shape[-1] < longest:
            self.bias = bias = self.compute(hidden_states.new_empty(1, longest, 0))[0]
        return bias


class _MPNetSelfAttention(nn.Module):
    """transformers' `MPNetSelfAttention` over packed texts."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = original.q, original.k, original.v, original.o
        self.heads = original.num_attention_heads

    def forward(self, hidden_states: Tensor, _mask: Tensor | None, position_bias: Tensor, **_: Any) -> tuple[Tensor]:
        """(1, T, H) to (1, T, H)."""
        q, k, v = (linear(hidden_states[0]).unflatten(1, (self.heads, -1)) for linear in (self.q, self.k, self.v))
        return (self.o(attend(q, k, v, None, causal=False, bias=position_bias).flatten(1))[None],)


def _prepare_mpnet(model: Any) -> None:
    model.encoder.compute_position_bias = _DistanceBias(model.encoder)
    for layer in model.encoder.layer:
        layer.attention.attn = _MPNetSelfAttention(layer.attention.attn)
