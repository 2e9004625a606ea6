"""Groups texts into batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from fusion_classifier.config import TruncationSide
from fusion_classifier.encoders.loading import TransformerEncoder
from fusion_classifier.encoders.tokenization import TokenizedText, tokenize, tokenize_windows

# Tokens of a forward pass. On a CPU larger ones leave the cache (docs/decisions.md); a GPU needs more to be busy.
TOKEN_BUDGET = {"cpu": 512, "mps": 8192, "cuda": 32768}

Tag = TypeVar("Tag")


@dataclass(frozen=True)
class Job(Generic[Tag]):
    """A batch to encode."""

    tag: Tag  # returned with the features of the batch
    by_template: Sequence[Sequence[TokenizedText]]  # the tokenized texts, once per template


def jobs_of(
    encoder: TransformerEncoder, texts: Sequence[str], side: TruncationSide = "right"
) -> list[Job[list[int]]]:
    """Texts tokenized and batched; the tag of a job is their indices."""
    templates = encoder.config.templates
    if encoder.config.long == "window":
        tokenized = [tokenize_windows(encoder, texts, template) for template in templates]
    else:
        tokenized = [tokenize(encoder, texts, template, side) for template in templates]
    planned = plan(encoder, tokenized)
    return [Job(batch, [[of_template[i] for i in batch] for of_template in tokenized]) for batch in planned]


def plan(encoder: TransformerEncoder, by_template: Sequence[Sequence[TokenizedText]]) -> list[list[int]]:
    """Indices of tokenized texts in batches that go through the model together."""
    planned = batches(by_template[0], TOKEN_BUDGET[encoder.device.type], packed=encoder.packed)
    if not encoder.packed and not encoder.pads:
        planned = [part for batch in planned for part in _of_one_length(batch, by_template)]
    return planned


def batches(tokenized: Sequence[TokenizedText], token_budget: int, *, packed: bool = False) -> list[list[int]]:
    """Indices of texts in batches of similar length, each of at most `token_budget` tokens, padding included.

    Longest first, so that a device too small for the batches fails at once. A text over the budget is a separate
    batch. The same texts always give the same batches. With `packed` there is no padding.
    """
    order = sorted(range(len(tokenized)), key=lambda i: (-len(tokenized[i]), tokenized[i].ids))
    result: list[list[int]] = []
    tokens = 0
    for i in order:
        added = len(tokenized[i]) if packed or not result else len(tokenized[result[-1][0]])
        if result and tokens + added <= token_budget:
            result[-1].append(i)
            tokens += added
        else:
            result.append([i])
            tokens = len(tokenized[i])
    return result


def _of_one_length(batch: Sequence[int], by_template: Sequence[Sequence[TokenizedText]]) -> list[list[int]]:
    """Split a batch into batches with the same number of tokens per text, for every template."""
    parts: dict[tuple[int, ...], list[int]] = {}
    for i in batch:
        parts.setdefault(tuple(len(of_template[i]) for of_template in by_template), []).append(i)
    return list(parts.values())


def padded(encoder: TransformerEncoder, batch: Sequence[TokenizedText]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A batch padded on the right.

    Returns:
        Token ids (B, L); true for tokens that are not padding (B, L); true for tokens that pooling counts (B, L);
        lengths (B,).
    """
    lengths = torch.tensor([len(text) for text in batch])
    longest = int(lengths.max())
    pad = encoder.tokenizer.pad_token_id or 0  # masked; RoBERTa needs its own to count positions
    ids = torch.full((len(batch), longest), pad)
    own = torch.zeros((len(batch), longest), dtype=torch.bool)
    for row, text in enumerate(batch):
        ids[row, : len(text)] = torch.tensor(text.ids)
        own[row, : len(text)] = torch.tensor(text.own)
    attention = torch.arange(longest)[None, :] < lengths[:, None]  # (B, L)
    counted = attention if encoder.pool_special_tokens else own
    # A text of nothing but special tokens is pooled over those.
    counted = torch.where(counted.any(1, keepdim=True), counted, attention)
    return ids, attention, counted, lengths
