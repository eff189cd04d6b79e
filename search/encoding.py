"""From a query to vectors: one for each channel that it meets.

A query is one or several terms. In each channel that a term meets the query's vector is the normalised sum
of the terms' vectors times their weights, negative ones with a minus.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from regard.core.catalog import SearchCatalog, StoredVectors
from regard.core.errors import CannotWork, UnanswerableQuery
from regard.core.protocols import Profile
from regard.core.records import (
    KEYWORDS,
    Channel,
    Float32Array,
    Kind,
    QueryKind,
    Routes,
    Target,
    WeightedChannel,
)
from regard.search.answers import ImageQuery, LikeQuery, Term, TextQuery
from regard.search.identifiers import Reference
from regard.search.keywords import MOST_WORDS, WeightedWords, words_of

# What is left of terms that cancel out is rounding, below this share of their weights.
_CANCELLED = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class ChannelVectors:
    """A channel, its weight when channels are fused, and the vectors (n, d) of n queries in it.

    `parts` (t, d) are those of the terms of one query of several, as they stand.
    """

    weighted: WeightedChannel
    vectors: Float32Array
    parts: Float32Array | None = None


@dataclass(frozen=True, slots=True)
class Excluded:
    """What the query itself names, the trivial answer: assets, and contents or regions, by id.

    `photographs` are the contents of those assets, `cut_from` those of the regions.
    """

    assets: frozenset[int] = frozenset()
    items: frozenset[int] = frozenset()
    photographs: frozenset[int] = frozenset()
    cut_from: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class _Meeting:
    """Where a term meets a channel: its vector (d,) there, and the channel's weight by its route."""

    term: Term
    weighted: WeightedChannel
    vector: Float32Array


def encode_texts(
    profile: Profile, routes: Routes, texts: Sequence[str], target: Target
) -> list[ChannelVectors]:
    """The vectors (n, d) of n texts, each a query of its own; raises UnanswerableQuery."""
    routed = [
        weighted
        for weighted in _route(routes, QueryKind.TEXT, target)
        if weighted.channel.kind is not Kind.KEYWORD
    ]
    vectors = {space: profile.encoder(space).encode_texts(texts) for space in _spaces(routed)}
    return [ChannelVectors(weighted, vectors[weighted.channel.space]) for weighted in routed]


def encode_terms(
    profile: Profile,
    catalog: SearchCatalog,
    routes: Routes,
    terms: Sequence[Term],
    target: Target,
) -> tuple[list[ChannelVectors], Excluded]:
    """The vectors (1, d) of one query of several terms, and what it leaves out.

    A channel's weight is that of its route, the largest where positive terms' routes differ, times the
    share of positive weight that met there. Channels that only negative terms meet, and those in which
    the terms cancel out, are left out. Raises UnanswerableQuery when none is left, for what no channel
    is for and for a box outside its picture, NotFound for an id that is not there.
    """
    texts = list(dict.fromkeys(t.query.text for t in terms if isinstance(t.query, TextQuery)))
    of_texts = encode_texts(profile, routes, texts, target) if texts else []
    by_channel: dict[Channel, list[_Meeting]] = {}
    assets: set[int] = set()
    items: set[int] = set()
    photographs: set[int] = set()
    cut_from: set[int] = set()
    for term in terms:
        match term.query:
            case TextQuery(text):
                row = texts.index(text)
                met = [(channel.weighted, channel.vectors[row]) for channel in of_texts]
            case ImageQuery():
                met = _picture(profile, routes, term.query, target)
            case LikeQuery(reference):
                met, content = _stored(catalog, routes, reference, target)
                if not reference.is_region:
                    assets.add(reference.id)
                    photographs.add(content)
                else:
                    cut_from.add(content)
                    # The region itself; or the photograph it was found on.
                    items.add(reference.id if target is Target.REGION else content)
        for weighted, vector in met:
            by_channel.setdefault(weighted.channel, []).append(_Meeting(term, weighted, vector))
    total = math.fsum(term.weight for term in terms if not term.negative)
    meetings = (_meet(met, total) for met in by_channel.values())
    channels = [channel for channel in meetings if channel is not None]
    if not channels:
        raise UnanswerableQuery(
            "the terms of the query cancel each other out",
            remedy="give them other weights, or leave one out",
        )
    excluded = Excluded(
        frozenset(assets), frozenset(items), frozenset(photographs), frozenset(cut_from)
    )
    return channels, excluded


def words_of_terms(
    routes: Routes, terms: Sequence[Term], target: Target
) -> tuple[WeightedChannel, list[WeightedWords]] | None:
    """The words of the texts that are wanted, and the keyword index with its weight; None without.

    What is not wanted asks for no words: that a text lacks one says little. The weight is that of the
    route times the share of positive weight that is texts'.
    """
    texts = [term for term in terms if isinstance(term.query, TextQuery) and not term.negative]
    routed = routes.get((QueryKind.TEXT, target), ()) if texts else ()
    weight = next((item.weight for item in routed if item.channel.kind is Kind.KEYWORD), 0.0)
    if not weight:
        return None
    largest = max(term.weight for term in texts)
    words = [
        item
        for term in texts
        if isinstance(term.query, TextQuery)
        for item in words_of(
            term.query.text, phrase=term.query.phrase, weight=term.weight / largest
        )
    ]
    total = math.fsum(term.weight for term in terms if not term.negative)
    share = math.fsum(term.weight for term in texts) / total
    return WeightedChannel(KEYWORDS, weight * share), words[:MOST_WORDS]


def _meet(meetings: Sequence[_Meeting], total: float) -> ChannelVectors | None:
    """The terms' sum in one channel; None without a positive term, or when they cancel out."""
    positive = [met for met in meetings if not met.term.negative]
    if not positive:
        return None
    share = math.fsum(met.term.weight for met in positive) / total
    weighted = WeightedChannel(
        positive[0].weighted.channel, max(met.weighted.weight for met in positive) * share
    )
    if len(meetings) == 1:
        # To the last bit what the term alone would be.
        return ChannelVectors(weighted, meetings[0].vector[None, :])
    vectors = np.stack([met.vector for met in meetings]).astype(np.float64)  # (t, d)
    weights = np.asarray([-m.term.weight if m.term.negative else m.term.weight for m in meetings])
    # Weights may be so large or small that they, not their ratios, overflow.
    mixed = (weights / np.abs(weights).max()) @ vectors  # (t,) @ (t, d)
    norm = float(np.linalg.norm(mixed))
    if norm <= _CANCELLED * float(np.abs(weights).sum() / np.abs(weights).max()):
        return None
    parts = vectors.astype(np.float32)
    return ChannelVectors(weighted, (mixed / norm).astype(np.float32)[None, :], parts)


def _picture(
    profile: Profile, routes: Routes, query: ImageQuery, target: Target
) -> list[tuple[WeightedChannel, Float32Array]]:
    kind = QueryKind.IMAGE if query.box is None else QueryKind.REGION
    routed = _route(routes, kind, target)
    spaces = _spaces(routed)
    if query.box is None:
        rows = {space: profile.encoder(space).encode_images([query.image])[0] for space in spaces}
    else:
        box = query.box.clipped(query.image.width, query.image.height)
        assert box is not None  # or there would be no such query
        rows = {
            space: profile.encoder(space).encode_regions([query.image], [[box]], [[None]])[0][0]
            for space in spaces
        }
    return [(weighted, rows[weighted.channel.space]) for weighted in routed]


def _stored(
    catalog: SearchCatalog, routes: Routes, reference: Reference, target: Target
) -> tuple[list[tuple[WeightedChannel, Float32Array]], int]:
    """What is stored for an asset or a region, and the content that it is of."""
    if reference.is_region:
        routed = _route(routes, QueryKind.REGION, target)
        stored, kind = catalog.region_vectors(reference.id), Kind.REGION
    else:
        routed = _route(routes, QueryKind.IMAGE, target)
        stored, kind = catalog.asset_vectors(reference.id), Kind.IMAGE
    rows = {space: _row(stored, Channel(space, kind)) for space in _spaces(routed)}
    return [(weighted, rows[weighted.channel.space]) for weighted in routed], stored.content


def _row(stored: StoredVectors, channel: Channel) -> Float32Array:
    try:
        return stored.vectors[channel]
    except KeyError:
        raise CannotWork(
            f"nothing is stored for it in the channel {channel}",
            remedy="index the photograph again",
        ) from None


def _route(routes: Routes, kind: QueryKind, target: Target) -> tuple[WeightedChannel, ...]:
    try:
        return routes[kind, target]
    except KeyError:
        raise UnanswerableQuery(
            f"the models of this home answer no {kind} query with {target}s",
            remedy="choose another --target or profile",
        ) from None


def _spaces(channels: Iterable[WeightedChannel]) -> list[str]:
    return list(dict.fromkeys(weighted.channel.space for weighted in channels))
