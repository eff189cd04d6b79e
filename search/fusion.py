"""Ranks items by the embeddings of each channel, and fuses the channels' rankings into one.

An item is a content or, when regions are searched, a region. Each channel gives points to each
item that it ranked, and an item's score is their sum. Scores of two channels are on different
scales, so a channel of vectors gives points by where a score lies between its best and its last
(relative score fusion; Fox & Shaw's CombSUM over scores scaled to one range, TREC-2, 1994): its
weight to the best, a tenth of that to the last. The keyword index gives its weight times the
strength of the match, which has a fixed maximum. Items that the query names get a bonus besides,
more than all channels together can give, so that they come first.

The order must not depend on how many hits are asked for, else a second page would repeat or drop
hits of the first: a channel that is read deeper ranks more items, and these would move others. So
channels are fused level by level. The first level holds the first `DEPTH` places of each channel,
the next level four times as many, and so on. Items that a level adds follow all items of earlier
levels, whatever their score. The keyword index is always read whole: it adds its best items to a
level, and gives points to any other item of the level that it also ranked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regard.core.catalog import Neighbours
from regard.core.records import (
    Float32Array,
    Float64Array,
    Int64Array,
    Kind,
    Target,
    WeightedChannel,
)
from regard.search.keywords import KeywordRanking

# What the last score counts, as a share of the best: any rank at all is evidence.
LAST_SHARE = 0.1
# Deep enough to fuse ranks, however few hits are wanted.
DEPTH = 200
# Hits that a level gives for each place of its channels, at a guess: channels rank other items too.
_HITS_PER_PLACE = 1.5
_GROWTH = 4
# Several regions of a content count once for an image: this many are read for each item wanted.
_REGIONS_PER_ITEM = 4
# Deeper than any collection; at this level an answer holds everything.
DEEPEST_LEVEL = 9


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """One channel's answer to one query: n items, best first, each ranked by its best embedding.

    `places` are the places of those embeddings in the channel's answer, from 0; `scores`,
    `contents` and `regions` (0 for none) belong to them. `ranks` are the ranks to show, from 1.
    `by_item` sorts the items. `exhausted` says that the channel holds no more. With `counts_items` a
    level is a number of items, however many embeddings they have: a photograph has one embedding of
    the whole, but a video has one for each of its moments, which must not take the places of all
    that lies beside it. `keywords` is the source of a ranking by words.
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
    counts_items: bool = False
    keywords: KeywordRanking | None = None

    def find(self, items: Int64Array) -> Int64Array:
        """The place of each of `items` (m,) in the ranking, from 0, or -1."""
        if not len(self.items):
            return np.full(len(items), -1, np.int64)
        near = np.searchsorted(self.items, items, sorter=self.by_item)
        places = self.by_item[np.minimum(near, len(self.items) - 1)]
        return np.where(self.items[places] == items, places, -1)

    def end(self, target: Target, level: int) -> int:
        """How many items a level holds, including those of earlier levels."""
        if self.counts_items:
            return min(_depth(level), len(self.items))
        return int(np.searchsorted(self.places, embeddings_at(self.weighted, target, level)))

    def is_short(self, level: int) -> bool:
        """Whether more embeddings must be read to know the items of a level."""
        return self.counts_items and not self.exhausted and len(self.items) < _depth(level)

    def points(self, items: Int64Array, end: int) -> tuple[Int64Array, Float64Array]:
        """The places of `items` (m,) among the first `end`, or -1, and the points they get there,
        or 0.

        A ranking by words has no end.
        """
        places = self.find(items)
        if self.keywords is not None:
            points = points_by_strength(self.keywords.strengths, self.weighted.weight)
        else:
            places = np.where(places < end, places, -1)
            points = points_by_span(self.scores[:end], self.weighted.weight)
        # The last element is what -1 selects: no points.
        return places, np.append(points, 0.0)[places]


@dataclass(frozen=True, slots=True, eq=False)
class Fusion:
    """n items, best first, fused from c rankings.

    `scores` (n,) descend, and are the sums of the rankings' `contributions` (c, n), which include
    the `bonuses` (n,) of named items. `places` (c, n) are the items' places in each ranking,
    -1 where it does not rank them. `levels` (n,) are the levels that added the items; `ends`
    (levels, c) say how many items of each ranking a level holds. `contents` and `regions` (n,) are
    what an answer shows; the region of a content is the line of text that has the query's words,
    else that of the first ranking with one, or 0.
    """

    rankings: Sequence[Ranking]
    items: Int64Array
    scores: Float64Array
    levels: Int64Array
    places: Int64Array
    contributions: Float64Array
    bonuses: Float64Array
    ends: Int64Array
    contents: Int64Array
    regions: Int64Array


def points_by_span(scores: Float32Array, weight: float) -> Float64Array:
    """The points of descending scores (n,); the best gets the whole weight."""
    if not len(scores):
        return np.zeros(0)
    exact = scores.astype(np.float64)
    span = exact[0] - exact[-1]
    shares = (exact - exact[-1]) / span if span > 0 else np.ones(len(exact))
    return weight * (LAST_SHARE + (1 - LAST_SHARE) * shares)


def points_by_strength(strengths: Float32Array, weight: float) -> Float64Array:
    """The points of matches (n,) whose strength ranges from 0 to 1."""
    return weight * strengths.astype(np.float64)


def level_for(hits: int) -> int:
    """The level to begin with for a number of hits: mostly sufficient, never too deep."""
    level = 0
    while level < DEEPEST_LEVEL and _HITS_PER_PLACE * _depth(level) < hits:
        level += 1
    return level


def embeddings_at(weighted: WeightedChannel, target: Target, level: int) -> int:
    """How many embeddings of a channel are read for a level, and those of earlier levels; where
    a ranking `counts_items`, more may be needed.
    """
    is_grouped = weighted.channel.kind is Kind.REGION and target is Target.IMAGE
    return _depth(level) * (_REGIONS_PER_ITEM if is_grouped else 1)


def rank_by_vectors(
    weighted: WeightedChannel, neighbours: Neighbours, row: int, target: Target
) -> Ranking:
    """Rank items by a channel's answer to the query of a row; an item's best embedding counts."""
    scores, embeddings, contents, regions = (column[row] for column in neighbours)
    item_of = contents if target is Target.IMAGE else regions
    known = np.flatnonzero((embeddings >= 0) & (contents > 0) & (item_of > 0))
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
        contents=contents[places],
        regions=regions[places],
        by_item=by_item,
        exhausted=bool(embeddings.size == 0 or embeddings[-1] < 0),
        counts_items=weighted.channel.kind is Kind.IMAGE and target is Target.IMAGE,
    )


def rank_by_keywords(weighted: WeightedChannel, keywords: KeywordRanking, level: int) -> Ranking:
    """The whole ranking of the keyword index; deeper levels add more of its items.

    All named items, which come first, have the place 0: they belong to the first level.
    """
    places = np.where(keywords.naming > 0, 0, np.arange(len(keywords.items)))
    return Ranking(
        weighted=weighted,
        items=keywords.items,
        places=places,
        ranks=keywords.ranks,
        scores=keywords.scores,
        contents=keywords.contents,
        regions=keywords.regions,
        by_item=np.argsort(keywords.items),
        exhausted=not len(places) or bool(places[-1] < _depth(level)),
        keywords=keywords,
    )


def fuse(rankings: Sequence[Ranking], target: Target, level: int) -> Fusion:
    """Fuse rankings up to a level, in an order that does not depend on the level.

    Ties go to the item that comes first, by ranking and then by place.
    """
    count = len(rankings)
    items, scores = np.zeros(0, np.int64), np.zeros(0)
    levels: list[Int64Array] = []
    bonus = math.fsum(ranking.weighted.weight for ranking in rankings)
    bonuses = np.zeros(0)
    places: list[Int64Array] = []
    contributions: list[Float64Array] = []
    ends = [[ranking.end(target, reached) for ranking in rankings] for reached in range(level + 1)]
    for reached, of_level in enumerate(ends):
        heads = [ranking.items[:end] for ranking, end in zip(rankings, of_level, strict=True)]
        new, first = np.unique(np.concatenate([items[:0], *heads]), return_index=True)
        if reached:
            is_new = ~np.isin(new, items)
            new, first = new[is_new], first[is_new]
        new_places = np.full((count, len(new)), -1)
        points = np.zeros((count, len(new)))
        new_bonuses = np.zeros(len(new))
        for row, (ranking, end) in enumerate(zip(rankings, of_level, strict=True)):
            new_places[row], points[row] = ranking.points(new, end)
            if ranking.keywords is not None:
                new_bonuses = bonus * np.append(ranking.keywords.naming, 0)[new_places[row]]
                points[row] += new_bonuses
        new_scores = points.sum(axis=0)  # (c, m) → (m,), in the order of the rankings
        order = np.lexsort((first, -new_scores))
        new_scores, points = new_scores[order], points[:, order]
        bonuses = np.append(bonuses, new_bonuses[order])
        if len(scores) and len(new_scores):
            # The scores of a deeper level continue below the last one, in their own proportions.
            scaled = np.minimum(
                new_scores * (scores[-1] / max(new_scores[0], scores[-1])), scores[-1]
            )
            points *= np.divide(scaled, new_scores, out=np.zeros_like(scaled), where=new_scores > 0)
            new_scores = scaled
        items, scores = np.append(items, new[order]), np.append(scores, new_scores)
        levels.append(np.full(len(new), reached))
        places.append(new_places[:, order])
        contributions.append(points)
    all_places = np.concatenate(places, axis=1)
    contents, regions = _owners(rankings, items, all_places, target)
    return Fusion(
        rankings=rankings,
        items=items,
        scores=scores,
        levels=np.concatenate(levels),
        places=all_places,
        contributions=np.concatenate(contributions, axis=1),
        bonuses=bonuses,
        ends=np.asarray(ends, np.int64).reshape(level + 1, count),
        contents=contents,
        regions=regions,
    )


def _owners(
    rankings: Sequence[Ranking], items: Int64Array, places: Int64Array, target: Target
) -> tuple[Int64Array, Int64Array]:
    """Contents and regions (n,) of items; for the side that an item lacks, the line of text with the
    query's words, else the first one ranked."""
    others = np.zeros_like(items)
    for ranking, of_ranking in zip(rankings, places, strict=True):
        if ranking.keywords is not None and target is Target.IMAGE:
            others = np.append(ranking.keywords.lines, 0)[of_ranking]
    for ranking, of_ranking in zip(rankings, places, strict=True):
        values = ranking.regions if target is Target.IMAGE else ranking.contents
        others = np.where(others == 0, np.append(values, 0)[of_ranking], others)
    return (items, others) if target is Target.IMAGE else (others, items)


def _depth(level: int) -> int:
    return DEPTH * int(_GROWTH**level)
