"""Estimates how likely two things are one object, by logistic regression over four signs.

- `closeness`: their cosine minus the mean cosine of each with its nearest things elsewhere, at
  most ten (cross-domain similarity local scaling, Conneau et al. 2018, arXiv 1710.04087), divided
  by the mean distance of such neighbours from 1. A blade of grass is close to many blades, and
  what recurs in dozens of photographs is more likely the place than an object.
- `objectness`: the share of all regions with a lower objectness than the lower of the two.
- `displacement`: 1 minus the overlap (IoU) of their boxes as shares of the frame. What stays in
  its place is background, or one scene twice.
- `colours`: −ln(0.01 + 1 − the Bhattacharyya coefficient of their colours), if a model knows
  colours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from regard.core.records import Float32Array, Float64Array, Int64Array
from regard.search.same_objects.things import Neighbours, Things

SIGNS = ("closeness", "objectness", "displacement", "colours")

# 0.29 √n nearest of n things count. In a small library ten would include dissimilar things; fewer
# than six could all show one object.
_LOCAL_RATE, _LEAST_LOCAL, _MOST_LOCAL = 0.29, 6, 10
_SAME_COLOURS = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Pairs `first` < `second` of rows (m,), ordered; their signs (m, 3 or 4) as in `SIGNS`."""

    first: Int64Array
    second: Int64Array
    signs: Float32Array


@dataclass(frozen=True, slots=True)
class Weights:
    """A logistic regression over the signs, with weights as in `SIGNS`, or without the last
    (colours).

    `share` is the share of one object among the pairs it was fitted on; None if it judges those
    pairs.
    """

    intercept: float
    weights: tuple[float, ...]
    share: float | None = None


# Fitted on all labelled pairs by `regard evaluate objects --halves`; see docs/same-objects.md.
WITH_COLOURS = Weights(-17.44, (10.87, 10.04, 3.63, 1.32), 0.0156)
WITHOUT_COLOURS = Weights(-12.90, (12.29, 7.94, 3.92), 0.0158)
_PAIRS_ADDED = 100
_ROUNDS, _SETTLED = 100, 1e-4


def candidates(things: Things, neighbours: Neighbours) -> Candidates:
    """Every pair with one thing among the neighbours of the other, and its signs."""
    rows, similarities = neighbours.rows, neighbours.similarities
    ones, places = np.nonzero(rows >= 0)
    others = rows[ones, places]
    pairs = np.stack([np.minimum(ones, others), np.maximum(ones, others)], axis=1)
    unique, index = np.unique(pairs, axis=0, return_index=True)
    first, second = unique[:, 0], unique[:, 1]
    cosine = similarities[ones, places][index].astype(np.float64)
    local = _local_means(neighbours)
    unit = max(1 - float(local[rows[:, 0] >= 0].mean()), 1e-6) if len(first) else 1.0
    signs = [
        (cosine - (local[first] + local[second]) / 2) / unit,
        np.minimum(things.objectness[first], things.objectness[second]),
        1 - _overlap(things.boxes[first], things.boxes[second]),
    ]
    if things.colours is not None:
        alike = np.einsum("ij,ij->i", things.colours[first], things.colours[second])
        signs.append(-np.log(_SAME_COLOURS + np.clip(1 - alike, 0, 1)))
    return Candidates(first, second, np.stack(signs, axis=1).astype(np.float32))


def probabilities(found: Candidates, weights: Weights | None = None) -> Float32Array:
    """The probability (m,) that each pair is one object."""
    chosen = weights
    if chosen is None:
        chosen = WITH_COLOURS if found.signs.shape[1] == len(SIGNS) else WITHOUT_COLOURS
    logits = chosen.intercept + found.signs.astype(np.float64) @ np.asarray(chosen.weights)
    if chosen.share is not None:
        logits += _rarity(logits, chosen.share)
    return np.asarray(_logistic(logits), dtype=np.float32)


def _rarity(logits: Float64Array, share: float) -> float:
    """The change of the log odds, at most 0, if fewer pairs are one object than the `share` of the
    fit.

    This happens in small libraries. The actual share is estimated from the pairs by EM (Saerens,
    Latinne and Decaestecker 2002, Neural Computation 14), with some pairs of the fitted share
    added as a prior.
    """
    known = math.log(share / (1 - share))
    estimate = known
    for _ in range(_ROUNDS):
        same = float(_logistic(logits + min(estimate - known, 0.0)).sum())
        here = (same + _PAIRS_ADDED * share) / (len(logits) + _PAIRS_ADDED)
        before, estimate = estimate, math.log(here / (1 - here))
        if estimate >= known or abs(estimate - before) < _SETTLED:
            break
    return min(estimate - known, 0.0)


def _logistic(logits: Float64Array) -> Float64Array:
    return np.asarray(1 / (1 + np.exp(-logits.clip(-50, 50))))


def _local_means(neighbours: Neighbours) -> Float32Array:
    """The mean cosine with the nearest things elsewhere; -1 without any."""
    count = round(_LOCAL_RATE * len(neighbours.rows) ** 0.5)
    nearest = slice(min(max(count, _LEAST_LOCAL), _MOST_LOCAL))
    near = neighbours.rows[:, nearest] >= 0
    sums = np.where(near, neighbours.similarities[:, nearest], 0).sum(axis=1, dtype=np.float64)
    counts = near.sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), -1.0)


def _overlap(ones: Float32Array, others: Float32Array) -> Float32Array:
    """The IoU (m,) of pairs of boxes (m, 4)."""
    sides = np.minimum(ones[:, 2:], others[:, 2:]) - np.maximum(ones[:, :2], others[:, :2])
    common = sides.clip(0).prod(axis=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (ones, others)]
    return np.asarray(common / np.maximum(areas[0] + areas[1] - common, 1e-12))
