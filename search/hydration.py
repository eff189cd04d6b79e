"""Turns fused items into hits with the catalog's records: mostly one read for a page."""

from __future__ import annotations

import numpy as np

from regard.core.assets import Asset, StoredRegion
from regard.core.catalog import SearchCatalog
from regard.core.records import Target
from regard.search.answers import ChannelMatch, Hit, Scope
from regard.search.encoding import Excluded
from regard.search.fusion import Fusion
from regard.search.keywords import word_matches
from regard.search.relevance import Judge


def hydrate(
    catalog: SearchCatalog, fusion: Fusion, judge: Judge, scope: Scope, excluded: Excluded
) -> tuple[list[Hit], int]:
    """The hits of the scope's page, and how many hits there are up to its end.

    A content has a hit for each asset that passes the filter; deleted records have none.
    """
    kept = np.arange(len(fusion.items))
    if excluded.items:
        kept = np.flatnonzero(~np.isin(fusion.items, list(excluded.items)))
    hits: list[Hit] = []
    end = scope.offset + scope.limit
    count = start = 0
    # Only excluded and deleted items give no hit, so that one portion is mostly enough.
    portion = min(end, len(kept)) + 1
    while count < end and start < len(kept):
        chosen = kept[start : start + portion]
        contents = fusion.contents[chosen].tolist()
        regions = fusion.regions[chosen].tolist()
        records = catalog.hit_records(set(contents), set(regions) - {0}, scope.filter)
        evidence, relevances = judge.judge_hits(chosen)
        for place, (content, number) in enumerate(zip(contents, regions, strict=True)):
            region = records.regions.get(number)
            if scope.target is Target.REGION and region is None:
                continue
            for asset in records.assets.get(content, ()):
                if asset.id in excluded.assets:
                    continue
                count += 1
                if scope.offset < count <= end:
                    judged = relevances[place], evidence[place]
                    hits.append(_hit(fusion, int(chosen[place]), count, asset, region, judged))
        start += portion
        portion *= 4
    return hits, min(count, end)


def _hit(
    fusion: Fusion,
    item: int,
    rank: int,
    asset: Asset,
    region: StoredRegion | None,
    judged: tuple[float | None, dict[str, float]],
) -> Hit:
    """A hit for the item at a place of the fusion."""
    relevance, evidence = judged
    places, contributions = fusion.places[:, item].tolist(), fusion.contributions[:, item].tolist()
    channels = tuple(
        ChannelMatch(
            ranking.weighted.channel.kind.value,
            int(ranking.ranks[place]),
            float(ranking.scores[place]),
            contribution,
            ranking.weighted.channel.space or None,
            () if ranking.keywords is None else word_matches(ranking.keywords, place),
        )
        for ranking, place, contribution in zip(fusion.rankings, places, contributions, strict=True)
        if place >= 0
    )
    score = float(fusion.scores[item])
    return Hit(rank, score, asset, region, channels, relevance, evidence)
