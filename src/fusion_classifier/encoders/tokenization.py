"""Tokenizes texts: template, special tokens and truncation.

Special tokens: the tokenizer adds its own ([CLS] … [SEP] for BERT, `<s>` … `</s>` for RoBERTa, `<s>` for Llama-2,
none for SmolLM2) and the model always reads them. `first` and `last` take the first and last token, special or not.
`mean`, `max` and `tokens` include them only with `pool_special_tokens`: by default for BERT-like models, which were
trained that way; not for decoders, because the start token's state is the same for all texts and hundreds of times
larger than any other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from fusion_classifier.config import EncoderConfig, TruncationSide
from fusion_classifier.encoders.identity import EncoderIdentity
from fusion_classifier.encoders.loading import LoadedEncoder, ObjectEncoder, TransformerEncoder, load_tokenizer
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.support.attributes import changed
from fusion_classifier.support.text import counted, surrogate_position

LONGEST_WORD = 100  # maximum number of characters removed from a window so that it ends at a word
WINDOW_FILL = 0.9  # of a window: parts with equally many characters differ in their numbers of tokens
LENGTHS_BATCH = 1000  # texts tokenized at a time to count tokens: bounds memory


@dataclass(frozen=True)
class TokenizedText:
    """Token ids of one text, special tokens included."""

    ids: tuple[int, ...]
    own: tuple[bool, ...]  # false for tokens that the tokenizer added
    truncated: bool
    windows: tuple["TokenizedText", ...] = ()  # parts of a text that is read in windows; `ids` are those of all

    def __len__(self) -> int:
        return len(self.ids)


def tokenize(
    encoder: TransformerEncoder, texts: Sequence[str], template: str | None = None, side: TruncationSide = "right"
) -> list[TokenizedText]:
    """Token ids of each text in a template, truncated to the encoder's `max_length`.

    Long texts are truncated at the end (`side` left: at the start), but never the template, which is the encoder's
    first one by default.
    """
    limit = encoder.config.max_length
    template = encoder.config.templates[0] if template is None else template
    for text in texts:
        if at := surrogate_position(text):
            raise DataError(f"the text {text[:60]!r} has half a surrogate pair at character {at}; pass valid Unicode")
    if not texts:
        return []
    rendered = [template.replace("{text}", text) for text in texts]
    with encoder.errors_explained():
        encodings = encoder.tokenizer(rendered, return_special_tokens_mask=True, truncation=False, verbose=False)
    # Only the tokenizer can cut a plain text at the right token; in a template the text inside is shortened.
    cut = _truncate_plain if template == "{text}" else _truncate_in_template
    result = []
    for text, ids, special in zip(texts, encodings["input_ids"], encodings["special_tokens_mask"], strict=True):
        truncated = len(ids) > limit
        if truncated:
            ids, special = cut(encoder, text, template, side)  # noqa: PLW2901
        if not ids:
            raise UsageError(f"{encoder.config.name}: the tokenizer produces no token for the text {text[:40]!r}")
        result.append(TokenizedText(tuple(ids), tuple(not flag for flag in special), truncated))
    return result


def tokenize_windows(encoder: TransformerEncoder, texts: Sequence[str], template: str) -> list[TokenizedText]:
    """Like `tokenize`, but a text that is too long is read in several windows, each starting at a word and in the
    template."""
    result = tokenize(encoder, texts, template)
    for position, text in enumerate(texts):
        if result[position].truncated:
            windows = tuple(tokenize(encoder, _windows(encoder, text, template), template))
            ids, own = (
                tuple(chain.from_iterable(parts)) for parts in zip(*((w.ids, w.own) for w in windows), strict=True)
            )
            result[position] = TokenizedText(ids, own, truncated=False, windows=windows)
    return result


def _windows(encoder: TransformerEncoder, text: str, template: str) -> list[str]:
    """The text in parts of about equal length that fit into the template."""
    limit = encoder.config.max_length
    rendered = [template.replace("{text}", part) for part in (text, "")]
    tokens, around = map(len, encoder.tokenizer(rendered, truncation=False, verbose=False)["input_ids"])
    if tokens <= limit or len(text) < 2:
        return [text]
    room = max(WINDOW_FILL * (limit - around), 1)
    parts = min(max(math.ceil((tokens - around) / room), 2), len(text))
    bounds = [0]
    for part in range(1, parts):
        at = max(len(text) * part // parts, bounds[-1] + 1)
        space = text.rfind(" ", bounds[-1] + 1, at)
        bounds.append(space if space > max(bounds[-1], at - LONGEST_WORD) else at)
    pieces = [text[start:end].strip() for start, end in zip(bounds, [*bounds[1:], len(text)], strict=True)]
    return [window for piece in pieces if piece for window in _windows(encoder, piece, template)]


def _truncate_plain(
    encoder: TransformerEncoder, text: str, _template: str, side: TruncationSide
) -> tuple[list[int], list[int]]:
    tokenizer = encoder.tokenizer
    with changed(tokenizer, truncation_side=side):
        encoding = tokenizer(
            text, return_special_tokens_mask=True, truncation=True, max_length=encoder.config.max_length
        )
    return encoding["input_ids"], encoding["special_tokens_mask"]


def _truncate_in_template(
    encoder: TransformerEncoder, text: str, template: str, side: TruncationSide
) -> tuple[list[int], list[int]]:
    """The longest prefix (or suffix) that fits into the template, by bisection."""
    limit = encoder.config.max_length

    def render(characters: int) -> tuple[list[int], list[int]]:
        kept = text[:characters] if side == "right" else text[len(text) - characters :]
        encoding = encoder.tokenizer(
            template.replace("{text}", kept), return_special_tokens_mask=True, truncation=False, verbose=False
        )
        return encoding["input_ids"], encoding["special_tokens_mask"]

    low, high = 1, len(text)
    if len(render(low)[0]) > limit:
        raise UsageError(f"{encoder.config.name}: the `template` alone fills {limit} tokens; raise `max_length`")
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(render(middle)[0]) <= limit else (low, middle - 1)
    return render(low)


def cut_note(config: EncoderConfig, count: int) -> str:
    """Message about truncated texts, with advice."""
    return (
        f"{config.name}: truncated {counted(count, 'text')} longer than {config.max_length} tokens; "
        "raise `max_length` to keep their end, or read them in windows (`long` window)"
    )


def is_truncated(encoder: LoadedEncoder, text: str) -> bool:
    """Whether a text is too long for one of the encoder's templates; never for an object."""
    if isinstance(encoder, ObjectEncoder) or encoder.config.long == "window":
        return False
    return any(tokenize(encoder, [text], template)[0].truncated for template in encoder.config.templates)


def token_lengths(identity: EncoderIdentity, texts: Sequence[str]) -> np.ndarray:
    """Tokens per text in the encoder's template, with special tokens, not truncated: (N,), int64; loads no model."""
    tokenizer, template = load_tokenizer(identity), identity.config.template
    lengths: list[int] = []
    for start in range(0, len(texts), LENGTHS_BATCH):
        rendered = [template.replace("{text}", text) for text in texts[start : start + LENGTHS_BATCH]]
        lengths += map(len, tokenizer(rendered, truncation=False, verbose=False)["input_ids"])
    return np.array(lengths, dtype=np.int64)
