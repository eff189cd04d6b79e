"""Results made of what search and the catalog give: answers, hits, groups of duplicates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from regard.api.library.results import (
    Answer,
    Asset,
    Details,
    DuplicateGroup,
    DuplicateMember,
    Hit,
    RefinedRegion,
    Region,
    Stack,
)
from regard.core import assets, duplicates, records
from regard.photos.countries import country_name
from regard.search import answers
from regard.search.answers import asset_identifier, region_identifier

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from regard.core.geometry import Mask

LoadMask = Callable[[int], "Mask"]
"""Loads the mask of a region by its number."""


def answer_of(
    found: answers.Answer, described: Mapping[str, Any], load_mask: LoadMask | None = None
) -> Answer:
    """An answer of the search engine; `described` is what else is known of the query's text."""
    query = {**answers.query_json(found.query), "target": found.target.value, **described}
    hits = tuple(
        Hit(
            hit.rank,
            hit.score,
            hit.relevance,
            _asset(hit.asset, hit.region),
            None if hit.region is None else region_of(hit.region, load_mask),
            hit.channels,
            None if hit.refined is None else _refined(hit.refined),
        )
        for hit in found.hits
    )
    source = None if found.relevance_source is None else found.relevance_source.value
    return Answer(query, found.took_ms, found.matched, hits, found.unknown_words, source)


def details_of(detail: assets.AssetDetail) -> Details:
    """A photograph of the catalog with its facts."""
    asset = detail.asset
    return Details(
        _asset(asset),
        asset.state.value,
        asset.title,
        asset.tags,
        asset.camera,
        asset.taken_at,
        asset.taken_precision,
        facts_json(detail),
        tuple(name for _, name in detail.albums),
    )


def facts_json(detail: assets.AssetDetail) -> dict[str, Any]:
    """The documented facts of a photograph."""
    facts, capture, place = detail.facts, detail.facts.capture, detail.place
    return {
        "camera_make": facts.camera_make,
        "camera_model": facts.camera_model,
        "lens": facts.lens,
        "latitude": facts.latitude,
        "longitude": facts.longitude,
        "country": None if place is None else country_name(place.country),
        "city": None if place is None else place.city,
        "altitude_m": capture.altitude_m,
        "exposure_seconds": capture.exposure_seconds,
        "f_number": capture.f_number,
        "iso": capture.iso,
        "focal_length_mm": capture.focal_length_mm,
        "motion_video_offset": capture.motion_video_offset,
        "rating": facts.rating,
        "description": facts.description,
        "keywords": list(facts.keywords),
        "utc_offset_minutes": facts.utc_offset_minutes,
    }


def region_of(region: assets.StoredRegion, load_mask: LoadMask | None = None) -> Region:
    """A region of the catalog."""
    box = region.box
    return Region(
        region_identifier(region.id),
        (box.x, box.y, box.width, box.height),
        region.area,
        region.caption,
        region.text,
        region.score,
        None if load_mask is None else partial(load_mask, region.id),
        region.time_ms,
    )


def group_of(group: duplicates.DuplicateGroup) -> DuplicateGroup:
    """A group of duplicates."""
    return DuplicateGroup(
        group.kind.value,
        asset_identifier(group.members[group.keeper].asset.id),
        tuple(group.reasons),
        tuple(
            DuplicateMember(
                _asset(member.asset),
                member.similarity,
                None if member.region is None else region_identifier(member.region),
            )
            for member in group.members
        ),
    )


def load_picture(path: bytes, time_ms: int | None, longest: int) -> Picture:
    """A photograph at a path, its longer side at most `longest` pixels; raises DecodeError.

    Of a video, the frame at `time_ms`.
    """
    from PIL import Image

    from regard.photos.decoding import DEFAULT_LIMITS
    from regard.photos.files import open_regular
    from regard.photos.media import decode_picture

    with open_regular(path, max_bytes=DEFAULT_LIMITS.max_bytes) as file:
        picture = Image.fromarray(decode_picture(file, time_ms=time_ms).pixels)
    picture.thumbnail((longest, longest))
    return picture


def _refined(region: records.Region) -> RefinedRegion:
    box = region.box
    bbox = (box.x, box.y, box.width, box.height)
    return RefinedRegion(bbox, region.area, region.score, region.mask)


def _asset(asset: assets.Asset, region: assets.StoredRegion | None = None) -> Asset:
    """An asset, whose picture is that of the moment that matched, if one did."""
    moment = None if region is None else region.time_ms
    time_ms = asset.poster_ms if moment is None else moment
    return Asset(
        asset_identifier(asset.id),
        asset.uri,
        asset.width or 0,
        asset.height or 0,
        asset.caption,
        path=asset.path,
        format=asset.format,
        size=asset.size,
        collection=asset.collection,
        load_picture=partial(load_picture, asset.path, time_ms),
        duration_ms=asset.duration_ms,
        stack=None
        if asset.stack_id is None or asset.stack_count is None
        else Stack(asset_identifier(asset.stack_id), asset.stack_count),
    )
