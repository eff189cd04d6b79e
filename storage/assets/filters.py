"""An `AssetFilter` as SQL: one condition over the tables `asset` and `content`.

The query must join `content` to `asset` by content_id if the filter `reads_content`. Assets in the
trash never pass. Conditions are written so that the indexes in `schema.py` answer them.
"""

from __future__ import annotations

import hashlib
import json
import math
import string
import unicodedata
from collections.abc import Iterator
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    LargeBinary,
    Select,
    and_,
    case,
    exists,
    false,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from regard.core.facts import DatePrecision
from regard.core.filters import AssetFilter, CustomValue, Fact, GpsBox, GpsCircle, Orientation
from regard.core.words import composed, folded, respellings
from regard.photos.files import composed_path, uri_of_path
from regard.storage.database import schema

_EARTH_RADIUS_KM = 6371.0088
# In degrees, far less than an atom; its square is not yet zero.
_DUST = 1e-100
# In characters, of up to four bytes.
_LONGEST_FIELD = 400
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
# Not bound, because an index's condition has it.
EMPTY: ColumnElement[str] = literal_column("''")
_asset, _content, _tag = schema.asset.c, schema.content.c, schema.asset_tag.c


def passes(asset_filter: AssetFilter, *, trashed: bool = False) -> ColumnElement[bool]:
    """The condition that an asset passes; with `trashed`, that it does so in the trash."""
    deleted = _asset.deleted_at.is_not(None) if trashed else _asset.deleted_at.is_(None)
    return and_(deleted, *_conditions(asset_filter))


def reads_content(asset_filter: AssetFilter) -> bool:
    """Whether the condition has columns of `content`."""
    return (
        bool(asset_filter.formats)
        or any(True for _ in _sizes(asset_filter))
        or any(map(reads_content, asset_filter.nested))
    )


def passing_contents(asset_filter: AssetFilter) -> Select[tuple[int]]:
    """The ids of the contents with an asset that passes; some may come more than once."""
    statement = select(_asset.content_id).where(_has_content(), passes(asset_filter))
    if reads_content(asset_filter):
        statement = statement.join(schema.content, _content.id == _asset.content_id)
    return statement


def hidden_contents() -> Select[tuple[int]]:
    """The ids of the contents whose assets are all in the trash."""
    shown = schema.asset.alias().c
    is_shown = exists().where(shown.content_id == _asset.content_id, shown.deleted_at.is_(None))
    return select(_asset.content_id).where(
        _asset.deleted_at.is_not(None), _has_content(), ~is_shown
    )


def _has_content() -> ColumnElement[bool]:
    # Only failed assets have none; a condition on the content itself is taken for a range of all.
    return _asset.failure.is_(None)


def _conditions(asset_filter: AssetFilter) -> Iterator[ColumnElement[bool]]:
    for part in (_named, _times, _cameras, _files, _places, _sizes, _labels, _paths, _facts):
        yield from part(asset_filter)
    for inner in asset_filter.also:
        yield from _conditions(inner)
    if asset_filter.any_of:
        yield or_(*(and_(true(), *_conditions(inner)) for inner in asset_filter.any_of))
    for inner in asset_filter.without:
        # An unknown value makes a condition null, which counts as false.
        yield ~func.coalesce(and_(true(), *_conditions(inner)), false())


def _named(asset_filter: AssetFilter) -> Iterator[ColumnElement[bool]]:
    if asset_filter.ids:
        yield _asset.id.in_(asset_filter.ids)
    if asset_filter.collections is not None:
        collection = schema.collection.c
        ids = select(collection.id).where(collection.name.in_(asset_filter.collections))
        # A single one is a range of an index that has the order of lists.
        yield (
            _asset.collection_id == ids.scalar_subquery()
            if len(asset_filter.collections) == 1
            else _asset.collection_id.in_(ids)
        )


def _times(asset_filter: AssetFilter) -> Iterator[ColumnElement[bool]]:
    if asset_filter.taken_from is not None:
        yield _asset.taken_at >= asset_filter.taken_from
    if asset_filter.taken_to is not None:
        yield _asset.taken_at <= asset_filter.taken_to
        # All that a partial date may mean must lie within the time.
        known = _asset.taken_precision
        yield case(
            *(
                (
                    known == precision.value,
                    _asset.taken_at <= precision.last_start(asset_filter.taken_to),
                )
                for precision in (DatePrecision.YEAR, DatePrecision.MONTH, DatePrecision.DAY)
            ),
            else_=true(),
        )


def _cameras(asset_filter: AssetFilter) -> Iterator[ColumnElement[bool]]:
    if asset_filter.cameras:
        names = [name.translate(_LOWER) for name in asset_filter.cameras]
        yield or_(_asset.camera_folded.in_(names), _asset.camera_model_folded.in_(names))


def _files(asset_filter: AssetFilter) -> Iterator[ColumnElement[bool]]:
    if asset_filter.lenses:
        yield _asset.lens_folded.in_([name.translate(_LOWER) for name in asset_filter.lenses])
    if asset_filter.formats:
        yield _content.format.in_(asset_filter.formats)


def _places(asset_filter: AssetFilter) -> Iterator[ColumnElement[bool]]:
    if asset_filter.countries:
        yield _asset.country.in_(asset_filter.countries)
    if asset_filter.cities:
        names = list(map(folded, asset_filter.cities))
        yield _asset.city_folded.in_([*names, *(s for name in names for s in respellings(name))])
    if asset_filter.gps_box is not None:
        yield _within_box(asset_filter.gps_box)
    if asset_filter.gps_near is not None:
        yield _within_circle(asset_filter.gps_near)


def _sizes(asset_filter: AssetFilter) -> Iterator[ColumnElement[bool]]:
    width, height = _content.width, _content.height
    for size, least, most in (
        (width, asset_filter.min_width, asset_filter.max_width),
        (height, asset_filter.min_height, asset_filter.max_height),
    ):
        if least is not None:
            yield size >= least
        if most is not None:
            yield size <= most
    duration = _content.duration_ms
    if asset_filter.min_duration is not None:
        yield duration >= 1000 * asset_filter.min_duration
    if asset_filter.max_duration is not None:
        yield duration < 1000 * (asset_filter.max_duration + 1)
    if Fact.VIDEO in asset_filter.has:
        # A range, for which SQLite takes the index of videos.
        yield duration >= 0
    match asset_filter.orientation:
        case Orientation.LANDSCAPE:
            yield width > height
        case Orientation.PORTRAIT:
            yield width < height
        case Orientation.SQUARE:
            yield width == height


def _labels(asset_filter: AssetFilter) -> Iterator[ColumnElement[bool]]:
    for tag in asset_filter.tags:
        yield _has_tag(tag)
    for tag in asset_filter.without_tags:
        yield ~_has_tag(tag)
    if asset_filter.albums:
        member = schema.album_asset.c
        yield _is_among(select(member.asset_id).where(member.album_id.in_(asset_filter.albums)))
    if asset_filter.stacks:
        one = schema.asset.alias("one_of_stack").c
        yield _asset.stack_id.in_(select(one.stack_id).where(one.id.in_(asset_filter.stacks)))
    for name, value in asset_filter.custom:
        yield _has_field(name, value)
    if asset_filter.external_ids:
        yield _asset.external_id.in_(asset_filter.external_ids)


def _paths(asset_filter: AssetFilter) -> Iterator[ColumnElement[bool]]:
    if asset_filter.path_prefixes:
        yield or_(*(_lies_below(prefix) for prefix in asset_filter.path_prefixes))
    for part in asset_filter.path_parts:
        inside = [None] if part.below is None else part.below
        wanted = composed_path(part.part.strip(b"/"))
        # Uploads are stored by hash: they have a name and no folders.
        is_own = _asset.managed.is_(True)
        name = uri_of_path(wanted)
        apart = unicodedata.normalize("NFD", name)
        is_named = and_(is_own, _asset.file_name.in_((name, apart)))
        yield or_(
            is_named,
            *(_lies_below(prefix) for prefix in part.at),
            *(and_(is_own.is_not(true()), _has_part(wanted, folder)) for folder in inside),
        )


def _facts(asset_filter: AssetFilter) -> Iterator[ColumnElement[bool]]:
    if asset_filter.min_rating is not None:
        yield _asset.rating >= asset_filter.min_rating
    if asset_filter.max_rating is not None:
        yield _asset.rating <= asset_filter.max_rating
    for fact in asset_filter.has:
        # That of videos is one of contents.
        if fact is not Fact.VIDEO:
            yield _is_known(fact)


def stored_field(value: CustomValue) -> str:
    """The form of a custom value in `asset_field`: JSON, with 1 and 1.0 equal, letters composed.

    A long text is stored as its hash, in a form that is not JSON, because PostgreSQL limits index
    entries.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = json.dumps(composed(value) if isinstance(value, str) else value, ensure_ascii=False)
    if len(text) <= _LONGEST_FIELD:
        return text
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _has_tag(tag: str) -> ColumnElement[bool]:
    return _is_among(select(_tag.asset_id).where(_tag.tag == tag))


def _has_field(name: str, value: CustomValue) -> ColumnElement[bool]:
    # In this table, unlike in JSON, both databases compare values in the same way.
    field = schema.asset_field.c
    return _is_among(
        select(field.asset_id).where(field.name == name, field.value == stored_field(value))
    )


def _is_among(assets: Select[tuple[int]]) -> ColumnElement[bool]:
    # The outer query may join the same table itself, to count its rows.
    return _asset.id.in_(assets.correlate(None))


def _lies_below(prefix: bytes) -> ColumnElement[bool]:
    # Paths below `p` sort between `p/` and `p0`, `0` being the byte after `/`; both exclusive.
    stem = composed_path(prefix).rstrip(b"/")
    path = _asset.comparable_path
    return or_(path == (stem or b"/"), and_(path > stem + b"/", path < stem + b"0"))


def _has_part(part: bytes, folder: bytes | None) -> ColumnElement[bool]:
    """Whether consecutive parts occur in a path, or in the part of it below `folder`."""
    path: ColumnElement[Any] = _asset.comparable_path
    is_below: ColumnElement[bool] = true()
    if folder is not None:
        is_below = _lies_below(folder)
        start = len(composed_path(folder).rstrip(b"/")) + 1
        path = func.substr(path, start, type_=LargeBinary)
    end = b"/" + part
    tail = func.length(path) - (len(end) - 1)
    ends_so = and_(tail >= 1, func.substr(path, tail, type_=LargeBinary) == end)
    return and_(is_below, or_(_Holds(path, literal(end + b"/", LargeBinary)), ends_so))


def _is_known(fact: Fact) -> ColumnElement[bool]:
    known: dict[Fact, ColumnElement[bool]] = {
        Fact.GPS: and_(_asset.latitude.is_not(None), _asset.longitude.is_not(None)),
        Fact.DATE: _asset.taken_at.is_not(None),
        Fact.CAMERA: _asset.camera.is_not(None),
        Fact.LENS: _asset.lens != EMPTY,
        Fact.TITLE: func.coalesce(_asset.edited_title, _asset.title) != EMPTY,
        Fact.DESCRIPTION: _asset.description != EMPTY,
        Fact.TAG: _is_among(select(_tag.asset_id)),
        # 0 stars are none.
        Fact.RATING: _asset.rating != 0,
        Fact.STACK: _asset.stack_id.is_not(None),
    }
    return known[fact]


def _within_box(box: GpsBox) -> ColumnElement[bool]:
    latitude, longitude = _asset.latitude, _asset.longitude
    around = (
        and_(longitude >= box.west, longitude <= box.east)
        if box.west <= box.east
        else or_(longitude >= box.west, longitude <= box.east)
    )
    if 180 in {abs(box.west), abs(box.east)}:
        # The date line is both 180 and -180; a box that touches it includes both.
        around = or_(around, longitude == 180, longitude == -180)
    return and_(latitude >= box.south, latitude <= box.north, around)


def _within_circle(circle: GpsCircle) -> ColumnElement[bool]:
    """Haversine distance; the cheap test of latitudes comes first and rejects most assets."""
    angle = circle.radius_km / _EARTH_RADIUS_KM
    if angle >= math.pi:
        return and_(_asset.latitude.is_not(None), _asset.longitude.is_not(None))
    span = math.degrees(angle)
    radians = math.pi / 180
    north = func.sin(_without_dust(_asset.latitude - circle.latitude) * (radians / 2))
    east = func.sin(_without_dust(_asset.longitude - circle.longitude) * (radians / 2))
    haversine = north * north + math.cos(circle.latitude * radians) * func.cos(
        _without_dust(_asset.latitude) * radians
    ) * (east * east)
    return and_(
        _asset.latitude >= circle.latitude - span,
        _asset.latitude <= circle.latitude + span,
        haversine <= math.sin(angle / 2) ** 2,
    )


def _without_dust(degrees: ColumnElement[float]) -> ColumnElement[float]:
    """Zero for tiny numbers, whose squares PostgreSQL rejects as underflow."""
    return case((func.abs(degrees) < _DUST, 0.0), else_=degrees)


class _Holds(FunctionElement[bool]):
    """Whether bytes contain other bytes."""

    type = Boolean()
    inherit_cache = True


@compiles(_Holds)
def _instr(element: _Holds, compiler: SQLCompiler, **options: Any) -> str:
    return f"(instr({compiler.process(element.clauses, **options)}) > 0)"


@compiles(_Holds, "postgresql")
def _position(element: _Holds, compiler: SQLCompiler, **options: Any) -> str:
    whole, part = (compiler.process(clause, **options) for clause in element.clauses)
    return f"(position({part} in {whole}) > 0)"
