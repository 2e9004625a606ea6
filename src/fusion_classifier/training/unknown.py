"""Fits the score for unknown texts (known.py) after training, on known texts only.

At most MAX_TEXTS training texts are kept, each projected on WIDTH directions, in 8 bits. Only these are compared, so
memory and time do not grow with the data.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from fusion_classifier.fusion.head import Head, OutOfFold
from fusion_classifier.training.data import LabelledFeatures, blocks
from fusion_classifier.training.decision import Decision
from fusion_classifier.training.inference import AnyFeatures, predict_each, predict_logits
from fusion_classifier.training.known import BLOCK, TINY, KnownTexts, nearest, projected, unit

MAX_TEXTS = 8192
WIDTH = 256
BASIS_TEXTS = 4096  # from which the directions are computed
HELD_TEXTS = 4096  # held-out texts that are used
PARTS = 10  # of the training texts, each projected on directions of the others
SCORES = 1000  # kept


def fit_known(
    head: Head,
    decision: Decision,
    train_data: LabelledFeatures,
    held_data: LabelledFeatures,
    device: torch.device,
    seed: int = 0,
    out_of_fold: OutOfFold | None = None,
) -> KnownTexts | None:
    """Fit the score for a trained head; None for a multi-label task, where a text may have no label anyway.

    Args:
        head: Trained head.
        decision: Its calibration.
        train_data: Training texts.
        held_data: Texts that it was not trained on; not used with `out_of_fold`.
        device: Device for the computation.
        seed: Seed for the choice of texts.
        out_of_fold: Predictions of training texts by heads trained without them. These texts then replace the
            held-out ones, and each is compared with the others.
    """
    if decision.multilabel:
        return None

    def unit_vectors(data: LabelledFeatures, rows: np.ndarray) -> np.ndarray:
        call = partial(predict_each, head, head.unit_vectors, device=device)
        return _in_blocks(call, data, rows).numpy()

    order = np.random.default_rng(seed)
    chosen = _by_class(train_data.labels, MAX_TEXTS, order)
    x = unit_vectors(train_data, chosen)
    basis = _directions(x[:BASIS_TEXTS], seed)
    directions = basis.astype(np.float32)
    on_basis = projected(x, directions)
    largest = np.maximum(np.abs(on_basis).max(1, keepdims=True), TINY)
    vectors = np.round(on_basis * (127 / largest)).astype(np.int8)
    stored = unit(vectors.astype(np.float32))
    if out_of_fold is None:
        rows = order.permutation(len(held_data))[:HELD_TEXTS]
        near = nearest(projected(unit_vectors(held_data, rows), directions), stored)
        logits = _in_blocks(partial(predict_logits, head, device=device), held_data, rows)
    else:
        place, found = np.intersect1d(chosen, out_of_fold.rows, return_indices=True)[1:]
        own = order.permutation(len(place))[:HELD_TEXTS]
        if min(x.shape) > WIDTH:  # otherwise the directions contain every text completely
            on_basis = _projected_as_new(x, directions, seed)
        near, logits = nearest(on_basis[place[own]], stored, own=place[own]), out_of_fold.logits[found[own]]
    return _calibrated(basis, vectors, np.stack([-decision.log_odds(logits).max(1), -near]))


def _projected_as_new(x: np.ndarray, directions: np.ndarray, seed: int) -> np.ndarray:
    """`projected` of training texts (M, D), in random order, as if they were new texts: (M, K).

    Directions that were fitted on a text contain more of it than of a new text. So each part is first projected on
    directions that were fitted on the others.
    """
    result, parts = np.empty((len(x), directions.shape[1]), dtype=np.float32), np.arange(len(x)) % PARTS
    for part in range(PARTS):
        held = parts == part
        of_others = _directions(x[np.flatnonzero(~held)[:BASIS_TEXTS]], seed).astype(np.float32)
        result[held] = projected(x[held], of_others) @ (of_others.T @ directions)
    return result


def _calibrated(basis: np.ndarray, vectors: np.ndarray, parts: np.ndarray) -> KnownTexts:
    """Fit mean, spread and quantiles of doubt and distance (2, S) on held-out texts."""
    centre, spread = parts.mean(1), _spread(parts)
    both = ((parts - centre[:, None]) / spread[:, None]).sum(0)
    centre = np.append(centre, both.mean()).astype(np.float32)
    spread = np.append(spread, _spread(both[None])).astype(np.float32)
    known = KnownTexts(basis, vectors, centre, spread, np.empty(0, np.float32))
    scores = np.sort(known.standardized(parts))
    if len(scores) > SCORES:
        scores = scores[np.linspace(0, len(scores) - 1, SCORES).round().astype(int)]
    return replace(known, scores=scores)


def _by_class(labels: np.ndarray, most: int, order: np.random.Generator) -> np.ndarray:
    """At most this number of rows in random order, balanced over the labels (N,) as far as possible."""
    rows = order.permutation(len(labels))
    if len(rows) <= most:
        return rows
    # The first row of each label, then the second of each, and so on.
    by_label = rows[np.argsort(labels[rows], kind="stable")]
    starts = np.flatnonzero(np.diff(labels[by_label], prepend=-1))
    place = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
    chosen = by_label[np.argsort(place, kind="stable")[:most]]
    return order.permutation(chosen)


def _directions(x: np.ndarray, seed: int) -> np.ndarray:
    """Principal directions (D, K) of vectors (N, D): their first right singular vectors, float16."""
    from sklearn.utils.extmath import randomized_svd  # noqa: PLC0415  # prediction imports no scikit-learn

    _, _, directions = randomized_svd(x, min(WIDTH, *x.shape), n_iter=2, random_state=seed)
    return np.ascontiguousarray(directions.T).astype(np.float16)


def _in_blocks(call: Callable[[AnyFeatures, int], Tensor], data: LabelledFeatures, rows: np.ndarray) -> Tensor:
    """Output of `call` for the selected texts (n, …), in blocks, because token states in memory are copied."""
    parts = [call(data.take(rows[part]).features, len(part)) for part in blocks(len(rows), BLOCK)]
    return torch.cat(parts)


def _spread(parts: np.ndarray) -> np.ndarray:
    """Standard deviation of each row; 1 if all values are equal, as with a single text."""
    found = parts.std(1)
    return np.where(found > TINY, found, 1.0)
