"""Texts to features: tokenize, batch, run the model, pool.

Special tokens: the tokenizer adds its own ([CLS] … [SEP] for BERT, `<s>` … `</s>` for RoBERTa, `<s>` for
Llama-2, none for SmolLM2) and the model always reads them. `first` and `last` take the first and last token,
special or not. `mean` and `tokens` take them in only where `pool_special_tokens` says so: for BERT-like
models, which were trained that way, by default; for decoders not, because the start token's state is the same
for all texts and hundreds of times larger than any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fusion_classifier.encoders import pooling
from fusion_classifier.encoders.loading import Encoder
from fusion_classifier.encoders.projection import quantize
from fusion_classifier.errors import DataError, NonFiniteError, UsageError

# Padded tokens a forward pass. Larger batches gain little on a CPU; a GPU needs more to be busy.
TOKEN_BUDGET = {"cpu": 2048, "mps": 8192, "cuda": 32768}


@dataclass(frozen=True)
class TokenizedText:
    """Token ids of one text, special tokens included; `own` is false for those the tokenizer added."""

    ids: tuple[int, ...]
    own: tuple[bool, ...]
    truncated: bool

    def __len__(self) -> int:
        return len(self.ids)


def tokenize(encoder: Encoder, texts: Sequence[str], template: str | None = None) -> list[TokenizedText]:
    """Token ids of each text in a template, the encoder's first unless given, cut to its max length.

    A text that is too long loses its end, never the template around it.

    Raises:
        DataError: a text that is not valid Unicode.
        UsageError: the template alone leaves no room for a text.
    """
    limit = encoder.config.max_length
    template = encoder.config.templates[0] if template is None else template
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"the text {text[:60]!r} is not valid Unicode "
                f"(half a surrogate pair at character {error.start + 1}); give it as UTF-8"
            ) from error
    if not texts:
        return []
    rendered = [template.replace("{text}", text) for text in texts]
    plain = template == "{text}"
    # Only the tokenizer can cut a plain text at the right token; a template is cut inside, below.
    encodings = encoder.tokenizer(rendered, return_special_tokens_mask=True, truncation=False, verbose=False)
    result = []
    for text, ids, special in zip(texts, encodings["input_ids"], encodings["special_tokens_mask"], strict=True):
        truncated = len(ids) > limit
        if truncated:
            ids, special = _truncate_plain(encoder, text) if plain else _truncate_in_template(encoder, text, template)  # noqa: PLW2901
        if not ids:
            raise UsageError(f"{encoder.config.name}: the tokenizer makes no token of the text {text[:40]!r}")
        own = tuple(not flag for flag in special)
        result.append(TokenizedText(tuple(ids), own, truncated))
    return result


def _truncate_plain(encoder: Encoder, text: str) -> tuple[list[int], list[int]]:
    encoding = encoder.tokenizer(
        text, return_special_tokens_mask=True, truncation=True, max_length=encoder.config.max_length
    )
    return encoding["input_ids"], encoding["special_tokens_mask"]


def _truncate_in_template(encoder: Encoder, text: str, template: str) -> tuple[list[int], list[int]]:
    """Shorten the text until it fits into its template: the longest prefix, found by bisection."""
    limit = encoder.config.max_length

    def render(characters: int) -> tuple[list[int], list[int]]:
        encoding = encoder.tokenizer(
            template.replace("{text}", text[:characters]), return_special_tokens_mask=True, truncation=False
        )
        return encoding["input_ids"], encoding["special_tokens_mask"]

    low, high = 1, len(text)
    if len(render(low)[0]) > limit:
        raise UsageError(f"{encoder.config.name}: the template alone fills max length {limit}; raise --max-length")
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(render(middle)[0]) <= limit else (low, middle - 1)
    return render(low)


def batches(tokenized: Sequence[TokenizedText], token_budget: int) -> list[list[int]]:
    """Indices of texts in batches of similar length, each of at most `token_budget` padded tokens.

    Longest first, so that a device too small for the batches fails at once. A text over the budget is a batch
    of its own. The same texts always give the same batches.
    """
    order = sorted(range(len(tokenized)), key=lambda i: (-len(tokenized[i]), tokenized[i].ids))
    result: list[list[int]] = []
    for i in order:
        if result and (len(result[-1]) + 1) * len(tokenized[result[-1][0]]) <= token_budget:
            result[-1].append(i)
        else:
            result.append([i])
    return result


def padded(encoder: Encoder, batch: Sequence[TokenizedText]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A few texts as one batch, padded on the right.

    Returns:
        Token ids (B, L); whether a token is no padding (B, L); whether pooling counts it (B, L); lengths (B,).
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


@torch.inference_mode()
def forward(encoder: Encoder, batch: Sequence[TokenizedText]) -> list[np.ndarray]:
    """The features of a few texts, in one pass of the model; not yet in 8 bits where the encoder's are kept so.

    Returns:
        One float32 array a text: `encoder.shape`, or (L, layers, H) with pooling `tokens`.
    """
    ids, attention, counted, lengths = (t.to(encoder.device) for t in padded(encoder, batch))
    output = encoder.model(input_ids=ids, attention_mask=attention.long(), output_hidden_states=list(encoder.layers))
    how = encoder.config.pooling
    if how == "pooler":
        return list(output.pooler_output.float().cpu().numpy())
    states = torch.stack([output.hidden_states[layer] for layer in encoder.layers], dim=2)  # (B, L, layers, H)
    if encoder.projection is not None:
        states = encoder.projection.project(states)
    if how == "tokens":
        return [array.cpu().numpy() for array in pooling.tokens(states, counted)]
    pooled = pooling.pooled(states, counted, lengths, encoder.config.poolings)
    return list(pooled.reshape(len(batch), *encoder.shape).cpu().numpy())


def encode_batch(encoder: Encoder, by_template: Sequence[Sequence[TokenizedText]]) -> list[np.ndarray]:
    """The features of a few texts, averaged over the encoder's templates, as they are kept.

    Args:
        encoder: the model.
        by_template: the tokenized texts, once for each template.

    Returns:
        One array a text, float32 or int8: `encoder.shape`, or (L, layers, H) with pooling `tokens`.
    """
    passes = [forward(encoder, batch) for batch in by_template]
    arrays = passes[0] if len(passes) == 1 else [np.mean(same, axis=0) for same in zip(*passes, strict=True)]
    if encoder.projection is not None and encoder.projection.int8:
        return [quantize(array) for array in arrays]
    return arrays


def check_finite(encoder: Encoder, text: str, feature: np.ndarray) -> None:
    """Raises:
    NonFiniteError: the feature holds NaN or infinity; the message names text and way out.
    """
    if not np.isfinite(feature).all():
        raise NonFiniteError(
            f"{encoder.config.name}: NaN or infinity in the feature of the text {text[:60]!r} "
            f"computed in {str(encoder.identity.dtype).removeprefix('torch.')}; use --dtype float32"
        )


def encode(encoder: Encoder, texts: Sequence[str]) -> list[np.ndarray]:
    """The features of texts, in their order, in memory.

    Returns:
        One array a text, float32 or int8: `encoder.shape`, or (L, layers, H) with pooling `tokens`.

    Raises:
        NonFiniteError: the model gave NaN or infinity.
    """
    tokenized = [tokenize(encoder, texts, template) for template in encoder.config.templates]
    features: list[np.ndarray] = [np.empty(0)] * len(texts)
    for batch in batches(tokenized[0], TOKEN_BUDGET[encoder.device.type]):
        arrays = encode_batch(encoder, [[of_template[i] for i in batch] for of_template in tokenized])
        for i, feature in zip(batch, arrays, strict=True):
            check_finite(encoder, texts[i], feature)
            features[i] = feature
    return features
