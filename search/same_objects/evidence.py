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
from regard.search.same_objects.things import Things

SIGNS = ("closeness", "objectness", "displacement", "colours")

# 0.29 √n nearest of n things count. In a small library ten would include dissimilar things; fewer
# than six could all show one object.
_LOCAL_RATE, _LEAST_LOCAL, _MOST_LOCAL = 0.29, 6, 10
_SAME_COLOURS = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Pairs `first` < `second` of rows (m,), ordered; their signs (m, 3 or 4) as in `SIGNS`.

    `counts` (m,) is 2 where each of the two is a candidate of the other, else 1. `total` counts
    the candidates of all things, including unlikely pairs that are not among these.
    """

    first: Int64Array
    second: Int64Array
    signs: Float32Array
    counts: Int64Array
    total: int


@dataclass(frozen=True, slots=True)
class Weights:
    """A logistic regression over the signs, with weights as in `SIGNS`, or without the last
    (colours).

    `share` is the share of one object among the candidates of all things that it was fitted on;
    None if it judges those pairs.
    """

    intercept: float
    weights: tuple[float, ...]
    share: float | None = None


# Fitted on all labelled pairs by `regard evaluate objects --halves`; see docs/same-objects.md.
WITH_COLOURS = Weights(-17.91, (11.12, 10.48, 3.97, 1.27), 0.0215)
WITHOUT_COLOURS = Weights(-13.22, (12.08, 8.17, 4.14), 0.0217)
_CANDIDATES_ADDED = 100
_ROUNDS, _SETTLED = 100, 1e-4


def typical_distance(local: Float32Array) -> float:
    """How far the nearest neighbours of things commonly are from identity: the unit of closeness.

    `local` are the means of `local_mean`; NaN counts as unknown.
    """
    known = local[np.isfinite(local)]
    return max(1 - float(known.mean(dtype=np.float64)), 1e-6) if len(known) else 1.0


def local_mean(similarities: Float32Array, things: int) -> Float32Array:
    """The mean cosine (n,) with the nearest neighbours among so many things; NaN without any.

    `similarities` (n, k) are those of the nearest neighbours, descending, NaN where there are
    no more.
    """
    count = min(max(round(_LOCAL_RATE * things**0.5), _LEAST_LOCAL), _MOST_LOCAL)
    nearest = similarities[:, :count]
    there = np.isfinite(nearest)
    sums = np.where(there, nearest, 0).sum(axis=1, dtype=np.float64)
    counts = there.sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)


def signs_of(
    things: Things, first: Int64Array, second: Int64Array, cosine: Float32Array, unit: float
) -> Float32Array:
    """The signs (m, 3 or 4) of pairs of rows; `unit` is the typical distance of neighbours.

    Where the second is not compared yet, it counts as no closer to others than the first.
    """
    ours = things.local[first].astype(np.float64)
    theirs = things.local[second].astype(np.float64)
    theirs = np.where(np.isfinite(theirs), theirs, ours)
    signs = [
        (cosine - (ours + theirs) / 2) / unit,
        np.minimum(things.objectness[first], things.objectness[second]),
        1 - _overlap(things.boxes[first], things.boxes[second]),
    ]
    if things.colours is not None:
        alike = np.einsum("ij,ij->i", things.colours[first], things.colours[second])
        signs.append(-np.log(_SAME_COLOURS + np.clip(1 - alike, 0, 1)))
    return np.stack(signs, axis=1).astype(np.float32)


def candidates(
    things: Things, ones: Int64Array, others: Int64Array, cosine: Float32Array
) -> Candidates:
    """Every pair where one thing is a candidate of the other, once, and its signs."""
    first, second = np.minimum(ones, others), np.maximum(ones, others)
    _, index, counts = np.unique(
        first * max(len(things), 1) + second, return_index=True, return_counts=True
    )
    first, second = first[index], second[index]
    signs = signs_of(things, first, second, cosine[index], typical_distance(things.local))
    return Candidates(first, second, signs, counts, int(things.neighbours.sum()))


def likelihoods(signs: Float32Array) -> Float32Array:
    """The probability (m,) that each pair is one object, where objects are as common as in the
    fit."""
    return np.asarray(_logistic(_logits(signs, _fitted(signs))), dtype=np.float32)


def probabilities(found: Candidates, weights: Weights | None = None) -> Float32Array:
    """The probability (m,) that each pair is one object."""
    weights = weights or _fitted(found.signs)
    logits = _logits(found.signs, weights)
    if weights.share is not None:
        logits += _rarity(logits, found, weights.share)
    return np.asarray(_logistic(logits), dtype=np.float32)


def _fitted(signs: Float32Array) -> Weights:
    return WITH_COLOURS if signs.shape[1] == len(SIGNS) else WITHOUT_COLOURS


def _logits(signs: Float32Array, weights: Weights) -> Float64Array:
    logits: Float64Array = weights.intercept + signs.astype(np.float64) @ np.asarray(
        weights.weights
    )
    return logits


def _rarity(logits: Float64Array, found: Candidates, share: float) -> float:
    """The change of the log odds, at most 0, if fewer pairs are one object than the `share` of the
    fit.

    This happens in small libraries. The actual share is estimated from the candidates of all things
    by EM (Saerens, Latinne and Decaestecker 2002, Neural Computation 14), with some of the fitted
    share added as a prior. Candidates that are not among the pairs count as other objects.
    """
    known = math.log(share / (1 - share))
    estimate = known
    for _ in range(_ROUNDS):
        same = float(_logistic(logits + min(estimate - known, 0.0)) @ found.counts)
        here = (same + _CANDIDATES_ADDED * share) / (found.total + _CANDIDATES_ADDED)
        before, estimate = estimate, math.log(here / (1 - here))
        if estimate >= known or abs(estimate - before) < _SETTLED:
            break
    return min(estimate - known, 0.0)


def _logistic(logits: Float64Array) -> Float64Array:
    return np.asarray(1 / (1 + np.exp(-logits.clip(-50, 50))))


def _overlap(ones: Float32Array, others: Float32Array) -> Float32Array:
    """The IoU (m,) of pairs of boxes (m, 4)."""
    sides = np.minimum(ones[:, 2:], others[:, 2:]) - np.maximum(ones[:, :2], others[:, :2])
    common = sides.clip(0).prod(axis=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (ones, others)]
    return np.asarray(common / np.maximum(areas[0] + areas[1] - common, 1e-12))
