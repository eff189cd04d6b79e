"""Turns fused items into hits with the catalog's records: mostly one read for a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from regard.core.assets import Asset, StoredRegion
from regard.core.catalog import SearchCatalog
from regard.core.records import Float64Array, Int64Array, Kind, Target
from regard.search.answers import ChannelMatch, Hit, Scope
from regard.search.encoding import Excluded
from regard.search.fusion import Fusion
from regard.search.keywords import KeywordRanking, word_matches
from regard.search.relevance import Judge


class Folding:
    """Which hits of an answer are shown, asked for in their order.

    Of an asset that is shown, all hits are: regions of one photograph are hits of their own. Of the
    moments of a video only the best one is.
    """

    def __init__(self, scope: Scope, queried: Iterable[Asset] = ()) -> None:
        """The stacks of assets that the query itself names are not shown at all."""
        self._is_on = scope.folds()
        self._shown = {asset.stack_id: asset.id for asset in queried}
        self._moments: dict[int, int] = {}

    def shows(self, asset: Asset, region: StoredRegion | None) -> bool:
        """Whether no other asset of its stack, nor moment of the video, was shown before."""
        if not self._is_on:
            return True
        stack = asset.stack_id
        if stack is not None and self._shown.setdefault(stack, asset.id) != asset.id:
            return False
        if region is None or region.time_ms is None:
            return True
        return self._moments.setdefault(asset.id, region.id) == region.id


def hydrate(
    catalog: SearchCatalog, fusion: Fusion, judge: Judge, scope: Scope, excluded: Excluded
) -> tuple[list[Hit], int]:
    """The hits of the scope's page, and how many hits there are up to its end.

    A content has a hit for each asset that passes the filter; deleted records have none. If the
    scope folds stacks, a stack has those of its best asset, and none if the query names it; a video
    has that of its best moment.
    """
    folding = Folding(scope, _queried_assets(catalog, scope, excluded))
    kept = np.arange(len(fusion.items))
    if excluded.items:
        kept = np.flatnonzero(~np.isin(fusion.items, list(excluded.items)))
    shown: list[_Shown] = []
    end = scope.offset + scope.limit
    count = start = 0
    # Only excluded and deleted items give no hit, so that one portion is mostly enough.
    portion = min(end, len(kept)) + 1
    while count < end and start < len(kept):
        chosen = kept[start : start + portion]
        contents = fusion.contents[chosen].tolist()
        regions = fusion.regions[chosen].tolist()
        records = catalog.hit_records(set(contents), set(regions) - {0}, scope.filter)
        for item, content, number in zip(chosen.tolist(), contents, regions, strict=True):
            region = records.regions.get(number)
            if scope.target is Target.REGION and region is None:
                continue
            for asset in records.assets.get(content, ()):
                if asset.id in excluded.assets or not folding.shows(asset, region):
                    continue
                count += 1
                if scope.offset < count <= end:
                    shown.append((item, count, asset, region))
        start += portion
        portion *= 4
    return _hits(fusion, judge, shown), min(count, end)


def _queried_assets(catalog: SearchCatalog, scope: Scope, excluded: Excluded) -> list[Asset]:
    """The assets that the query names; where whole ones are searched for, those of its regions
    too."""
    of_regions: frozenset[int] = frozenset()
    if scope.target is Target.IMAGE:
        of_regions = excluded.region_contents
    contents = excluded.asset_contents | of_regions
    if not contents:
        return []
    records = catalog.hit_records(contents, (), scope.filter)
    return [
        asset
        for content, assets in records.assets.items()
        for asset in assets
        if asset.id in excluded.assets or content in of_regions
    ]


# A hit's place in the fusion, rank, asset and region.
_Shown = tuple[int, int, Asset, StoredRegion | None]


def _hits(fusion: Fusion, judge: Judge, shown: Sequence[_Shown]) -> list[Hit]:
    items = np.asarray([item for item, *_ in shown], np.int64)
    scores, channels = fusion.scores[items].tolist(), _channel_matches(fusion, items)
    evidence, relevances = judge.judge_hits(items)
    return [
        Hit(rank, scores[at], asset, region, channels[at], relevances[at], evidence[at])
        for at, (_, rank, asset, region) in enumerate(shown)
    ]


def _channel_matches(fusion: Fusion, items: Int64Array) -> list[tuple[ChannelMatch, ...]]:
    """The channels that found the items at places (m,) of the fusion."""
    found: list[list[ChannelMatch]] = [[] for _ in items]
    for row, ranking in enumerate(fusion.rankings):
        channel = ranking.weighted.channel
        places = fusion.places[row, items]
        ranked = np.flatnonzero(places >= 0)
        places = places[ranked]
        contributions = fusion.contributions[row, items[ranked]]
        if ranking.keywords is not None:
            bonuses = fusion.bonuses[items[ranked]]
            matches = _keyword_matches(ranking.keywords, places, contributions, bonuses)
            for hit, of_hit in zip(ranked.tolist(), matches, strict=True):
                found[hit] += of_hit
            continue
        columns = (
            ranked.tolist(),
            ranking.ranks[places].tolist(),
            ranking.scores[places].tolist(),
            contributions.tolist(),
        )
        for hit, rank, score, contribution in zip(*columns, strict=True):
            found[hit].append(
                ChannelMatch(channel.kind.value, rank, score, contribution, channel.space)
            )
    return list(map(tuple, found))


def _keyword_matches(
    keywords: KeywordRanking,
    places: Int64Array,
    contributions: Float64Array,
    bonuses: Float64Array,
) -> list[list[ChannelMatch]]:
    """The matches of the items at places (m,) of the keyword index, which add up to their
    `contributions` (m,): by what they are called or captioned, and by text in the picture."""
    other_words = word_matches(keywords, places, is_read=False)
    read_words = word_matches(keywords, places, is_read=True)
    read = (contributions - bonuses) * keywords.read_shares[places]
    matches: list[list[ChannelMatch]] = [[] for _ in places]
    for kind, words, scores, parts in (
        (Kind.KEYWORD, other_words, keywords.scores - keywords.read_scores, contributions - read),
        (Kind.TEXT, read_words, keywords.read_scores, read),
    ):
        ranks = np.searchsorted(np.sort(-scores), -scores[places]) + 1
        columns = words, ranks.tolist(), scores[places].tolist(), parts.tolist()
        for of_item, of_words, rank, score, part in zip(matches, *columns, strict=True):
            if of_words:
                of_item.append(ChannelMatch(kind.value, rank, score, part, words=of_words))
    return matches
