"""Fusion: one ranking out of several.

Each channel gives each item that it found some points, and an item's score is their sum; an item that a
channel did not find gets none there. Scores of two channels are on different scales, so each channel of
vectors gives points by where a score lies between its best and the last that is fused (relative score
fusion; Fox & Shaw's CombSUM over scores scaled to one range, TREC-2, 1994): its weight to the best, a
tenth of that to the last. The keyword index gives its weight times the strength of the match, since it
knows by itself what a whole match is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from regard.core.records import Float32Array, Int64Array

Float64Array = npt.NDArray[np.float64]

# What the last score counts, as a share of the best: to be found at all is worth something.
LAST_SHARE = 0.1


def points_by_span(scores: Float32Array, weight: float) -> Float64Array:
    """The points of descending scores, shape (n,); the best gets all of the weight."""
    if not len(scores):
        return np.zeros(0)
    exact = scores.astype(np.float64)
    span = exact[0] - exact[-1]
    shares = (exact - exact[-1]) / span if span > 0 else np.ones(len(exact))
    return weight * (LAST_SHARE + (1 - LAST_SHARE) * shares)


def points_by_strength(strengths: Float32Array, weight: float) -> Float64Array:
    """The points of matches from 0, none, to 1, whole; of their shape."""
    return weight * strengths.astype(np.float64)


def fuse(
    rankings: Sequence[Int64Array], points: Sequence[Float64Array]
) -> tuple[Int64Array, Float64Array]:
    """Fuse rankings of items (best first, no repeats) into items and their scores, best first.

    `points` are those of each ranking's items. Ties go to the item that came first, by ranking and then by
    place, so the order is deterministic.
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
