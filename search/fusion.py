"""Fusion: one ranking out of several.

Weighted reciprocal-rank fusion (Cormack, Clarke & Büttcher, SIGIR 2009): an item's score is the sum over
channels of weight / (k + rank), ranks from 1. Ranks, not scores, because the cosines of two channels
are on different scales; an item that a channel did not return adds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

RANK_OFFSET = 3.0


def fuse(
    rankings: Sequence[Sequence[int]],
    weights: Sequence[float],
    rank_offset: float = RANK_OFFSET,
) -> list[tuple[int, float]]:
    """Fuse rankings of items (best first, no repeats) into (item, score), best first.

    Ties go to the item that came first, by ranking and then by rank, so the order is deterministic.
    """
    scores: dict[int, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, item in enumerate(ranking, start=1):
            scores[item] = scores.get(item, 0.0) + weight / (rank_offset + rank)
    return sorted(scores.items(), key=lambda entry: -entry[1])
