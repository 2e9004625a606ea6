"""The display order of labels, similar ones side by side, from their tree or by clustering."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_CLUSTERS = 6
OPTIMAL_UP_TO = 200  # labels; the time for the optimal leaf order is cubic in their number


@dataclass(frozen=True)
class LabelOrder:
    """An order of C labels in groups."""

    order: tuple[int, ...]
    """Label indices."""
    groups: tuple[int, ...]
    """Group of each label."""
    names: tuple[str, ...]
    """Name of each group, "" for a cluster."""


def by_tree(labels: Sequence[str], tree: Sequence[tuple[str, str]]) -> LabelOrder | None:
    """Order labels by a depth-first walk through their tree; the children of the root are the groups.

    A node may be listed with all its ancestors: the deepest of them is its parent. Labels that are not in the tree
    come last, in a separate group.

    Args:
        labels: Names.
        tree: Pairs of child and parent.

    Returns:
        None if the tree has less than half of the labels, and is therefore for a different set of labels.
    """
    parents: dict[str, list[str]] = {}
    ancestors: dict[str, set[str]] = {}  # with the node itself
    for child, parent in tree:
        above = ancestors.setdefault(parent, {parent})
        if child in above:
            continue  # the published tree of ED has a cycle: the line that closes it is ignored
        parents.setdefault(child, []).append(parent)
        parents.setdefault(parent, [])
        ancestors.setdefault(child, {child})
        for node, own in ancestors.items():
            if child in own:
                ancestors[node] = own | above
    children: dict[str, list[str]] = {}
    for node, direct in parents.items():
        if direct:
            children.setdefault(max(direct, key=lambda one: len(ancestors[one])), []).append(node)
    index = {label: i for i, label in enumerate(labels)}
    found: dict[int, str] = {}  # group by label index

    def walk(node: str, group: str) -> None:
        if node in index:
            found[index[node]] = group
        for child in children.get(node, []):
            walk(child, group or child)

    for root in [node for node, direct in parents.items() if not direct]:
        walk(root, root if root in index else "")
    if len(found) * 2 < len(labels):
        return None
    found |= {i: "other" for i in range(len(labels)) if i not in found}
    names = tuple(dict.fromkeys(found.values()))
    return LabelOrder(tuple(found), tuple(names.index(found[i]) for i in range(len(labels))), names)


def by_similarity(similarity: np.ndarray) -> LabelOrder:
    """Order labels as the leaves of a hierarchical clustering (average linkage), so that similar ones are adjacent.

    Args:
        similarity: (C, C) in [0, 1], such as the row-normalized confusion matrix.
    """
    from scipy.cluster.hierarchy import fcluster, leaves_list, linkage  # noqa: PLC0415 - slow to import
    from scipy.spatial.distance import squareform  # noqa: PLC0415 - slow to import

    count = len(similarity)
    if count < 3:
        return LabelOrder(tuple(range(count)), tuple(range(count)), ("",) * count)
    distance = 1 - (similarity + similarity.T) / 2
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average", optimal_ordering=count <= OPTIMAL_UP_TO)
    order = leaves_list(tree).tolist()
    clusters = fcluster(tree, min(MAX_CLUSTERS, count), "maxclust").tolist()
    number = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters[label] for label in order))}
    return LabelOrder(tuple(order), tuple(number[cluster] for cluster in clusters), ("",) * count)
