"""Builds the records of assets, regions and captions from rows; nothing else does.

States and captions are those of one pipeline. Statements are cached: building one takes as long as
running it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from itertools import product
from typing import Any

from sqlalchemy import (
    JSON,
    BindParameter,
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    case,
    exists,
    func,
    select,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from regard.core.assets import Asset, AssetState, StoredCaption, StoredRegion
from regard.core.catalog import HitRecords
from regard.core.facts import DatePrecision
from regard.core.filters import AssetFilter
from regard.core.geometry import Box
from regard.storage.assets.filters import passes
from regard.storage.assets.texts import read_lines_by_id
from regard.storage.database import schema
from regard.storage.database.connection import in_batches

_asset, _content, _region = schema.asset.c, schema.content.c, schema.region.c
_caption, _tag = schema.caption.c, schema.asset_tag.c
_OF_CONTENT = ("sha256", "format", "width", "height", "duration_ms", "poster_ms")
_FIELDS = tuple(field.name for field in fields(Asset))
# What makes the values of some fields from those of the database, by place.
_CONVERSIONS: Mapping[int, Callable[[Any], Any]] = {
    _FIELDS.index("path"): bytes,
    _FIELDS.index("managed"): bool,
    _FIELDS.index("file_name"): lambda name: name or "",
    _FIELDS.index("tags"): lambda tags: tuple(sorted(tags or ())),
    _FIELDS.index("custom"): lambda custom: json.loads(custom) if custom else {},
    _FIELDS.index("state"): AssetState,
    _FIELDS.index("taken_precision"): lambda known: known and DatePrecision(known),
}
_REGION_COLUMNS = (
    *(_region.id, _region.content_id, _region.x, _region.y, _region.width, _region.height),
    *(_region.area, _region.score, _region.time_ms),
)


@lru_cache(maxsize=16)
def select_assets(pipeline: int) -> Select[Any]:
    """All assets, those in the trash too, with their collection and content joined."""
    caption = (
        select(_caption.text)
        .where(
            _caption.content_id == _asset.content_id,
            _caption.pipeline_id == pipeline,
            _caption.region_id.is_(None),
        )
        .order_by(_caption.id)
        .limit(1)
    )
    tags = select(_JsonList(_tag.tag)).where(_tag.asset_id == _asset.id).correlate(schema.asset)
    member = schema.asset.alias("member").c
    in_stack = select(func.count()).where(
        member.stack_id == _asset.stack_id, member.deleted_at.is_(None)
    )
    columns: dict[str, ColumnElement[Any]] = {
        "collection": schema.collection.c.name,
        "title": func.coalesce(_asset.edited_title, _asset.title),
        "tags": tags.scalar_subquery(),
        "state": state_of_asset(pipeline),
        "caption": caption.scalar_subquery(),
        "failure_reason": _asset.failure,
        "stack_count": case(
            (_asset.stack_id.is_not(None), in_stack.correlate(schema.asset).scalar_subquery())
        ),
        **{name: _content[name] for name in _OF_CONTENT},
    }
    return (
        select(*(columns[name] if name in columns else _asset[name] for name in _FIELDS))
        .join_from(schema.asset, schema.collection)
        .join(schema.content, _content.id == _asset.content_id, isouter=True)
    )


def state_of_asset(pipeline: int) -> ColumnElement[str]:
    """The asset's `AssetState`."""
    return case(
        (_asset.deleted_at.is_not(None), AssetState.TRASHED.value),
        (_asset.failure.is_not(None), AssetState.FAILED.value),
        (is_analysed(pipeline), AssetState.INDEXED.value),
        else_=AssetState.PENDING.value,
    )


def is_analysed(pipeline: int) -> ColumnElement[bool]:
    """Whether the pipeline has analysed the asset's content."""
    analysis = schema.analysis.c
    analysed = exists().where(
        analysis.content_id == _asset.content_id, analysis.pipeline_id == pipeline
    )
    return analysed.correlate(schema.asset)


def is_pending(pipeline: int) -> ColumnElement[bool]:
    """Whether the asset has a content that the pipeline has not analysed."""
    analysis = schema.analysis.c
    analysed = exists().where(analysis.content_id == _content.id, analysis.pipeline_id == pipeline)
    # Such contents are few: they are found once, not asset by asset.
    return _asset.content_id.in_(select(_content.id).where(~analysed).correlate(None))


def has_failed() -> ColumnElement[bool]:
    """Whether the asset's file could not be used."""
    failed = schema.asset.alias()
    # Such assets are few: they are found once in their own index.
    return _asset.id.in_(select(failed.c.id).where(failed.c.failure.is_not(None)))


def read_assets(
    connection: Connection, statement: Select[Any], parameters: Mapping[str, Any] | None = None
) -> list[Asset]:
    """The records of the rows of a statement made from `select_assets`."""
    return [_to_asset(row) for row in connection.execute(statement, parameters).all()]


def read_assets_of_contents(
    connection: Connection, pipeline: int, contents: Collection[int], asset_filter: AssetFilter
) -> Mapping[int, Sequence[Asset]]:
    """The assets of contents that pass a filter, by content, ordered by id."""
    return read_hits(connection, pipeline, contents, (), asset_filter).assets


def read_hits(
    connection: Connection,
    pipeline: int,
    contents: Collection[int],
    regions: Collection[int],
    asset_filter: AssetFilter,
) -> HitRecords:
    """The assets of contents that pass a filter, and those of the regions that belong to them."""
    statement = _select_hits(pipeline, asset_filter)
    assets: dict[int, dict[int, Asset]] = {}
    found: dict[int, StoredRegion] = {}
    # One statement, unless there are more ids than a statement takes.
    for some, of_regions in product(in_batches(contents), list(in_batches(regions)) or [[]]):
        rows = connection.execute(statement, {"contents": some, "regions": of_regions}).all()
        for row in rows:
            number, content, region = row[0], row[1], row[len(_FIELDS)]
            by_id = assets.setdefault(content, {})
            if number not in by_id:
                by_id[number] = _to_asset(row)
            if region is not None and region not in found:
                found[region] = _to_region(row[len(_FIELDS) :])
    if lines := set(regions) - found.keys():
        # They are lines of text, or deleted.
        found |= {
            number: line
            for number, line in read_lines_by_id(connection, lines).items()
            if line.content_id in assets
        }
    return HitRecords({content: list(by_id.values()) for content, by_id in assets.items()}, found)


def read_regions(
    connection: Connection, pipeline: int, content: int | None
) -> tuple[StoredRegion, ...]:
    """The regions of a content, best first."""
    statement = select(*_REGION_COLUMNS, _caption_of_region()).order_by(_region.ordinal)
    rows = connection.execute(
        statement.where(_region.content_id == content, _region.pipeline_id == pipeline)
    )
    return tuple(_to_region(row) for row in rows)


def read_captions(
    connection: Connection, pipeline: int, content: int | None
) -> tuple[StoredCaption, ...]:
    """The captions of a content and of its regions."""
    rows = connection.execute(
        select(_caption.text, _caption.model, _caption.region_id)
        .where(_caption.content_id == content, _caption.pipeline_id == pipeline)
        .order_by(_caption.id)
    )
    return tuple(StoredCaption(*row) for row in rows)


@lru_cache(maxsize=64)
def _select_hits(pipeline: int, asset_filter: AssetFilter) -> Select[Any]:
    contents: BindParameter[Any] = bindparam("contents", expanding=True)
    regions: BindParameter[Any] = bindparam("regions", expanding=True)
    of_content = and_(_region.content_id == _asset.content_id, _region.id.in_(regions))
    return (
        select_assets(pipeline)
        .add_columns(*(column.label(None) for column in _REGION_COLUMNS), _caption_of_region())
        .join(schema.region, of_content, isouter=True)
        .where(_asset.content_id.in_(contents), passes(asset_filter))
        .order_by(_asset.id)
    )


def _caption_of_region() -> ColumnElement[str | None]:
    sentence = select(_caption.text).where(_caption.region_id == _region.id)
    first = sentence.order_by(_caption.id).limit(1).correlate(schema.region)
    return first.scalar_subquery().label(None)


def _to_asset(row: Row[Any]) -> Asset:
    values = list(row[: len(_FIELDS)])
    for place, convert in _CONVERSIONS.items():
        values[place] = convert(values[place])
    return Asset(*values)


def _to_region(row: Sequence[Any]) -> StoredRegion:
    number, content, x, y, width, height, area, score, time_ms, caption = row
    box = Box(x, y, width, height)
    return StoredRegion(number, content, box, area, score, caption, time_ms=time_ms)


class _JsonList(FunctionElement[Any]):
    """The values of a group as a list, in no particular order; None where there is none."""

    type = JSON()
    inherit_cache = True


@compiles(_JsonList)
def _json_group_array(element: _JsonList, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_group_array({compiler.process(element.clauses, **options)})"


@compiles(_JsonList, "postgresql")
def _json_agg(element: _JsonList, compiler: SQLCompiler, **options: Any) -> str:
    return f"json_agg({compiler.process(element.clauses, **options)})"
