"""Texts to features: tokenize, batch, run the model, pool.

Special tokens: the tokenizer adds its own ([CLS] … [SEP] for BERT, `<s>` … `</s>` for RoBERTa, `<s>` for
Llama-2, none for SmolLM2) and the model always reads them. `first` and `last` take the first and last token,
special or not. `mean` and `tokens` take them in only where `pool_special_tokens` says so: for BERT-like
models, which were trained that way, by default; for decoders not, because the start token's state is the same
for all texts and hundreds of times larger than any other.
"""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from fusion_classifier.encoders import packed, pooling
from fusion_classifier.encoders.loading import Encoder
from fusion_classifier.encoders.projection import quantize
from fusion_classifier.errors import DataError, FecError, NonFiniteError, UsageError, WeightsError, said_of

# Tokens a forward pass. On a CPU larger ones leave the cache (docs/decisions.md); a GPU needs more to be busy.
TOKEN_BUDGET = {"cpu": 512, "mps": 8192, "cuda": 32768}
MOST_WORKERS = 8  # batches at once: more would wait for the interpreter; further cores share in each
AHEAD = 2  # batches a worker may be behind

Side = Literal["left", "right"]  # where a text that is too long is cut


@dataclass(frozen=True)
class TokenizedText:
    """Token ids of one text, special tokens included; `own` is false for those the tokenizer added."""

    ids: tuple[int, ...]
    own: tuple[bool, ...]
    truncated: bool

    def __len__(self) -> int:
        return len(self.ids)


@contextmanager
def _by_the_files(encoder: Encoder) -> Iterator[None]:
    """What a model or a tokenizer raises of a text, though it could be loaded, is its files' fault.

    Raises:
        WeightsError: that.
        FecError: the memory does not suffice.
    """
    name, folder = encoder.config.name, encoder.identity.weights.folder
    with said_of(lambda why: WeightsError(f"{name}: the model in {folder} can't be run ({why})")):
        try:
            yield
        except (MemoryError, torch.OutOfMemoryError) as error:
            raise FecError(
                f"{name}: the memory of {encoder.device.type} does not suffice for a batch; give a smaller "
                "--max-length, or another --device"
            ) from error


def tokenize(
    encoder: Encoder, texts: Sequence[str], template: str | None = None, side: Side = "right"
) -> list[TokenizedText]:
    """Token ids of each text in a template, the encoder's first unless given, cut to its max length.

    A text that is too long loses its end (`side` left: its start), never the template around it.

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
    with _by_the_files(encoder):
        encodings = encoder.tokenizer(rendered, return_special_tokens_mask=True, truncation=False, verbose=False)
    result = []
    for text, ids, special in zip(texts, encodings["input_ids"], encodings["special_tokens_mask"], strict=True):
        truncated = len(ids) > limit
        if truncated:
            cut = _truncate_plain if plain else _truncate_in_template
            ids, special = cut(encoder, text, template, side)  # noqa: PLW2901
        if not ids:
            raise UsageError(f"{encoder.config.name}: the tokenizer makes no token of the text {text[:40]!r}")
        own = tuple(not flag for flag in special)
        result.append(TokenizedText(tuple(ids), own, truncated))
    return result


def _truncate_plain(encoder: Encoder, text: str, _template: str, side: Side) -> tuple[list[int], list[int]]:
    """The end or the start cut off by the tokenizer itself, at the right token."""
    tokenizer, before = encoder.tokenizer, encoder.tokenizer.truncation_side
    tokenizer.truncation_side = side
    try:
        encoding = tokenizer(
            text, return_special_tokens_mask=True, truncation=True, max_length=encoder.config.max_length
        )
    finally:
        tokenizer.truncation_side = before
    return encoding["input_ids"], encoding["special_tokens_mask"]


def _truncate_in_template(encoder: Encoder, text: str, template: str, side: Side) -> tuple[list[int], list[int]]:
    """Shorten the text until it fits into its template: the longest prefix (or suffix), found by bisection."""
    limit = encoder.config.max_length

    def render(characters: int) -> tuple[list[int], list[int]]:
        kept = text[:characters] if side == "right" else text[len(text) - characters :]
        encoding = encoder.tokenizer(
            template.replace("{text}", kept), return_special_tokens_mask=True, truncation=False, verbose=False
        )
        return encoding["input_ids"], encoding["special_tokens_mask"]

    low, high = 1, len(text)
    if len(render(low)[0]) > limit:
        raise UsageError(f"{encoder.config.name}: the template alone fills max length {limit}; raise --max-length")
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if len(render(middle)[0]) <= limit else (low, middle - 1)
    return render(low)


def batches(tokenized: Sequence[TokenizedText], token_budget: int, *, packed: bool = False) -> list[list[int]]:
    """Indices of texts in batches of similar length, each of at most `token_budget` tokens.

    Longest first, so that a device too small for the batches fails at once. A text over the budget is a batch
    of its own. The same texts always give the same batches.

    Args:
        tokenized: the texts.
        token_budget: most tokens of a batch, padding included.
        packed: there is no padding.
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


@dataclass(frozen=True)
class Block:
    """Hidden states of texts that are next to each other in a batch.

    `states` (n, L, layers, H) in the model's dtype; `counted` (n, L), tokens that pooling takes in; `lengths` (n,).
    """

    states: Tensor
    counted: Tensor
    lengths: Tensor


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


def _padded_block(encoder: Encoder, batch: Sequence[TokenizedText]) -> Block:
    ids, attention, counted, lengths = (t.to(encoder.device) for t in padded(encoder, batch))
    output = encoder.model(input_ids=ids, attention_mask=attention.long(), output_hidden_states=list(encoder.layers))
    if encoder.config.pooling == "pooler":
        return Block(output.pooler_output[:, None, None], counted, lengths)  # one "token", one "layer"
    states = torch.stack([output.hidden_states[layer] for layer in encoder.layers], dim=2)
    return Block(states, counted, lengths)


def _packed_blocks(encoder: Encoder, batch: Sequence[TokenizedText]) -> Iterator[Block]:
    states, groups = packed.states(encoder.model, [text.ids for text in batch], encoder.layers)  # (T, layers, H)
    done = 0
    for group in groups:
        shape = (group.texts, group.length)
        texts = batch[done : done + group.texts]
        done += group.texts
        counted = torch.ones(shape, dtype=torch.bool)
        if not encoder.pool_special_tokens:
            own = torch.tensor([text.own for text in texts])
            counted = torch.where(own.any(1, keepdim=True), own, counted)
        lengths = torch.full((group.texts,), group.length)
        device = encoder.device
        yield Block(packed.by_text(states, group), counted.to(device), lengths.to(device))


@torch.inference_mode()
def forward(encoder: Encoder, batch: Sequence[TokenizedText]) -> list[np.ndarray]:
    """The features of a few texts, in one pass of the model; not yet in 8 bits where the encoder's are kept so.

    Returns:
        One float32 array a text: `encoder.shape`, or (L, layers, H) with pooling `tokens`.
    """
    blocks = _packed_blocks(encoder, batch) if encoder.packed else [_padded_block(encoder, batch)]
    return [array for block in blocks for array in _features(encoder, block)]


def _features(encoder: Encoder, block: Block) -> list[np.ndarray]:
    how, states = encoder.config.pooling, block.states
    if how == "pooler":
        return list(states[:, 0, 0].float().cpu().numpy())
    if encoder.projection is not None:
        states = encoder.projection.project(states)
    if how == "tokens":
        return [array.cpu().numpy() for array in pooling.tokens(states, block.counted)]
    pooled = pooling.pooled(states, block.counted, block.lengths, encoder.config.poolings)
    return list(pooled.reshape(len(states), *encoder.shape).cpu().numpy())


def encode_batch(encoder: Encoder, by_template: Sequence[Sequence[TokenizedText]]) -> list[np.ndarray]:
    """The features of a few texts, averaged over the encoder's templates, as they are kept.

    Args:
        encoder: the model.
        by_template: the tokenized texts, once for each template.

    Returns:
        One array a text, float32 or int8: `encoder.shape`, or (L, layers, H) with pooling `tokens`.
    """
    with _by_the_files(encoder):
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


Tag = TypeVar("Tag")


@dataclass(frozen=True)
class Job(Generic[Tag]):
    """A batch to encode: its texts tokenized once for each template, and what the caller wants back with them."""

    tag: Tag
    by_template: Sequence[Sequence[TokenizedText]]


def jobs_of(encoder: Encoder, texts: Sequence[str], side: Side = "right") -> list[Job[list[int]]]:
    """Texts tokenized and cut into batches; tags are their indices."""
    tokenized = [tokenize(encoder, texts, template, side) for template in encoder.config.templates]
    planned = batches(tokenized[0], TOKEN_BUDGET[encoder.device.type], packed=encoder.packed)
    return [Job(batch, [[of_template[i] for i in batch] for of_template in tokenized]) for batch in planned]


@dataclass
class _Callers:
    """Who is within `batch_a_core` now, and torch's number of threads before the first of them came."""

    lock: Lock = field(default_factory=Lock)
    inside: int = 0
    threads: int = 1


_callers = _Callers()


@contextmanager
def batch_a_core(device: torch.device) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """Threads to each of which a batch is given, and their number: on a CPU each has cores of its own.

    Operations of a batch are too small to be shared well between cores: of a batch each they need no waiting for
    one another.
    """
    # A thread that is new to torch begins with the number that was set last anywhere: a second caller would take the
    # first one's workers' for its own, and put it back as the process's at the end.
    with _callers.lock:
        if not _callers.inside:
            _callers.threads = torch.get_num_threads()
        _callers.inside += 1
        threads = _callers.threads
    workers = min(threads, MOST_WORKERS) if device.type == "cpu" else 1
    executor = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,))
    try:
        yield executor, workers
    finally:
        executor.shutdown(cancel_futures=True)
        with _callers.lock:
            _callers.inside -= 1
            torch.set_num_threads(threads)


def encode_jobs(encoder: Encoder, jobs: Iterable[Job[Tag]]) -> Generator[tuple[Tag, list[np.ndarray]]]:
    """Batches through the model, in their order; on a CPU several at once, each on cores of its own.

    Meanwhile this thread makes the next jobs and works on what was yielded.
    """
    running: deque[tuple[Tag, Future[list[np.ndarray]]]] = deque()
    with batch_a_core(encoder.device) as (executor, workers):
        for job in jobs:
            running.append((job.tag, executor.submit(encode_batch, encoder, job.by_template)))
            if len(running) > AHEAD * workers:
                tag, future = running.popleft()
                yield tag, future.result()
        for tag, future in running:
            yield tag, future.result()


def encode(encoder: Encoder, texts: Sequence[str], side: Side = "right") -> list[np.ndarray]:
    """The features of texts, in their order, in memory; `side`: where those that are too long are cut.

    Returns:
        One array a text, float32 or int8: `encoder.shape`, or (L, layers, H) with pooling `tokens`.

    Raises:
        NonFiniteError: the model gave NaN or infinity.
    """
    jobs = jobs_of(encoder, texts, side)
    # One batch by itself has all cores: the fastest answer for a single text.
    done = (
        encode_jobs(encoder, jobs) if len(jobs) > 1 else ((j.tag, encode_batch(encoder, j.by_template)) for j in jobs)
    )
    features: list[np.ndarray] = [np.empty(0)] * len(texts)
    for batch, arrays in done:
        for i, feature in zip(batch, arrays, strict=True):
            check_finite(encoder, texts[i], feature)
            features[i] = feature
    return features
