"""Fusion: one ranking out of several.

Weighted reciprocal-rank fusion (Cormack, Clarke & Büttcher, SIGIR 2009): an item's score is the sum over
channels of weight / (k + rank), ranks from 1. Ranks, not scores, because the cosines of two channels
are on different scales; an item that a channel did not return adds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from regard.core.records import Int64Array

Float64Array = npt.NDArray[np.float64]

RANK_OFFSET = 3.0


def fuse(
    rankings: Sequence[Int64Array],
    weights: Sequence[float],
    rank_offset: float = RANK_OFFSET,
) -> tuple[Int64Array, Float64Array]:
    """Fuse rankings of items (best first, no repeats) into items and their scores, best first.

    Ties go to the item that came first, by ranking and then by rank, so the order is deterministic.
    """
    shares = [
        weight / (rank_offset + np.arange(1, len(ranking) + 1, dtype=np.float64))
        for ranking, weight in zip(rankings, weights, strict=True)
    ]
    if not shares:
        return np.zeros(0, np.int64), np.zeros(0, np.float64)
    items, first, places = np.unique(
        np.concatenate(rankings), return_index=True, return_inverse=True
    )
    # Adds up in the order of the rankings.
    scores = np.zeros(len(items))
    np.add.at(scores, places, np.concatenate(shares))
    order = np.lexsort((first, -scores))
    return items[order].astype(np.int64, copy=False), scores[order]
