"""Explanations by occlusion: the decrease of a label's log-odds when a word is removed from the text.

    w_i = logit p(c | text) − logit p(c | text without word i),    logit p = ln p − ln(1 − p)

The whole model is evaluated, all encoders and the calibrated head. A positive weight supports the label; with the
word the label's odds are e^w times those without. Log-odds, not probabilities: from 98% to 99.9% is as much
evidence as from 50% to 95%.

Sources: Robnik-Šikonja, Kononenko: Explaining Classifications for Individual Instances, IEEE TKDE 20(5), 2008,
https://doi.org/10.1109/TKDE.2007.190734 (weight of evidence); Li, Monroe, Jurafsky: Understanding Neural Networks
through Representation Erasure, 2016, https://arxiv.org/abs/1612.08220. Word boundaries follow the main rules of
Unicode Standard Annex 29, https://www.unicode.org/reports/tr29/.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fusion_classifier.classifier.notebook import explanation_html
from fusion_classifier.errors import DataError, UsageError
from fusion_classifier.training.decision import Decision

MAX_SPANS = 64  # parts of a text that are left out in turn; longer texts are cut into groups of neighbouring words
NOTHING = "..."  # replaces a text's only word: no encoder reads an empty text

HYPHENS = "-‐‑"
IN_WORDS = "'’.:·"  # between two letters
IN_NUMBERS = "'’.,"  # between two digits
# Scripts without spaces, each of whose characters counts as a word: Thai to Myanmar, Khmer, Hiragana, Han.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u309f\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)

Span = tuple[int, int]  # start and end in characters, end excluded


@dataclass(frozen=True)
class Word:
    """A word, or in a long text neighbouring words: `text[start:end]`, and its weight in log-odds."""

    text: str
    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class Explanation:
    """The weight of each word of a text for one label, and the label's calibrated probability for the whole text."""

    text: str
    label: str
    probability: float
    words: tuple[Word, ...]

    def _repr_html_(self) -> str:
        """For notebooks."""
        return explanation_html(self)


@dataclass(frozen=True)
class Occlusion:
    """A text's parts, and the texts to evaluate: the whole one, then one without each part.

    A text that all encoders truncate is used up to its last complete word; the rest is a last part that is never
    removed.
    """

    text: str
    spans: tuple[Span, ...]
    texts: tuple[str, ...]


def word_spans(text: str) -> list[Span]:
    """Spans of the words of a text: in order, disjoint, with only white space between them.

    Words keep inner apostrophes, points and hyphens (`can't`, `3.5`, `well-known`). A run of punctuation is a word of
    its own, and so is a run of emoji: both may carry a label.
    """
    parts: list[tuple[str, int, int]] = []
    for position, char in enumerate(text):
        kind = _kind(char)
        touches = bool(parts) and parts[-1][2] == position
        if kind == "space":
            continue
        if touches and (kind == "extension" or kind == parts[-1][0] != "character"):
            parts[-1] = (parts[-1][0], parts[-1][1], position + 1)
        else:
            parts.append((kind, position, position + 1))
    return _joined(text, parts)


def _kind(char: str) -> str:
    if char.isspace():
        return "space"
    category = unicodedata.category(char)
    if category[0] == "M" or category == "Cf":  # accents, vowel signs, joiners
        return "extension"
    if category == "So" or "\U0001f3fb" <= char <= "\U0001f3ff":
        return "emoji"
    if UNSPACED.match(char):
        return "character"
    return "word" if char.isalnum() or char == "_" else "mark"


def _joined(text: str, parts: Sequence[tuple[str, int, int]]) -> list[Span]:
    """Words, including the hyphens, apostrophes and points inside them."""
    spans: list[Span] = []
    joins = False  # whether the last part joins its neighbours
    for position, (_, start, end) in enumerate(parts):
        touches = bool(spans) and spans[-1][1] == start
        around = parts[position - 1 : position + 2] if position else []
        inside = len(around) == 3 and touches and around[2][1] == end and around[0][0] == around[2][0] == "word"
        link = inside and _links(text[start - 1], text[start:end], text[end])
        if touches and (joins or link):
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
        joins = link
    return spans


def _links(before: str, mark: str, after: str) -> bool:
    if len(mark) != 1:
        return False
    numbers = before.isdigit() and after.isdigit()
    return mark in HYPHENS or (mark in IN_NUMBERS if numbers else mark in IN_WORDS)


def grouped(spans: Sequence[Span], most: int) -> list[Span]:
    """At most `most` groups of neighbouring spans; their numbers of words differ by at most one."""
    count = min(len(spans), most)
    edges = [len(spans) * i // count for i in range(count + 1)] if count else []
    return [(spans[a][0], spans[b - 1][1]) for a, b in pairwise(edges)]


def without(text: str, span: Span) -> str:
    """The text without a part and without the white space that would be doubled; `...` if nothing is left."""
    left, right = text[: span[0]], text[span[1] :]
    if not left.strip():
        right = right.lstrip()
    elif not right.strip():
        left, right = left.rstrip(), ""
    elif left[-1].isspace() and right[0].isspace():
        right = right[1:]
    rest = left + right
    return rest if rest.strip() else NOTHING


def occlude(text: str, cut: Callable[[str], bool], max_spans: int = MAX_SPANS) -> Occlusion:
    """Remove each part of a text in turn; `cut` returns whether all encoders truncate a text.

    Raises:
        DataError: An empty text.
        UsageError: `max_spans` below 1.
    """
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"`text`: the text to explain {'is empty' if isinstance(text, str) else f'is {text!r}'}")
    if max_spans < 1:
        raise UsageError(f"`max_spans` must be at least 1, not {max_spans}")
    words = word_spans(text)
    read = _read(text, words, cut)
    spans = grouped(words[:read], max_spans)
    beyond = [(words[read][0], words[-1][1])] if read < len(words) else []
    # Otherwise words beyond the limit would take the place of a removed one.
    head = text[: spans[-1][1]] if beyond else text
    return Occlusion(text, (*spans, *beyond), (head, *(without(head, span) for span in spans)))


def _read(text: str, words: Sequence[Span], cut: Callable[[str], bool]) -> int:
    """Number of words within the limit of any encoder; at least 1."""
    if not cut(text):
        return len(words)

    def reads(count: int) -> bool:
        return not cut(text[: words[count - 1][1]])

    # Doubling from the start, then bisection: a text may be ten thousand times too long.
    low, high = 1, 2
    while high < len(words) and reads(high):
        low, high = high, 2 * high
    high = min(high, len(words))
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if reads(middle) else (low, middle)
    return low


def explanations(
    occlusion: Occlusion, log_odds: np.ndarray, labels: Sequence[str], decision: Decision | None = None
) -> tuple[Explanation, ...]:
    """The parts' weights for each of C labels from log-odds of the texts (1 + n, C).

    The most probable label comes first; with offsets, the label that they rank highest.
    """
    weights = np.zeros((len(occlusion.spans), len(labels)))
    weights[: len(log_odds) - 1] = log_odds[:1] - log_odds[1:]
    with np.errstate(over="ignore"):
        probabilities = 1 / (1 + np.exp(-log_odds[0]))
    # Log-odds distinguish probabilities that round to 1.
    ranks_by = log_odds[0] if decision is None or decision.offsets is None else decision.ranks_by(probabilities)
    return tuple(
        Explanation(
            occlusion.text,
            labels[index],
            float(probabilities[index]),
            tuple(
                Word(occlusion.text[start:end], start, end, float(weight))
                for (start, end), weight in zip(occlusion.spans, weights[:, index], strict=True)
            ),
        )
        for index in np.argsort(-ranks_by, kind="stable")
    )
