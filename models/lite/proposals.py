"""Superpixels → proposed regions.

Merging the most similar neighbours (selective search, Uijlings et al., 2013) builds one tree for
each of two dissimilarities. Every node of a tree is a region. In addition, at several cuts of the
tree, segments that touch the image's border count as background, and each connected component of
the rest is a region; this finds multicoloured things that similarity alone would not merge.

Each round merges all pairs of segments that are each other's most similar neighbours, which takes
a fifth of the steps of merging pair by pair.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from regard.core.records import Float64Array, Int64Array
from regard.models.lite.superpixels import Partition, joined, least_incident

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


@dataclass(frozen=True, slots=True)
class MergeTree:
    """Segments of n superpixels; the t-th of m merges makes segment n + t.

    `pairs` (m, 2) are the segments that each merge joins; `members` (n + m, n) the superpixels of
    each segment.
    """

    pairs: Int64Array
    members: BoolArray


def propose(partition: Partition, cuts: int, smallest: float, largest: float) -> BoolArray:
    """Return distinct regions as rows over superpixels, (c, n) bool.

    `cuts` is the number of levels at which components off the border are proposed; `smallest` and
    `largest` bound a region's share of the image.
    """
    proposals = []
    # Without bins, overlaps are 0 and cost nothing.
    for dissimilarity, histogram in (
        (by_colour_and_edge, partition.histogram),
        (by_edge, partition.histogram[:, :0]),
    ):
        tree = merge_tree(partition, dissimilarity, histogram)
        proposals += [tree.members, off_border(partition, tree, cuts)]
    members = np.concatenate(proposals)
    part = members @ (partition.area / partition.area.sum())
    members = members[(part >= smallest) & (part <= largest)]
    # Sums of random numbers tell rows apart, and sort faster than rows.
    names = np.random.default_rng(0).integers(1 << 62, size=partition.count)
    _, first = np.unique(members @ names, return_index=True)
    distinct: BoolArray = members[first]
    return distinct


def merge_tree(
    partition: Partition, dissimilarity: Dissimilarity, histogram: Float64Array
) -> MergeTree:
    """Merge neighbours until one segment is left; `histogram` (n, b) is of the superpixels.

    Merges are in the order of their height: their cost, or that of a merge inside them if greater.
    """
    count = partition.count
    total = float(partition.area.sum())
    number, height = np.arange(count), np.zeros(count)
    area = partition.area
    first, second, length = partition.first, partition.second, partition.length
    contrast = partition.gradient * length
    pairs, heights = [np.zeros((0, 2), np.int64)], [np.zeros(0)]
    made = count
    while len(first):
        shares = histogram / area[:, None]
        cost = dissimilarity(
            np.minimum(shares[first], shares[second]).sum(axis=1),
            contrast / length,
            np.minimum(area[first], area[second]) / total,
        )
        # Ranks have no ties, so that at least one pair is mutual.
        order = np.argsort(cost, kind="stable")
        rank = np.empty(len(order))
        rank[order] = np.arange(len(order))
        least = least_incident(rank, first, second, len(area))
        mutual = np.flatnonzero((least[first] == rank) & (least[second] == rank))
        one, other = first[mutual], second[mutual]
        reached = np.maximum(cost[mutual], np.maximum(height[one], height[other]))
        pairs.append(np.stack([number[one], number[other]], axis=1))
        heights.append(reached)
        kept = np.ones(len(area), np.bool_)
        kept[one] = kept[other] = False
        name = np.cumsum(kept) - 1
        name[one] = name[other] = kept.sum() + np.arange(len(mutual))
        number = np.concatenate([number[kept], made + np.arange(len(mutual))])
        height = np.concatenate([height[kept], reached])
        area = np.concatenate([area[kept], area[one] + area[other]])
        histogram = np.concatenate([histogram[kept], histogram[one] + histogram[other]])
        made += len(mutual)
        first, second, length, contrast = joined(
            name[first], name[second], length, contrast, len(area)
        )
    order = np.argsort(np.concatenate(heights), kind="stable")
    place = np.arange(made)
    place[count + order] = count + np.arange(len(order))
    ordered = place[np.concatenate(pairs)[order]]
    members = np.zeros((made, count), np.bool_)
    members[:count] = np.eye(count, dtype=np.bool_)
    for segment, (left, right) in enumerate(ordered.tolist(), start=count):
        np.logical_or(members[left], members[right], out=members[segment])
    return MergeTree(ordered, members)


def off_border(partition: Partition, tree: MergeTree, cuts: int) -> BoolArray:
    """Connected components off the border at `cuts` levels of a tree, (c, n) bool.

    The levels have 2 to n segments in geometric steps, because changes among few, large segments
    matter most.
    """
    count, merges = partition.count, len(tree.pairs)
    levels = np.unique(np.geomspace(2, max(count, 2), cuts).astype(np.int64))
    # Merge t makes segment count + t, which lasts until another merge joins it.
    made = np.concatenate([np.full(count, -1), np.arange(merges)])
    joined_by = np.full(count + merges, merges)
    joined_by[tree.pairs.ravel()] = np.repeat(np.arange(merges), 2)
    at_border = tree.members[:, partition.frame > 0].any(axis=1)
    inside = np.zeros((len(levels), count), np.bool_)
    for row, done in zip(inside, np.clip(count - levels, 0, merges).tolist(), strict=True):
        background = at_border & (made < done) & (joined_by >= done)
        row[:] = ~tree.members[background].any(axis=0)
    # One graph for all levels: superpixel i at level l is node l * count + i.
    level, boundary = np.nonzero(inside[:, partition.first] & inside[:, partition.second])
    ends = (partition.first[boundary], partition.second[boundary])
    graph = coo_matrix(
        (np.ones(len(level), np.int8), tuple(level * count + end for end in ends)),
        shape=(inside.size, inside.size),
    )
    _, component = connected_components(graph, directed=False)
    nodes = np.flatnonzero(inside)
    names, row_of = np.unique(component[nodes], return_inverse=True)
    components = np.zeros((len(names), count), np.bool_)
    components[row_of, nodes % count] = True
    return components
