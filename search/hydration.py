"""From items to hits: which embeddings made an item match, and what of it an answer shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from regard.core.assets import Asset
from regard.core.catalog import HitRecords
from regard.core.records import Int64Array, Target
from regard.search.answers import ChannelMatch, Hit
from regard.search.encoding import Excluded
from regard.search.fusion import Float64Array
from regard.search.keywords import word_matches
from regard.search.ranking import Order, Ranking
from regard.search.relevance import Judge


class Portion:
    """Some items of an order, with what is to be read of the catalog to show them.

    `contents` and `regions` (m,) are those of the items; a content's region is that of the first channel
    that has one, 0 for none.
    """

    def __init__(
        self,
        order: Order,
        chosen: Int64Array,
        rankings: Sequence[Ranking],
        target: Target,
        judge: Judge | None = None,
    ) -> None:
        """`chosen` (m,) are places in the order; `judge` tells relevance, if anyone does."""
        items, levels = order.items[chosen], order.levels[chosen]
        self._target = target
        self._scores: list[float] = order.scores[chosen].tolist()
        self._rankings = rankings
        self._places: list[list[int]] = []
        self._points: list[list[float]] = []
        ranked_at: list[Int64Array] = []
        self.contents = items if target is Target.IMAGE else np.zeros_like(items)
        self.regions = items if target is Target.REGION else np.zeros_like(items)
        lasts: list[Float64Array] = []
        last_level = int(levels.max(initial=0))
        for ranking in rankings:
            ends = [ranking.end(target, level) for level in range(last_level + 1)]
            places = _places(ranking, items, levels, ends)
            self._places.append(places.tolist())
            ranked_at.append(places)
            self._points.append(_points(ranking, places, levels, ends).tolist())
            lasts.append(_lasts(ranking, levels, ends))
            there = places >= 0
            if target is Target.REGION:
                of_item = np.where(there, ranking.contents[places], 0) if there.any() else 0
                self.contents = np.where(self.contents == 0, of_item, self.contents)
            elif there.any():
                of_item = np.where(there, ranking.regions[places], 0)
                self.regions = np.where(self.regions == 0, of_item, self.regions)
        self._evidence: Sequence[Mapping[str, float]] = ()
        self.relevances: Sequence[float | None] = [None] * len(items)
        if judge is not None:
            self._evidence, self.relevances = judge.of_hits(
                ranked_at, lasts, order.scores[chosen], chosen + 1
            )

    def shown(self, records: HitRecords, excluded: Excluded) -> Iterator[tuple[int, Asset]]:
        """The hits' places in the portion and their assets, best first."""
        regions = self.regions.tolist()
        for place, content in enumerate(self.contents.tolist()):
            if self._target is Target.REGION and regions[place] not in records.regions:
                continue
            for asset in records.assets.get(content, ()):
                if asset.id not in excluded.assets:
                    yield place, asset

    def hit(self, place: int, rank: int, asset: Asset, records: HitRecords) -> Hit:
        """The item at a place in the portion as an answer shows it."""
        found = [
            (ranking, places[place], points[place])
            for ranking, places, points in zip(
                self._rankings, self._places, self._points, strict=True
            )
            if places[place] >= 0
        ]
        score = self._scores[place]
        # What deeper levels add has lower scores than its points' sum.
        total = math.fsum(points for _, _, points in found)
        scale = score / total if total else 0.0
        return Hit(
            rank=rank,
            score=score,
            asset=asset,
            region=records.regions.get(int(self.regions[place])),
            channels=tuple(
                ChannelMatch(
                    ranking.weighted.channel,
                    int(ranking.ranks[at]),
                    float(ranking.scores[at]),
                    scale * points,
                    () if ranking.keywords is None else word_matches(ranking.keywords, at),
                )
                for ranking, at, points in found
            ),
            relevance=self.relevances[place],
            evidence=self._evidence[place] if self._evidence else None,
        )


def _places(
    ranking: Ranking, items: Int64Array, levels: Int64Array, ends: Sequence[int]
) -> Int64Array:
    """Where a channel ranked each item, from 0; -1 where it did not up to the end of the item's level."""
    places = ranking.find(items)
    if ranking.keywords is None:
        places = np.where(places < np.asarray(ends)[levels], places, -1)
    return places


def _points(
    ranking: Ranking, places: Int64Array, levels: Int64Array, ends: Sequence[int]
) -> Float64Array:
    """What a channel gave the items that it ranked at these places, at their levels; 0 elsewhere."""
    points = np.zeros(len(places))
    for level, end in enumerate(ends):
        chosen = (levels == level) & (places >= 0)
        points[chosen] = ranking.points(end)[places[chosen]]
    return points


def _lasts(ranking: Ranking, levels: Int64Array, ends: Sequence[int]) -> Float64Array:
    """The last score that a channel has up to each of the levels; 0 where it has none."""
    if ranking.keywords is not None:
        return np.zeros(len(levels))
    lasts = [float(ranking.scores[end - 1]) if end else 0.0 for end in ends]
    return np.asarray(lasts)[levels]
