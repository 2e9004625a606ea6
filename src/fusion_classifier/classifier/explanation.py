"""Which words carry a label: each left out in turn, and how far the label's log-odds fall.

    w_i = logit p(c | text) − logit p(c | text without word i),    logit p = ln p − ln(1 − p)

This is occlusion of the whole fused model, all encoders and the head, calibrated as its answers are. A positive
weight speaks for the label, a negative one against it; with the word the label's odds are e^w times those without.

Log-odds, not probabilities: between 98 % and 99.9 % lies as much evidence as between 50 % and 95 %, and of log p the
same is lost near 1.

Sources: Robnik-Šikonja, Kononenko: Explaining Classifications for Individual Instances, IEEE TKDE 20(5), 2008,
https://doi.org/10.1109/TKDE.2007.190734 (weight of evidence); Li, Monroe, Jurafsky: Understanding Neural Networks
through Representation Erasure, 2016, https://arxiv.org/abs/1612.08220. What a word is: Unicode Standard Annex 29,
https://www.unicode.org/reports/tr29/.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import regex  # type: ignore[import-untyped]  # re has no word boundaries of Unicode
from scipy.special import expit

from fusion_classifier.errors import DataError, UsageError

MOST_SPANS = 64  # parts of a text that are left out in turn; of more words neighbours go together
NOTHING = "..."  # stands where the text's only word was left out: no encoder reads an empty text

_BOUNDARY = regex.compile(r"\b", regex.WORD | regex.V1)
_LETTER_OR_DIGIT = regex.compile(r"[\w\p{M}]")
_PICTURE = regex.compile(r"\p{Extended_Pictographic}|\p{Regional_Indicator}")
_HYPHENS = ("-", "‐", "‑")

Span = tuple[int, int]  # from character start to end, end not included


@dataclass(frozen=True)
class Word:
    """A word, or in a long text neighbouring words: `text[start:end]`, and what the label's log-odds lose without."""

    text: str
    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class Explanation:
    """What each word of a text does for one label: `probability` is the label's, calibrated, for the whole text."""

    text: str
    label: str
    probability: float
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Occlusion:
    """A text's parts, and the texts that the model is asked about: the whole, then without each part.

    A text that all encoders cut is taken as far as its last word that is read whole; what stands behind is a last
    part without a text.
    """

    text: str
    spans: tuple[Span, ...]
    texts: tuple[str, ...]


def word_spans(text: str) -> list[Span]:
    """Where the words of a text are: in order, apart from each other, with nothing but white space between.

    A word is what Unicode's default word boundaries make one (`can't`, `3.5`, a Chinese character), also with hyphens
    inside. A row of punctuation marks is a word of its own, and so is a row of emoji: both may carry a label.
    """
    found: list[tuple[str, int, int]] = []
    position = 0
    for part in _BOUNDARY.split(text):
        start, position = position, position + len(part)
        kind = _kind(part)
        if kind == "space":
            continue
        if found and found[-1][2] == start and found[-1][0] == kind != "word":
            found[-1] = (kind, found[-1][1], position)
        else:
            found.append((kind, start, position))
    return _joined_by_hyphens(text, found)


def _kind(part: str) -> str:
    if not part or part.isspace():
        return "space"
    if _PICTURE.search(part) and not part[0].isascii():  # digits and # are pictographic in part
        return "emoji"
    return "word" if _LETTER_OR_DIGIT.search(part) else "mark"


def _joined_by_hyphens(text: str, parts: Sequence[tuple[str, int, int]]) -> list[Span]:
    spans: list[Span] = []
    joins = False  # whether the last part was a hyphen behind a word
    for position, (kind, start, end) in enumerate(parts):
        touches = bool(spans) and spans[-1][1] == start
        hyphen = touches and text[start:end] in _HYPHENS and parts[position - 1][0] == "word"
        followed = position + 1 < len(parts) and parts[position + 1][0] == "word" and parts[position + 1][1] == end
        if touches and (joins or (hyphen and followed)):
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
        joins = hyphen and followed and kind == "mark"
    return spans


def grouped(spans: Sequence[Span], most: int) -> list[Span]:
    """Neighbours together, so that there are at most `most` parts with as many words each, give or take one."""
    count = min(len(spans), most)
    edges = [len(spans) * i // count for i in range(count + 1)] if count else []
    return [(spans[a][0], spans[b - 1][1]) for a, b in pairwise(edges)]


def without(text: str, span: Span) -> str:
    """The text without a part and without the white space that would be left double; `...` if nothing is left."""
    left, right = text[: span[0]], text[span[1] :]
    if not left.strip():
        right = right.lstrip()
    elif not right.strip():
        left, right = left.rstrip(), ""
    elif left[-1].isspace() and right[0].isspace():
        right = right[1:]
    rest = left + right
    return rest if rest.strip() else NOTHING


def occlude(text: str, cut: Callable[[str], bool], most_spans: int = MOST_SPANS) -> Occlusion:
    """A text without each of its parts in turn.

    Args:
        text: the text.
        cut: whether all encoders cut a text at its end.
        most_spans: parts that are left out at most; the model reads one text more.

    Raises:
        DataError: an empty text.
        UsageError: no parts asked for.
    """
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"the text to explain {'is empty' if isinstance(text, str) else f'is {text!r}'}; give one")
    if most_spans < 1:
        raise UsageError(f"spans {most_spans}: give 1 or more")
    words = word_spans(text)
    read = _read(text, words, cut)
    spans = grouped(words[:read], most_spans)
    beyond = [(words[read][0], words[-1][1])] if read < len(words) else []
    # Else words that are not read would move up to where one was left out.
    head = text[: spans[-1][1]] if beyond else text
    return Occlusion(text, (*spans, *beyond), (head, *(without(head, span) for span in spans)))


def _read(text: str, words: Sequence[Span], cut: Callable[[str], bool]) -> int:
    """How many words some encoder reads whole; at least one."""
    if not cut(text):
        return len(words)

    def reads(count: int) -> bool:
        return not cut(text[: words[count - 1][1]])

    # From the start in doubled steps, then by bisection: a text may be ten thousand times too long.
    low, high = 1, 2
    while high < len(words) and reads(high):
        low, high = high, 2 * high
    high = min(high, len(words))
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (middle, high) if reads(middle) else (low, middle)
    return low


def explanations(occlusion: Occlusion, log_odds: np.ndarray, labels: Sequence[str]) -> tuple[Explanation, ...]:
    """What the parts do for each label, the most probable first.

    Args:
        occlusion: parts and texts.
        log_odds: of each of its texts and each label, (1 + n, C), float64.
        labels: C names.
    """
    weights = np.zeros((len(occlusion.spans), len(labels)))
    weights[: len(log_odds) - 1] = log_odds[:1] - log_odds[1:]
    probabilities = expit(log_odds[0])
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
        for index in np.argsort(-log_odds[0], kind="stable")
    )
