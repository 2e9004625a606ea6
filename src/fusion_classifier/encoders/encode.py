"""Encodes texts: tokenize, batch, run the model, pool."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fusion_classifier.config import TruncationSide
from fusion_classifier.encoders import packed, pooling
from fusion_classifier.encoders.batches import Job, Tag, jobs_of, padded, plan
from fusion_classifier.encoders.loading import LoadedEncoder, ObjectEncoder, TransformerEncoder
from fusion_classifier.encoders.projection import quantize
from fusion_classifier.encoders.tokenization import TokenizedText
from fusion_classifier.encoders.workers import batch_workers
from fusion_classifier.errors import NonFiniteError

AHEAD = 2  # maximum number of queued batches per worker


def encode(
    encoder: LoadedEncoder,
    texts: Sequence[str],
    side: TruncationSide = "right",
    on_cut: Callable[[int], None] = lambda _: None,
) -> list[np.ndarray]:
    """Features of texts, in their order, in memory.

    Args:
        encoder: A model, or an encoder that is an object.
        texts: N texts.
        side: End at which long texts are truncated. Default: right.
        on_cut: Called with the number of truncated texts, if any.

    Returns:
        N arrays, float32 or int8: `encoder.shape`, or (L, layers, H) with pooling `tokens`.

    Raises:
        NonFiniteError: The model computed NaN or infinity.
    """
    if isinstance(encoder, ObjectEncoder):
        return encoder.encode(list(texts))
    jobs = jobs_of(encoder, texts, side)
    if cut := sum(
        any(text.truncated for text in same) for job in jobs for same in zip(*job.by_template, strict=True)
    ):
        on_cut(cut)
    # A single batch uses all cores, for the lowest latency with a single text.
    done = (
        encode_jobs(encoder, jobs) if len(jobs) > 1 else ((j.tag, encode_batch(encoder, j.by_template)) for j in jobs)
    )
    features: list[np.ndarray] = [np.empty(0)] * len(texts)
    for batch, arrays in done:
        for i, feature in zip(batch, arrays, strict=True):
            check_finite(encoder, texts[i], feature)
            features[i] = feature
    return features


def encode_jobs(encoder: TransformerEncoder, jobs: Iterable[Job[Tag]]) -> Generator[tuple[Tag, list[np.ndarray]]]:
    """Features of batches, in their order; on a CPU several batches run at the same time.

    Meanwhile this thread prepares the next jobs and processes the results.
    """
    running: deque[tuple[Tag, Future[list[np.ndarray]]]] = deque()
    with batch_workers(encoder.device) as (executor, workers):
        for job in jobs:
            running.append((job.tag, executor.submit(encode_batch, encoder, job.by_template)))
            if len(running) > AHEAD * workers:
                tag, future = running.popleft()
                yield tag, future.result()
        for tag, future in running:
            yield tag, future.result()


def encode_batch(encoder: TransformerEncoder, by_template: Sequence[Sequence[TokenizedText]]) -> list[np.ndarray]:
    """Features of a batch, averaged over its templates, each tokenized separately; shapes as in `encode`."""
    with encoder.errors_explained():
        passes = [_read(encoder, batch) for batch in by_template]
    arrays = passes[0] if len(passes) == 1 else [np.mean(same, axis=0) for same in zip(*passes, strict=True)]
    if encoder.projection is not None and encoder.projection.int8:
        return [quantize(array) for array in arrays]
    return arrays


def check_finite(encoder: TransformerEncoder, text: str, feature: np.ndarray) -> None:
    """Raise NonFiniteError if a feature has NaN or infinity."""
    if not np.isfinite(feature).all():
        raise NonFiniteError(
            f"{encoder.config.name}: NaN or infinity in the feature of the text {text[:60]!r} "
            f"computed in {encoder.identity.dtype}; set `dtype` to float32"
        )


@dataclass(frozen=True)
class _States:
    """Hidden states of some texts of a batch, padded to one length.

    `states` (n, L, layers, H) in the model's dtype; `counted` (n, L), tokens that pooling counts; `lengths` (n,).
    """

    states: Tensor
    counted: Tensor
    lengths: Tensor


def _read(encoder: TransformerEncoder, batch: Sequence[TokenizedText]) -> list[np.ndarray]:
    """Features of a batch in one template; the windows of a text are combined."""
    if not any(text.windows for text in batch):
        return _forward(encoder, batch)
    windows = [window for text in batch for window in text.windows or (text,)]
    arrays: list[np.ndarray] = [np.empty(0)] * len(windows)
    for chosen in plan(encoder, [windows]):
        for i, array in zip(chosen, _forward(encoder, [windows[i] for i in chosen]), strict=True):
            arrays[i] = array
    result, done = [], 0
    for text in batch:
        count = max(len(text.windows), 1)
        result.append(_joined(encoder, windows[done : done + count], arrays[done : done + count]))
        done += count
    return result


def _joined(
    encoder: TransformerEncoder, windows: Sequence[TokenizedText], arrays: Sequence[np.ndarray]
) -> np.ndarray:
    """The feature of a text from those of its windows: all token states, or the mean weighted by counted tokens."""
    if len(arrays) == 1 or encoder.config.pooling == "tokens":
        return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]
    counts = [len(one) if encoder.pool_special_tokens else sum(one.own) or len(one) for one in windows]
    mean: np.ndarray = np.average(arrays, axis=0, weights=counts).astype(np.float32)
    return mean


@torch.inference_mode()
def _forward(encoder: TransformerEncoder, batch: Sequence[TokenizedText]) -> list[np.ndarray]:
    """Features of a batch in one template, float32, in one pass of the model."""
    parts = _packed_states(encoder, batch) if encoder.packed else [_padded_states(encoder, batch)]
    return [array for part in parts for array in _features(encoder, part)]


def _padded_states(encoder: TransformerEncoder, batch: Sequence[TokenizedText]) -> _States:
    ids, attention, counted, lengths = (t.to(encoder.device) for t in padded(encoder, batch))
    with encoder.as_loaded():
        output = encoder.model(
            input_ids=ids, attention_mask=attention.long(), output_hidden_states=list(encoder.layers)
        )
    if encoder.config.pooling == "pooler":
        return _States(output.pooler_output[:, None, None], counted, lengths)  # one "token", one "layer"
    # Some models (BigBird) pad to a fixed multiple themselves, on the right.
    states = torch.stack([output.hidden_states[layer][:, : ids.shape[1]] for layer in encoder.layers], dim=2)
    return _States(states, counted, lengths)


def _packed_states(encoder: TransformerEncoder, batch: Sequence[TokenizedText]) -> Iterator[_States]:
    states, groups = packed.states(  # (T, layers, H)
        encoder.model, [text.ids for text in batch], encoder.layers, encoder.first_position
    )
    done = 0
    for group in groups:
        texts = batch[done : done + group.texts]
        done += group.texts
        counted = torch.ones((group.texts, group.length), dtype=torch.bool)
        if not encoder.pool_special_tokens:
            own = torch.tensor([text.own for text in texts])
            counted = torch.where(own.any(1, keepdim=True), own, counted)
        lengths = torch.full((group.texts,), group.length)
        device = encoder.device
        yield _States(packed.by_text(states, group), counted.to(device), lengths.to(device))


def _features(encoder: TransformerEncoder, part: _States) -> list[np.ndarray]:
    how, states = encoder.config.pooling, part.states
    if how == "pooler":
        return list(states[:, 0, 0].float().cpu().numpy())
    if encoder.projection is not None:
        states = encoder.projection.project(states)
    if how == "tokens":
        return pooling.tokens(states, part.counted)
    pooled = pooling.pooled(states, part.counted, part.lengths, encoder.config.poolings)
    if encoder.dense is not None:
        pooled = encoder.dense(pooled.flatten(1))
    return list(pooled.reshape(len(states), *encoder.shape).cpu().numpy())
