"""Labels that are alike stand together."""

import numpy as np

from fusion_classifier.evaluation.figures.label_order import by_similarity, by_tree

LABELS = ("fear", "joy", "anger", "pride", "surprise", "odd")
# Each node with all its ancestors, as the published trees have it.
TREE = [
    ("good", "root"),
    ("bad", "root"),
    ("joy", "root"),
    ("joy", "good"),
    ("pride", "joy"),
    ("pride", "good"),
    ("pride", "root"),
    ("dread", "bad"),
    ("fear", "bad"),
    ("fear", "dread"),
    ("anger", "bad"),
    ("surprise", "root"),
    ("never heard of", "bad"),
]


def test_tree_is_walked_depth_first() -> None:
    found = by_tree(LABELS, TREE)
    assert found is not None
    assert [LABELS[i] for i in found.order] == ["joy", "pride", "fear", "anger", "surprise", "odd"]
    assert found.names == ("good", "bad", "surprise", "other")
    assert [found.names[found.groups[i]] for i in range(6)] == ["bad", "good", "bad", "good", "surprise", "other"]


def test_a_circle_in_a_tree_is_cut_open() -> None:
    found = by_tree(("a", "b", "c"), [("a", "b"), ("b", "a"), ("b", "root"), ("c", "root")])
    assert found is not None
    assert sorted(found.order) == [0, 1, 2]
    assert found.groups[0] == found.groups[1] != found.groups[2]


def test_a_tree_of_other_labels_is_not_used() -> None:
    assert by_tree(("sports", "politics", "joy"), TREE) is None


def test_confused_labels_are_neighbours_and_of_one_group() -> None:
    # 0 with 4, 1 with 5, 2 with 6, 3 with 7
    matrix = np.eye(8) * 0.6 + np.roll(np.eye(8), 4, axis=1) * 0.4
    found = by_similarity(matrix)
    assert sorted(found.order) == list(range(8))
    places = {label: place for place, label in enumerate(found.order)}
    for label in range(4):
        assert abs(places[label] - places[label + 4]) == 1
        assert found.groups[label] == found.groups[label + 4]
    assert len(set(found.groups)) >= 4


def test_few_labels_and_labels_without_texts_have_an_order() -> None:
    assert by_similarity(np.array([[0.9, 0.1], [0.2, 0.8]])).order == (0, 1)
    assert sorted(by_similarity(np.zeros((5, 5))).order) == [0, 1, 2, 3, 4]
