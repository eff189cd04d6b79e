"""Answers queries: encode, search the channels, fuse, hydrate.

The engine holds no state of its own between calls; every parameter travels with the call.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regard.core.catalog import ChannelSearch, Owner, SearchCatalog
from regard.core.protocols import Profile
from regard.core.records import Kind, QueryKind, Routes, Target, WeightedChannel
from regard.search.answers import (
    Answer,
    ChannelMatch,
    Hit,
    ImageQuery,
    Query,
    Scope,
    TextQuery,
)
from regard.search.encoding import VectorsBySpace, encode_image, encode_texts, route, stored_vectors
from regard.search.fusion import fuse
from regard.search.identifiers import Reference

# How deep each channel is read: deep enough for ranks to be fused, however few hits are wanted.
_MINIMUM_DEPTH = 200
_DEPTH_PER_HIT = 2
# Several regions of a content count once for an image: this many are read for each item wanted.
_REGIONS_PER_ITEM = 4
# Deeper than any collection; an answer then holds whatever exists.
_MAXIMUM_DEPTH = 1 << 24
_TEXT_BATCH = 32


@dataclass(frozen=True, slots=True)
class _Match:
    """An item's place in one channel: its best embedding there."""

    rank: int
    score: float
    region: int | None


@dataclass(frozen=True, slots=True)
class _Ranking:
    """One channel's answer to one query: items (contents or regions), best first."""

    weighted: WeightedChannel
    matches: dict[int, _Match]
    exhausted: bool


class SearchEngine:
    """Searches one home with its live profile."""

    def __init__(
        self,
        profile: Profile,
        catalog: SearchCatalog,
        channels: ChannelSearch,
        routes: Routes | None = None,
    ) -> None:
        """`routes` stand in for the profile's own, to measure what a channel is worth."""
        self._profile = profile
        self._routes = profile.routes if routes is None else routes
        self._catalog = catalog
        self._channels = channels

    def search(self, query: Query, scope: Scope) -> Answer:
        """Answer one query.

        Raises UsageError for what the arguments make impossible, NotFound for an id or a collection
        that is not there.
        """
        if isinstance(query, TextQuery):
            return self.search_texts([query], scope)[0]
        started = time.perf_counter()
        if isinstance(query, ImageQuery):
            kind = QueryKind.IMAGE if query.box is None else QueryKind.REGION
            routed = route(self._routes, kind, scope.target)
            vectors = encode_image(self._profile, query, routed)
            excluded = None
        else:
            kind = QueryKind.REGION if query.reference.is_region else QueryKind.IMAGE
            routed = route(self._routes, kind, scope.target)
            vectors = stored_vectors(self._catalog, query.reference, routed)
            excluded = query.reference
        hits = self._hits(vectors, routed, scope, excluded)[0]
        return _answer(query, scope, started, 1, hits)

    def search_texts(self, queries: Sequence[TextQuery], scope: Scope) -> list[Answer]:
        """Answer several texts with one batch through the encoder; order in is order out."""
        routed = route(self._routes, QueryKind.TEXT, scope.target)
        answers = []
        for start in range(0, len(queries), _TEXT_BATCH):
            batch = queries[start : start + _TEXT_BATCH]
            started = time.perf_counter()
            vectors = encode_texts(self._profile, [query.text for query in batch], routed)
            for query, hits in zip(batch, self._hits(vectors, routed, scope, None), strict=True):
                answers.append(_answer(query, scope, started, len(batch), hits))
        return answers

    def _hits(
        self,
        vectors: VectorsBySpace,
        routed: Sequence[WeightedChannel],
        scope: Scope,
        excluded: Reference | None,
    ) -> list[list[Hit]]:
        """The hits of each row of the vectors; reads deeper until there are as many as wanted.

        Only rows that came short are read again: what a query gets does not depend on its neighbours.
        """
        depth = max(_MINIMUM_DEPTH, _DEPTH_PER_HIT * scope.limit)
        rows = list(range(len(next(iter(vectors.values())))))
        answers: list[list[Hit]] = [[] for _ in rows]
        while rows:
            chosen = {space: of_space[rows] for space, of_space in vectors.items()}
            short = []
            for row, rankings in zip(rows, self._rank(chosen, routed, scope, depth), strict=True):
                answers[row] = self._hydrate(rankings, scope, excluded)
                is_exhausted = all(ranking.exhausted for ranking in rankings)
                if len(answers[row]) < scope.limit and not is_exhausted:
                    short.append(row)
            rows = short if depth < _MAXIMUM_DEPTH else []
            depth *= 4
        return answers

    def _rank(
        self,
        vectors: VectorsBySpace,
        routed: Sequence[WeightedChannel],
        scope: Scope,
        depth: int,
    ) -> list[list[_Ranking]]:
        """For each query row, the ranking of every channel."""
        found = []
        for weighted in routed:
            grouped = weighted.channel.kind is Kind.REGION and scope.target is Target.IMAGE
            scores, ids = self._channels.search(
                weighted.channel,
                vectors[weighted.channel.space],
                depth * _REGIONS_PER_ITEM if grouped else depth,
                scope.collection,
            )
            found.append((weighted, scores, ids))
        everything = np.concatenate([ids.ravel() for _, _, ids in found])
        owners = self._catalog.owners(everything[everything >= 0])
        count = len(next(iter(vectors.values())))
        return [
            [
                _collapse(weighted, scores[row], ids[row], owners, scope.target)
                for weighted, scores, ids in found
            ]
            for row in range(count)
        ]

    def _hydrate(
        self, rankings: Sequence[_Ranking], scope: Scope, excluded: Reference | None
    ) -> list[Hit]:
        fused = fuse(
            [list(ranking.matches) for ranking in rankings],
            [ranking.weighted.weight for ranking in rankings],
        )
        if excluded is not None and excluded.is_region:
            # The region itself; or the photograph it was found on, the trivial answer.
            own = {excluded.id}
            if scope.target is Target.IMAGE:
                own = {region.content for region in self._catalog.regions(own).values()}
            fused = [entry for entry in fused if entry[0] not in own]
        hits: list[Hit] = []
        left = iter(fused)
        portion = min(scope.limit, len(fused)) + 1
        while len(hits) < scope.limit and (items := list(itertools.islice(left, portion))):
            # Nearly always once: an item gives at least one hit, save what is left out or deleted.
            hits += self._hits_of(items, rankings, scope, excluded)
            portion *= 4
        return [dataclasses.replace(hit, rank=rank) for rank, hit in enumerate(hits, start=1)][
            : scope.limit
        ]

    def _hits_of(
        self,
        items: Sequence[tuple[int, float]],
        rankings: Sequence[_Ranking],
        scope: Scope,
        excluded: Reference | None,
    ) -> list[Hit]:
        """The hits of a run of items (item, score), in their order, ranks not yet counted."""
        region_of = {item: _region(item, rankings, scope.target) for item, _ in items}
        regions = self._catalog.regions({r for r in region_of.values() if r is not None})
        contents = {
            item: regions[item].content if scope.target is Target.REGION else item
            for item, _ in items
            if scope.target is Target.IMAGE or item in regions
        }
        assets = self._catalog.assets(set(contents.values()), scope.collection)
        left_out = excluded.id if excluded is not None and not excluded.is_region else None
        return [
            Hit(
                rank=0,
                score=score,
                asset=asset,
                region=regions.get(region_of[item] or 0),
                channels=_matches(item, rankings),
            )
            for item, score in items
            for asset in assets.get(contents.get(item, -1), ())
            if asset.id != left_out
        ]


def _collapse(
    weighted: WeightedChannel,
    scores: np.ndarray[tuple[int], np.dtype[np.float32]],
    ids: np.ndarray[tuple[int], np.dtype[np.int64]],
    owners: dict[int, Owner],
    target: Target,
) -> _Ranking:
    """From embeddings to items: the best embedding of a content stands for it."""
    matches: dict[int, _Match] = {}
    for score, embedding in zip(scores.tolist(), ids.tolist(), strict=True):
        owner = owners.get(embedding)
        if owner is None:
            continue
        item = owner.content if target is Target.IMAGE else owner.region
        if item is None or item in matches:
            continue
        matches[item] = _Match(len(matches) + 1, score, owner.region)
    return _Ranking(weighted, matches, exhausted=bool(ids.size == 0 or ids[-1] < 0))


def _region(item: int, rankings: Sequence[_Ranking], target: Target) -> int | None:
    """The region to show for an item: itself, or a content's best one."""
    if target is Target.REGION:
        return item
    for ranking in rankings:
        match = ranking.matches.get(item)
        if match is not None and match.region is not None:
            return match.region
    return None


def _matches(item: int, rankings: Sequence[_Ranking]) -> tuple[ChannelMatch, ...]:
    return tuple(
        ChannelMatch(ranking.weighted.channel, match.rank, match.score)
        for ranking in rankings
        if (match := ranking.matches.get(item)) is not None
    )


def _answer(query: Query, scope: Scope, started: float, count: int, hits: list[Hit]) -> Answer:
    elapsed = (time.perf_counter() - started) * 1000 / count
    return Answer(query=query, target=scope.target, took_ms=elapsed, hits=tuple(hits))
