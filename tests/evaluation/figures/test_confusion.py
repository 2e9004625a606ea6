"""The confusion matrix of a run."""

import numpy as np
from sklearn.metrics import confusion_matrix as sklearns

from fusion_classifier.evaluation.figures.confusion import confusion_counts, confusion_matrix, label_order
from fusion_classifier.evaluation.predictions import SplitPredictions

NAMES = ("joy", "fear", "pride", "anger")
TREE = (("good", "root"), ("joy", "good"), ("pride", "good"), ("bad", "root"), ("fear", "bad"), ("anger", "bad"))


def part() -> SplitPredictions:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)  # no text has the last label
    by_seed = {seed: rng.random((60, 4)) for seed in (0, 1)}
    return SplitPredictions("test", [""] * 60, labels, by_seed, {seed: p.argmax(1) for seed, p in by_seed.items()})


def test_counts_are_sklearns_mean_over_seeds() -> None:
    one = part()
    wanted = [sklearns(one.labels, answers, labels=range(4)) for answers in one.answers.values()]
    assert np.array_equal(confusion_counts(one, 4), np.mean(wanted, axis=0))


def test_matrix_is_in_the_order_of_the_tree() -> None:
    one = part()
    matrix = confusion_matrix(one, NAMES, label_order(one, NAMES, TREE))
    assert matrix.names == ("joy", "pride", "fear", "anger")
    assert matrix.edges == (2,)
    counts = confusion_counts(one, 4)
    assert matrix.counts[0, 1] == counts[0, 2]
    assert matrix.counts[2, 0] == counts[1, 0]


def test_multilabel_labels_have_an_order_too() -> None:
    one = part()
    several = SplitPredictions("test", [""] * 60, np.eye(4, dtype=np.int64)[one.labels], one.by_seed, {})
    assert sorted(label_order(several, NAMES).order) == [0, 1, 2, 3]
