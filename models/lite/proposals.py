"""Superpixels → proposed regions.

Greedy merging (selective search, Uijlings et al., 2013) builds one tree for each of two
dissimilarities. Every node of a tree is a region. In addition, at several cuts of the tree,
segments that touch the image's border count as background, and each connected component of the
rest is a region; this finds multicoloured things that similarity alone would not merge.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from regard.core.records import Float64Array
from regard.models.lite.superpixels import Partition

BoolArray = npt.NDArray[np.bool_]

Dissimilarity = Callable[[Float64Array, Float64Array, Float64Array], Float64Array]
"""(histogram overlap in [0, 1], mean boundary gradient, smaller area) → cost, each (k,)."""

_SMALL = 0.005
"""Share of the image above which a segment's size no longer affects merging by edges."""


def by_colour_and_edge(
    overlap: Float64Array, gradient: Float64Array, smaller: Float64Array
) -> Float64Array:
    """Cost from colour difference and edge strength; large segments merge late."""
    return (1.05 - overlap) * (gradient + 1) * smaller**0.3


def by_edge(overlap: Float64Array, gradient: Float64Array, smaller: Float64Array) -> Float64Array:
    """Cost from edge strength alone; only very small segments merge early."""
    return gradient * np.minimum(smaller, _SMALL) ** 0.25


def propose(partition: Partition, cuts: int, smallest: float, largest: float) -> BoolArray:
    """Return distinct regions as rows over superpixels, (c, n) bool.

    `cuts` is the number of levels at which components off the border are proposed; `smallest` and
    `largest` bound a region's share of the image.
    """
    proposals = []
    for dissimilarity in (by_colour_and_edge, by_edge):
        merges = merge_tree(partition, dissimilarity)
        proposals += [_nodes(partition.count, merges), off_border(partition, merges, cuts)]
    members = np.concatenate(proposals)
    part = members @ (partition.area / partition.area.sum())
    members = members[(part >= smallest) & (part <= largest)]
    _, first = np.unique(np.packbits(members, axis=1), axis=0, return_index=True)
    distinct: npt.NDArray[np.bool_] = members[first]
    return distinct


def merge_tree(partition: Partition, dissimilarity: Dissimilarity) -> list[tuple[int, int]]:
    """Merge the two most similar neighbours until one segment is left.

    The t-th pair becomes segment n + t. Ties go to the segments with the lower numbers.
    """
    count = partition.count
    total = float(partition.area.sum())
    histogram = np.zeros((2 * count - 1, partition.histogram.shape[1]))
    histogram[:count] = partition.histogram / partition.area[:, None]
    part = np.zeros(2 * count - 1)
    part[:count] = partition.area / total
    boundaries: list[dict[int, tuple[float, float]]] = [{} for _ in range(2 * count - 1)]
    for one, other, length, gradient in zip(
        partition.first.tolist(),
        partition.second.tolist(),
        partition.length.tolist(),
        (partition.gradient * partition.length).tolist(),
        strict=True,
    ):
        boundaries[one][other] = boundaries[other][one] = (length, gradient)
    overlap = np.minimum(histogram[partition.first], histogram[partition.second]).sum(axis=1)
    smaller = np.minimum(part[partition.first], part[partition.second])
    queue = list(
        zip(
            dissimilarity(overlap, partition.gradient, smaller).tolist(),
            partition.first.tolist(),
            partition.second.tolist(),
            strict=True,
        )
    )
    heapq.heapify(queue)
    alive = [True] * count + [False] * (count - 1)
    merges: list[tuple[int, int]] = []
    while queue:
        _, one, other = heapq.heappop(queue)
        if not (alive[one] and alive[other]):
            continue
        new = count + len(merges)
        merges.append((one, other))
        alive[one] = alive[other] = False
        alive[new] = True
        part[new] = part[one] + part[other]
        histogram[new] = (part[one] * histogram[one] + part[other] * histogram[other]) / part[new]
        around = boundaries[one]
        for neighbour, (length, gradient) in boundaries[other].items():
            known = around.get(neighbour, (0.0, 0.0))
            around[neighbour] = (known[0] + length, known[1] + gradient)
        del around[one], around[other]
        boundaries[new] = around
        if not around:
            continue
        for neighbour, shared in around.items():
            theirs = boundaries[neighbour]
            theirs.pop(one, None)
            theirs.pop(other, None)
            theirs[new] = shared
        near = list(around)
        shares = np.array(list(around.values()))
        costs = dissimilarity(
            np.minimum(histogram[near], histogram[new]).sum(axis=1),
            shares[:, 1] / shares[:, 0],
            np.minimum(part[near], part[new]),
        )
        for cost, neighbour in zip(costs.tolist(), near, strict=True):
            heapq.heappush(queue, (cost, neighbour, new))
    return merges


def _nodes(count: int, merges: list[tuple[int, int]]) -> BoolArray:
    """Superpixels under each node of a merge tree, (count + len(merges), count) bool."""
    members = np.zeros((count + len(merges), count), np.bool_)
    members[:count] = np.eye(count, dtype=np.bool_)
    for step, (one, other) in enumerate(merges):
        members[count + step] = members[one] | members[other]
    return members


def off_border(partition: Partition, merges: list[tuple[int, int]], cuts: int) -> BoolArray:
    """Connected components off the border at `cuts` levels of a tree, (c, n) bool.

    The levels have 2 to n segments in geometric steps, because changes among few, large segments
    matter most.
    """
    count = partition.count
    levels = np.unique(np.geomspace(2, max(count, 2), cuts).astype(np.int64))[::-1].tolist()
    segment = np.arange(count)
    pieces = [np.zeros((0, count), np.bool_)]
    done = 0
    for level in levels:
        while count - done > level and done < len(merges):
            one, other = merges[done]
            segment[(segment == one) | (segment == other)] = count + done
            done += 1
        inside = np.bincount(segment, partition.frame)[segment] == 0
        if not inside.any():
            continue
        joined = inside[partition.first] & inside[partition.second]
        graph = coo_matrix(
            (np.ones(int(joined.sum())), (partition.first[joined], partition.second[joined])),
            shape=(count, count),
        )
        _, component = connected_components(graph, directed=False)
        pieces.append(np.unique(component[inside])[:, None] == component[None])
    return np.concatenate(pieces)
