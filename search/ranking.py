"""From embeddings to items, and from the channels' rankings of items to one order.

An item is a content, or where regions are wanted a region. The order must not depend on how many hits
are asked for, else a second page would repeat or drop hits of the first: a channel that is read deeper
ranks more items, and these would move others. So channels are fused level by level. The first level
is the first `DEPTH` places of each channel, the next four times as many, and so on; what a level adds
stands after all that stood before, whatever its score. The keyword index is read whole: to a level it
adds its best, and gives points to whatever else the level holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regard.core.catalog import Owners
from regard.core.records import Float32Array, Int64Array, Kind, Target, WeightedChannel
from regard.search.fusion import Float64Array, fuse, points_by_span, points_by_strength
from regard.search.keywords import KeywordRanking

# Deep enough for ranks to be fused, however few hits are wanted.
DEPTH = 200
_DEPTH_PER_HIT = 2
_GROWTH = 4
# Several regions of a content count once for an image: this many are read for each item wanted.
_REGIONS_PER_ITEM = 4
# Deeper than any collection; an answer then holds whatever exists.
DEEPEST_LEVEL = 9


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """One channel's answer to one query: n items, best first, each by its best embedding.

    `places` are those embeddings' places in the channel's answer, from 0; `scores`, `contents` and
    `regions` (0 for none) are theirs. `ranks` are what is shown, from 1. `by_item` sorts the items.
    `exhausted`: there is no more to read. `keywords`: what it was made of, None for vectors.
    """

    weighted: WeightedChannel
    items: Int64Array
    places: Int64Array
    ranks: Int64Array
    scores: Float32Array
    contents: Int64Array
    regions: Int64Array
    by_item: Int64Array
    exhausted: bool
    keywords: KeywordRanking | None = None

    def find(self, items: Int64Array) -> Int64Array:
        """The place of each of `items` (m,) in the ranking, from 0; -1 where it is not there."""
        if not len(self.items):
            return np.full(len(items), -1, np.int64)
        near = np.searchsorted(self.items, items, sorter=self.by_item)
        found = self.by_item[np.minimum(near, len(self.items) - 1)]
        return np.where(self.items[found] == items, found, -1)

    def end(self, target: Target, level: int) -> int:
        """How many items a level holds, those of the levels before it included."""
        return int(np.searchsorted(self.places, embeddings_at(self.weighted, target, level)))

    def points(self, end: int) -> Float64Array:
        """What items add to their fused scores where the first `end` of vectors' are fused."""
        if self.keywords is not None:
            return points_by_strength(self.keywords.strengths, self.weighted.weight)
        return points_by_span(self.scores[:end], self.weighted.weight)


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """Items (n,), best first, with descending scores and the level that each came in by."""

    items: Int64Array
    scores: Float64Array
    levels: Int64Array


def level_for(hits: int) -> int:
    """The level to begin with when so many hits are wanted; often enough, never too deep."""
    level = 0
    while level < DEEPEST_LEVEL and _depth(level) < _DEPTH_PER_HIT * hits:
        level += 1
    return level


def embeddings_at(weighted: WeightedChannel, target: Target, level: int) -> int:
    """How many embeddings of a channel a level holds, those of the levels before it included."""
    is_grouped = weighted.channel.kind is Kind.REGION and target is Target.IMAGE
    return _depth(level) * (_REGIONS_PER_ITEM if is_grouped else 1)


def collapse(
    weighted: WeightedChannel,
    scores: Float32Array,
    embeddings: Int64Array,
    owners: Owners,
    target: Target,
) -> Ranking:
    """From a channel's answer (m,), filled up with -1, to items: the best embedding stands for one."""
    item_of = owners.contents if target is Target.IMAGE else owners.regions
    known = np.flatnonzero((embeddings >= 0) & (owners.contents > 0) & (item_of > 0))
    items, first = np.unique(item_of[known], return_index=True)
    by_rank = np.argsort(first)
    by_item = np.empty_like(by_rank)
    by_item[by_rank] = np.arange(len(by_rank))
    places = known[first[by_rank]]
    return Ranking(
        weighted=weighted,
        items=items[by_rank],
        places=places,
        ranks=np.arange(1, len(items) + 1),
        scores=scores[places],
        contents=owners.contents[places],
        regions=owners.regions[places],
        by_item=by_item,
        exhausted=bool(embeddings.size == 0 or embeddings[-1] < 0),
    )


def by_keywords(weighted: WeightedChannel, found: KeywordRanking, level: int) -> Ranking:
    """The ranking of the keyword index, whole; at deeper levels more of it stands for itself."""
    return Ranking(
        weighted=weighted,
        items=found.items,
        places=np.arange(len(found.items)),
        ranks=found.ranks,
        scores=found.scores,
        contents=found.contents,
        regions=found.regions,
        by_item=np.argsort(found.items),
        exhausted=len(found.items) <= _depth(level),
        keywords=found,
    )


def order_of(rankings: Sequence[Ranking], target: Target, level: int) -> Order:
    """All items of the rankings up to a level, in the order that is the same whatever the level."""
    order = Order(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))
    for reached in range(level + 1):
        items, scores = _fused(rankings, [r.end(target, reached) for r in rankings])
        if reached:
            new = ~np.isin(items, order.items)
            items, scores = items[new], scores[new]
            # Whatever a level adds follows those before; so do its scores, in their own proportions.
            if len(order.scores) and len(scores):
                last = order.scores[-1]
                scores = np.minimum(scores * (last / max(scores[0], last)), last)
        order = Order(
            np.concatenate([order.items, items]),
            np.concatenate([order.scores, scores]),
            np.concatenate([order.levels, np.full(len(items), reached)]),
        )
    return order


def _fused(rankings: Sequence[Ranking], ends: Sequence[int]) -> tuple[Int64Array, Float64Array]:
    """The rankings fused up to their ends; words count for whatever of it has them."""
    items = [ranking.items[:end] for ranking, end in zip(rankings, ends, strict=True)]
    points = [ranking.points(end) for ranking, end in zip(rankings, ends, strict=True)]
    for place, (ranking, end) in enumerate(zip(rankings, ends, strict=True)):
        if ranking.keywords is not None and end < len(ranking.items):
            later = np.isin(ranking.items[end:], np.concatenate(items))
            kept = np.concatenate([np.arange(end), end + np.flatnonzero(later)])
            items[place], points[place] = ranking.items[kept], points[place][kept]
    return fuse(items, points)


def _depth(level: int) -> int:
    return DEPTH * int(_GROWTH**level)
