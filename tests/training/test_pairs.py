"""Learning from pairs: the loss and the batches, by hand."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch

from fusion_classifier.training.pairs import balanced_batches, pair_loss


def test_the_loss_is_that_of_all_pairs_one_by_one() -> None:
    generator = torch.Generator().manual_seed(3)
    vectors, labels = torch.randn(7, 5, generator=generator), torch.tensor([0, 0, 0, 1, 2, 2, 1])
    errors: dict[bool, list[float]] = {True: [], False: []}
    for i in range(7):
        for j in range(i):
            cosine = float(torch.cosine_similarity(vectors[i], vectors[j], dim=0))
            same = bool(labels[i] == labels[j])
            errors[same].append((cosine - same) ** 2)
    expected = (np.mean(errors[True]) + np.mean(errors[False])) / 2
    assert float(pair_loss(vectors, labels)) == pytest.approx(expected, rel=1e-5)
    lengths = torch.arange(1.0, 8.0)[:, None]
    assert float(pair_loss(vectors * lengths, labels)) == pytest.approx(expected, rel=1e-5)
    assert float(pair_loss(vectors.bfloat16(), labels)) == pytest.approx(expected, rel=0.05)


def test_a_batch_of_one_kind_of_pair_has_a_finite_loss() -> None:
    vectors = torch.eye(3)
    assert float(pair_loss(vectors, torch.zeros(3, dtype=torch.long))) == 0.5
    assert float(pair_loss(vectors, torch.arange(3))) == 0
    assert float(pair_loss(torch.ones(3, 4), torch.zeros(3, dtype=torch.long))) == pytest.approx(0, abs=1e-9)


def test_few_rows_are_all_in_every_batch() -> None:
    labels = np.array([0, 1, 1, 0, 2])
    for batch in islice(balanced_batches(labels, 5, np.random.default_rng(0)), 3):
        assert batch.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("size", [4, 16, 64])
@pytest.mark.parametrize("counts", [(60, 60), (90, 10, 3, 1), (8,) * 27])
def test_batches_are_balanced_and_hold_pairs(size: int, counts: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    drawn = list(islice(balanced_batches(labels, size, np.random.default_rng(0)), 400))
    for batch in drawn:
        assert len(set(batch.tolist())) == len(batch) <= size
        kinds = Counter(labels[batch].tolist())
        assert len(kinds) >= 2
        assert all(rows >= min(2, counts[label]) for label, rows in kinds.items())
    seen = Counter(int(row) for batch in drawn for row in batch)
    assert set(seen) == set(range(len(labels)))
    for label, count in enumerate(counts):  # the rows of a label come equally often
        times = [seen[int(row)] for row in np.flatnonzero(labels == label)]
        assert max(times) - min(times) <= max(4, 0.2 * max(times)), (label, count)
    turns = Counter(int(label) for batch in drawn for label in np.unique(labels[batch]))
    assert max(turns.values()) - min(turns.values()) <= 0.1 * max(turns.values()) + 2
