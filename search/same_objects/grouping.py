"""Groups of things out of probable pairs, without chains.

That a looks like b and b like c makes no group of a and c: the pairs are taken the most probable first
(average linkage), and two groups become one only where the mean over all pairs between them, those
that are no candidates counting 0, is high. Of equal pairs the one of lower rows comes first, so the
same pairs always give the same groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from regard.core.records import Float32Array, Int64Array

# A pair that starts or joins groups, and the mean that joining takes.
LEAST_PROBABILITY = 0.7
LEAST_LINKAGE = 0.5

Pairs = Mapping[tuple[int, int], float]


def pairs_of(first: Int64Array, second: Int64Array, probability: Float32Array) -> Pairs:
    """Probabilities by pair, lower row first."""
    return {
        (one, other): found
        for one, other, found in zip(
            first.tolist(), second.tolist(), probability.tolist(), strict=True
        )
    }


def groups(
    pairs: Pairs,
    pictures: Sequence[int],
    *,
    least_probability: float = LEAST_PROBABILITY,
    least_linkage: float = LEAST_LINKAGE,
) -> list[list[int]]:
    """Groups of two or more rows, one a picture, each ascending, ordered by their first.

    `pictures` has the picture of each row. A thing is in one group at most.
    """
    members: dict[int, list[int]] = {}
    group_of: dict[int, int] = {}
    strong = [(-found, pair) for pair, found in pairs.items() if found >= least_probability]
    for _, (one, other) in sorted(strong):
        ours, theirs = group_of.get(one, one), group_of.get(other, other)
        if ours == theirs:
            continue
        left, right = members.get(ours, [one]), members.get(theirs, [other])
        if {pictures[row] for row in left} & {pictures[row] for row in right}:
            continue
        if linkage(pairs, left, right) < least_linkage:
            continue
        kept, gone = (ours, theirs) if len(left) >= len(right) else (theirs, ours)
        members[kept] = left + right
        members.pop(gone, None)
        for row in members[kept]:
            group_of[row] = kept
    return sorted(sorted(found) for found in members.values())


def linkage(pairs: Pairs, left: Sequence[int], right: Sequence[int]) -> float:
    """Mean probability over all pairs between two groups, 0 for those that are no candidates."""
    found = [pairs.get((min(one, other), max(one, other)), 0.0) for one in left for other in right]
    return float(np.mean(found))
