"""From a query to vectors: one for each space that the query's channels lie in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from regard.core.catalog import SearchCatalog, StoredVectors
from regard.core.errors import CannotWork, UsageError
from regard.core.protocols import Profile
from regard.core.records import (
    Channel,
    Float32Array,
    Kind,
    QueryKind,
    Routes,
    Target,
    WeightedChannel,
)
from regard.search.answers import ImageQuery
from regard.search.identifiers import Reference

VectorsBySpace = Mapping[str, Float32Array]


def route(routes: Routes, kind: QueryKind, target: Target) -> tuple[WeightedChannel, ...]:
    """The channels a query meets; raises UsageError when there are none for it."""
    try:
        return routes[kind, target]
    except KeyError:
        raise UsageError(
            f"the models of this home answer no {kind} query with {target}s",
            remedy="choose another --target or profile",
        ) from None


def encode_texts(
    profile: Profile, texts: Sequence[str], channels: Iterable[WeightedChannel]
) -> VectorsBySpace:
    """Vectors (n, d) of texts in every space of the channels."""
    return {space: profile.encoder(space).encode_texts(texts) for space in _spaces(channels)}


def encode_image(
    profile: Profile, query: ImageQuery, channels: Iterable[WeightedChannel]
) -> VectorsBySpace:
    """Vectors (1, d) of a picture or a box of it.

    Raises UsageError when the box lies outside the picture.
    """
    if query.box is None:
        return {
            space: profile.encoder(space).encode_images([query.image])
            for space in _spaces(channels)
        }
    box = query.box.clipped(query.image.width, query.image.height)
    if box is None:
        raise UsageError(
            f"the box lies outside the picture of {query.image.width}×{query.image.height} pixels",
            remedy="give --box X,Y,W,H in pixels from the top left",
        )
    return {
        space: profile.encoder(space).encode_regions([query.image], [[box]], [[None]])[0]
        for space in _spaces(channels)
    }


def stored_vectors(
    catalog: SearchCatalog, reference: Reference, channels: Iterable[WeightedChannel]
) -> VectorsBySpace:
    """Vectors (1, d) that are stored for an asset or a region; raises NotFound."""
    if reference.is_region:
        stored, kind = catalog.region_vectors(reference.id), Kind.REGION
    else:
        stored, kind = catalog.asset_vectors(reference.id), Kind.IMAGE
    return {space: _row(stored, Channel(space, kind)) for space in _spaces(channels)}


def _row(stored: StoredVectors, channel: Channel) -> Float32Array:
    try:
        return stored.vectors[channel][None, :]
    except KeyError:
        raise CannotWork(
            f"nothing is stored for it in the channel {channel}",
            remedy="index the photograph again",
        ) from None


def _spaces(channels: Iterable[WeightedChannel]) -> list[str]:
    return list(dict.fromkeys(weighted.channel.space for weighted in channels))
