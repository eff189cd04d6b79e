"""Queries and their answers, and the JSON form that others script against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from regard.core.catalog import AssetView, RegionView
from regard.core.errors import UsageError
from regard.core.geometry import Box
from regard.core.records import Channel, Image, Target
from regard.search.identifiers import Reference, asset_identifier, region_identifier


@dataclass(frozen=True, slots=True)
class Scope:
    """What is searched for and where: parameters that travel with each call."""

    target: Target = Target.IMAGE
    limit: int = 10
    collection: str | None = None

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise UsageError("the limit is less than 1", remedy="give --limit a number from 1 up")


@dataclass(frozen=True, slots=True)
class TextQuery:
    """A sentence or a few words."""

    text: str

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise UsageError("the query is empty", remedy='run: regard search "a red bus"')


@dataclass(frozen=True, slots=True)
class ImageQuery:
    """A picture, or the part of it inside `box`; `name` is how the answer calls it."""

    image: Image
    name: str
    box: Box | None = None


@dataclass(frozen=True, slots=True)
class LikeQuery:
    """A stored asset or region: find what looks like it."""

    reference: Reference


Query = TextQuery | ImageQuery | LikeQuery


@dataclass(frozen=True, slots=True)
class ChannelMatch:
    """Where a channel ranked the hit, and its score there."""

    channel: Channel
    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer: an asset, perhaps a region of it, and why it matched."""

    rank: int
    score: float
    asset: AssetView
    region: RegionView | None
    channels: tuple[ChannelMatch, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The hits of one query, best first; `took_ms` in milliseconds."""

    query: Query
    target: Target
    took_ms: float
    hits: tuple[Hit, ...]

    @property
    def matched(self) -> bool:
        """Whether there is any hit."""
        return bool(self.hits)

    def to_json(self) -> dict[str, Any]:
        """The documented JSON form."""
        return {
            "query": {**_query_json(self.query), "target": self.target.value},
            "took_ms": round(self.took_ms, 1),
            "matched": self.matched,
            "hits": [_hit_json(hit) for hit in self.hits],
        }


def _query_json(query: Query) -> dict[str, Any]:
    match query:
        case TextQuery(text):
            return {"text": text}
        case ImageQuery(_, name, None):
            return {"image": name}
        case ImageQuery(_, name, box) if box is not None:
            return {"image": name, "box": box.to_list()}
        case LikeQuery(reference):
            if reference.is_region:
                return {"like": region_identifier(reference.id)}
            return {"like": asset_identifier(reference.id)}
    raise TypeError(type(query))


def _hit_json(hit: Hit) -> Mapping[str, Any]:
    region = hit.region
    return {
        "rank": hit.rank,
        "score": round(hit.score, 6),
        "relevance": None,
        "asset": {
            "id": asset_identifier(hit.asset.id),
            "uri": hit.asset.uri,
            "width": hit.asset.width,
            "height": hit.asset.height,
            "caption": hit.asset.caption,
        },
        "region": None
        if region is None
        else {
            "id": region_identifier(region.id),
            "bbox": region.box.to_list(),
            "area": region.area,
            "caption": region.caption,
        },
        "channels": [
            {
                "space": match.channel.space,
                "kind": match.channel.kind.value,
                "rank": match.rank,
                "score": round(match.score, 6),
            }
            for match in hit.channels
        ],
    }
