"""An `AssetFilter` as SQL: one condition over the tables `asset` and `content`.

Whoever uses it joins `content` to `asset` by content_id; assets in the trash never pass.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

from sqlalchemy import ColumnElement, and_, case, exists, false, func, or_, select

from regard.core.filters import AssetFilter, CustomValue, GpsBox, GpsCircle, Orientation
from regard.storage import schema

_EARTH_RADIUS_KM = 6371.0088
_asset, _content, _tag = schema.asset.c, schema.content.c, schema.asset_tag.c


def passes(chosen: AssetFilter) -> ColumnElement[bool]:
    """The condition that all of the filter's parts hold."""
    return and_(_asset.deleted_at.is_(None), *_conditions(chosen))


def _conditions(chosen: AssetFilter) -> Iterator[ColumnElement[bool]]:
    if chosen.collections is not None:
        collection = schema.collection.c
        yield _asset.collection_id.in_(
            select(collection.id).where(collection.name.in_(chosen.collections))
        )
    if chosen.taken_from is not None:
        yield _asset.taken_at >= chosen.taken_from
    if chosen.taken_to is not None:
        yield _asset.taken_at <= chosen.taken_to
    if chosen.cameras:
        yield func.lower(camera_name()).in_([name.lower() for name in chosen.cameras]) | func.lower(
            _asset.camera_model
        ).in_([name.lower() for name in chosen.cameras])
    if chosen.gps_box is not None:
        yield _within_box(chosen.gps_box)
    if chosen.gps_near is not None:
        yield _within_circle(chosen.gps_near)
    if chosen.min_width is not None:
        yield _content.width >= chosen.min_width
    if chosen.max_width is not None:
        yield _content.width <= chosen.max_width
    if chosen.min_height is not None:
        yield _content.height >= chosen.min_height
    if chosen.max_height is not None:
        yield _content.height <= chosen.max_height
    match chosen.orientation:
        case Orientation.LANDSCAPE:
            yield _content.width > _content.height
        case Orientation.PORTRAIT:
            yield _content.width < _content.height
        case Orientation.SQUARE:
            yield _content.width == _content.height
    for tag in chosen.tags:
        yield _has_tag(tag)
    for tag in chosen.without_tags:
        yield ~_has_tag(tag)
    for name, value in chosen.custom:
        yield _has_field(name, value)
    if chosen.path_prefixes:
        yield or_(*(_lies_below(prefix) for prefix in chosen.path_prefixes))


def camera_name() -> ColumnElement[str]:
    """Make and model as a person reads them; the make once where the model begins with it."""
    make, model = func.coalesce(_asset.camera_make, ""), func.coalesce(_asset.camera_model, "")
    repeated = func.lower(func.substr(model, 1, func.length(make))) == func.lower(make)
    return case((or_(make == "", repeated), model), (model == "", make), else_=make + " " + model)


def stored_field(value: CustomValue) -> str:
    """A custom field's value as `asset_field` holds it: JSON, in which 1 and 1.0 are one number."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False)


def _has_tag(tag: str) -> ColumnElement[bool]:
    return exists().where(_tag.asset_id == _asset.id, _tag.tag == tag)


def _has_field(name: str, value: CustomValue) -> ColumnElement[bool]:
    # A table of fields, kept beside the JSON: both databases find equal values in it alike.
    field = schema.asset_field.c
    return exists().where(
        field.asset_id == _asset.id, field.name == name, field.value == stored_field(value)
    )


def _lies_below(prefix: bytes) -> ColumnElement[bool]:
    # What lies below `p` sorts between `p/` and `p0`, the byte after `/`; both exclusive.
    stem = prefix.rstrip(b"/")
    return or_(
        _asset.path == (stem or b"/"), and_(_asset.path > stem + b"/", _asset.path < stem + b"0")
    )


def _within_box(box: GpsBox) -> ColumnElement[bool]:
    latitude, longitude = _asset.latitude, _asset.longitude
    around = (
        and_(longitude >= box.west, longitude <= box.east)
        if box.west <= box.east
        else or_(longitude >= box.west, longitude <= box.east)
    )
    return and_(latitude >= box.south, latitude <= box.north, around)


def _within_circle(circle: GpsCircle) -> ColumnElement[bool]:
    """By the haversine; cheap latitudes first, which an index or a scan rejects most by."""
    span = math.degrees(circle.radius_km / _EARTH_RADIUS_KM)
    radians = math.pi / 180
    north = (_asset.latitude - circle.latitude) * (radians / 2)
    east = (_asset.longitude - circle.longitude) * (radians / 2)
    haversine = func.sin(north) * func.sin(north) + math.cos(circle.latitude * radians) * func.cos(
        _asset.latitude * radians
    ) * func.sin(east) * func.sin(east)
    limit = math.sin(min(circle.radius_km / _EARTH_RADIUS_KM / 2, math.pi / 2)) ** 2
    if limit <= 0:
        return false()
    return and_(
        _asset.latitude >= circle.latitude - span,
        _asset.latitude <= circle.latitude + span,
        haversine <= limit,
    )
