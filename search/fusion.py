"""Fusion: one ranking out of several.

Each channel gives each item that it found some points, and an item's score is their sum; an item that a
channel did not find gets none there. Channels of vectors give points by rank: weighted reciprocal-rank
fusion (Cormack, Clarke & Büttcher, SIGIR 2009), weight / (k + rank), ranks from 1. Ranks, not scores,
because the cosines of two channels are on different scales. The keyword index gives points by strength,
since it knows what a whole match is, and since among its many equals a rank would be an accident:
strength 1 is worth what a first rank is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from regard.core.records import Float32Array, Int64Array

Float64Array = npt.NDArray[np.float64]

RANK_OFFSET = 3.0


def points_by_rank(count: int, weight: float, rank_offset: float = RANK_OFFSET) -> Float64Array:
    """The points of the first `count` ranks, shape (count,)."""
    return weight / (rank_offset + np.arange(1, count + 1, dtype=np.float64))


def points_by_strength(
    strengths: Float32Array, weight: float, rank_offset: float = RANK_OFFSET
) -> Float64Array:
    """The points of strengths from 0 to 1, of their shape."""
    return strengths.astype(np.float64) * (weight / (rank_offset + 1))


def fuse(
    rankings: Sequence[Int64Array], points: Sequence[Float64Array]
) -> tuple[Int64Array, Float64Array]:
    """Fuse rankings of items (best first, no repeats) into items and their scores, best first.

    `points` are those of each ranking's items. Ties go to the item that came first, by ranking and then by
    rank, so the order is deterministic.
    """
    if [len(ranking) for ranking in rankings] != [len(of_ranking) for of_ranking in points]:
        raise ValueError("each item of each ranking needs its points")
    if not rankings:
        return np.zeros(0, np.int64), np.zeros(0, np.float64)
    items, first, places = np.unique(
        np.concatenate(rankings), return_index=True, return_inverse=True
    )
    # Adds up in the order of the rankings.
    scores = np.zeros(len(items))
    np.add.at(scores, places, np.concatenate(points))
    order = np.lexsort((first, -scores))
    return items[order].astype(np.int64, copy=False), scores[order]
