"""The order in which labels are shown, those which are alike side by side: by their hierarchy or by clustering."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform

MOST_CLUSTERS = 6
OPTIMAL_UP_TO = 200  # labels: the best order of the leaves takes time that grows with their cube


@dataclass(frozen=True)
class LabelOrder:
    """`order`: label indices, (C,); `groups`: each label's group; `names` of the groups, "" where it is a cluster."""

    order: tuple[int, ...]
    groups: tuple[int, ...]
    names: tuple[str, ...]


def by_tree(labels: Sequence[str], tree: Sequence[tuple[str, str]]) -> LabelOrder | None:
    """The order in which a walk through the hierarchy, depth first, meets the labels; the root's children are groups.

    Where a node stands with all its ancestors, the deepest of them is its parent. Labels that the tree does not know
    come last, in a group of their own.

    Args:
        labels: C names.
        tree: child and parent.

    Returns:
        None where the tree knows less than half of the labels: it belongs to others.
    """
    parents: dict[str, list[str]] = {}
    ancestors: dict[str, set[str]] = {}  # and the node itself
    for child, parent in tree:
        above = ancestors.setdefault(parent, {parent})
        if child in above:
            continue  # the published tree of ED has a circle: the line that would close it is left out
        parents.setdefault(child, []).append(parent)
        parents.setdefault(parent, [])
        ancestors.setdefault(child, {child})
        for node, own in ancestors.items():
            if child in own:
                ancestors[node] = own | above
    depths: dict[str, int] = {}

    def depth(node: str) -> int:
        if node not in depths:
            depths[node] = 1 + max(map(depth, parents[node]), default=-1)
        return depths[node]

    children: dict[str, list[str]] = {}
    for node, direct in parents.items():
        if direct:
            children.setdefault(max(direct, key=depth), []).append(node)
    index = {label: i for i, label in enumerate(labels)}
    found: dict[int, str] = {}  # label index: group

    def walk(node: str, group: str) -> None:
        if node in index:
            found[index[node]] = group
        for child in children.get(node, []):
            walk(child, group or child)

    for root in [node for node, direct in parents.items() if not direct]:
        for top in [root] if root in index else children.get(root, []):
            walk(top, top)
    if len(found) * 2 < len(labels):
        return None
    rest = {i: "other" for i in range(len(labels)) if i not in found}
    found |= rest
    names = tuple(dict.fromkeys(found.values()))
    return LabelOrder(tuple(found), tuple(names.index(found[i]) for i in range(len(labels))), names)


def by_confusion(matrix: np.ndarray) -> LabelOrder:
    """The leaves of a hierarchical clustering (average linkage): labels that are confused are near each other.

    Args:
        matrix: (C, C), the shares of each true label, in rows, that each label was predicted.
    """
    count = len(matrix)
    if count < 3:
        return LabelOrder(tuple(range(count)), tuple(range(count)), ("",) * count)
    distance = 1 - (matrix + matrix.T) / 2
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average", optimal_ordering=count <= OPTIMAL_UP_TO)
    order = leaves_list(tree)
    clusters = fcluster(tree, min(MOST_CLUSTERS, count), "maxclust")
    # Numbered in the order in which they are shown.
    number = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters[order].tolist()))}
    return LabelOrder(tuple(order.tolist()), tuple(number[one] for one in clusters.tolist()), ("",) * len(number))
