"""Assets as a service shows them: lists in pages, single ones with all that is known, counts by value.

What a caller may not see does not exist for it: every method takes the names of the collections that it
may see, None for all.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Integer,
    Row,
    Select,
    String,
    and_,
    bindparam,
    case,
    cast,
    exists,
    extract,
    func,
    select,
    tuple_,
)

from regard.core.assets import (
    AssetDetail,
    AssetOrder,
    AssetRecord,
    AssetState,
    CaptionRecord,
    FacetValue,
    RegionRecord,
)
from regard.core.errors import NotFound
from regard.core.facts import Capture, PhotoFacts
from regard.core.filters import EVERYTHING, AssetFilter
from regard.core.geometry import Box, Mask
from regard.storage.assets.filters import camera_name, passes
from regard.storage.database import schema
from regard.storage.pipelines.catalog import Catalog
from regard.storage.pipelines.stored import StoredPipeline, live_pipeline

Visible = Sequence[str] | None
# Where a page ends: the value that it is sorted by, and the asset's id.
Place = tuple[datetime | None, int]

_FACET_VALUES = 50
_UNKNOWN_PIPELINE = -1
_asset, _content = schema.asset.c, schema.content.c


class SqlAssetReading:
    """Reads assets of a catalog; each method sees one moment of it."""

    def __init__(self, catalog: Catalog, pipeline: StoredPipeline | None = None) -> None:
        """States and captions are those of `pipeline`; None is the live one, looked up at each call."""
        self._database = catalog.database
        self._pipeline = None if pipeline is None else pipeline.id

    def _chosen(self, connection: Connection) -> int:
        return _live(connection) if self._pipeline is None else self._pipeline

    def page(
        self,
        chosen: AssetFilter = EVERYTHING,
        *,
        visible: Visible = None,
        state: AssetState | None = None,
        order: AssetOrder = AssetOrder.NEWEST,
        after: Place | None = None,
        limit: int = 100,
    ) -> list[AssetRecord]:
        """The next assets after a place; `state` None is all but the trash."""
        with self._database.reading() as connection:
            pipeline = self._chosen(connection)
            statement = _records(pipeline).where(*_in_state(chosen, state, pipeline))
            statement = statement.where(*_seen(visible))
            statement = _sorted(statement, order, after).limit(limit)
            return _complete(connection, connection.execute(statement).all())

    def by_ids(self, ids: Collection[int], *, visible: Visible = None) -> dict[int, AssetRecord]:
        """Assets by id, those in the trash too; what is not there, or not visible, is absent."""
        with self._database.reading() as connection:
            pipeline = self._chosen(connection)
            names = None if visible is None else list(visible)
            statement = _records_by_id(pipeline, names is not None)
            rows = connection.execute(statement, {"ids": list(ids), "names": names}).all()
            return {asset.id: asset for asset in _complete(connection, rows)}

    def get(self, asset: int, *, visible: Visible = None) -> AssetRecord:
        """One asset; raises NotFound."""
        found = self.by_ids([asset], visible=visible).get(asset)
        if found is None:
            raise _no_asset(asset)
        return found

    def detail(self, asset: int, *, visible: Visible = None) -> AssetDetail:
        """One asset with facts, regions and captions; raises NotFound."""
        with self._database.reading() as connection:
            pipeline = self._chosen(connection)
            rows = connection.execute(
                _records(pipeline).where(_asset.id == asset, *_seen(visible))
            ).all()
            if not rows:
                raise _no_asset(asset)
            record = _complete(connection, rows)[0]
            return AssetDetail(
                record,
                _facts(connection, asset),
                _regions(connection, pipeline, record.content_id),
                _captions(connection, pipeline, record.content_id),
            )

    def region(self, region: int, *, visible: Visible = None) -> tuple[RegionRecord, AssetRecord]:
        """A region, and the first visible asset of its content; raises NotFound."""
        with self._database.reading() as connection:
            pipeline = self._chosen(connection)
            table = schema.region.c
            content_id = connection.execute(
                select(table.content_id).where(table.id == region)
            ).scalar_one_or_none()
            found = next(
                (item for item in _regions(connection, pipeline, content_id) if item.id == region),
                None,
            )
            rows = connection.execute(
                _records(pipeline)
                .where(_asset.content_id == content_id, *_seen(visible))
                .order_by(_asset.deleted_at.is_not(None), _asset.id)
                .limit(1)
            ).all()
            if found is None or not rows:
                raise NotFound(
                    f"no region has the id r{region}", remedy="take an id from the hits of a search"
                )
            return found, _complete(connection, rows)[0]

    def mask(self, region: int) -> Mask:
        """A region's mask, of its content's size; raises NotFound."""
        table = schema.region.c
        with self._database.reading() as connection:
            row = connection.execute(
                select(table.mask, _content.width, _content.height)
                .join_from(schema.region, schema.content)
                .where(table.id == region)
            ).one_or_none()
        if row is None:
            raise NotFound(f"no region has the id r{region}")
        return Mask(row.height, row.width, bytes(row.mask))

    def facets(
        self,
        chosen: AssetFilter,
        names: Iterable[str],
        *,
        visible: Visible = None,
        state: AssetState | None = None,
    ) -> dict[str, list[FacetValue]]:
        """How many assets that pass have each camera, month, tag or collection; most frequent first.

        `state` None is all but the trash.
        """
        with self._database.reading() as connection:
            where = [*_in_state(chosen, state, self._chosen(connection)), *_seen(visible)]
            return {name: _facet(connection, name, where) for name in names}

    def with_failures(
        self,
        collection: int,
        *,
        below: str | None = None,
        managed: bool | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> list[AssetRecord]:
        """Assets of a collection that could not be used, by id; below a folder, or managed, alone."""
        prefixes = () if below is None else (os.fsencode(below),)
        where = [
            passes(AssetFilter(path_prefixes=prefixes)),
            _asset.collection_id == collection,
            _asset.failure.is_not(None),
            _asset.id > after,
        ]
        if managed is not None:
            where.append(_asset.managed.is_(managed))
        with self._database.reading() as connection:
            pipeline = self._chosen(connection)
            rows = connection.execute(
                _records(pipeline).where(*where).order_by(_asset.id).limit(limit)
            ).all()
            return _complete(connection, rows)


def _no_asset(asset: int) -> NotFound:
    return NotFound(
        f"no photograph has the id a{asset}", remedy="take an id from a list or a search"
    )


def _live(connection: Connection) -> int:
    pipeline = live_pipeline(connection)
    return _UNKNOWN_PIPELINE if pipeline is None else pipeline.id


def _seen(visible: Visible) -> list[ColumnElement[bool]]:
    return [] if visible is None else [schema.collection.c.name.in_(visible)]


def _in_state(
    chosen: AssetFilter, state: AssetState | None, pipeline: int
) -> list[ColumnElement[bool]]:
    where = [passes(chosen, trashed=state is AssetState.TRASHED)]
    return where if state in {None, AssetState.TRASHED} else [*where, _state(pipeline) == state]


def _state(pipeline: int) -> ColumnElement[str]:
    analysis = schema.analysis.c
    analysed = exists().where(
        analysis.content_id == _asset.content_id, analysis.pipeline_id == pipeline
    )
    return case(
        (_asset.deleted_at.is_not(None), AssetState.TRASHED.value),
        (_asset.failure.is_not(None), AssetState.FAILED.value),
        (analysed, AssetState.INDEXED.value),
        else_=AssetState.PENDING.value,
    )


# Making a statement takes as long as running it, and the hits of each search ask for these.
_TAGS = (
    select(schema.asset_tag.c.asset_id, schema.asset_tag.c.tag)
    .where(schema.asset_tag.c.asset_id.in_(bindparam("ids", expanding=True)))
    .order_by(schema.asset_tag.c.tag)
)


@lru_cache(maxsize=16)
def _records_by_id(pipeline: int, is_limited: bool) -> Select[Any]:
    statement = _records(pipeline).where(_asset.id.in_(bindparam("ids", expanding=True)))
    if is_limited:
        names: BindParameter[Any] = bindparam("names", expanding=True)
        statement = statement.where(schema.collection.c.name.in_(names))
    return statement


def read_records(
    connection: Connection, pipeline: int, contents: Collection[int], chosen: AssetFilter
) -> list[AssetRecord]:
    """The assets of contents that pass a filter, by id; states and captions are of the pipeline."""
    statement = _records_of_contents(pipeline, chosen)
    return _complete(connection, connection.execute(statement, {"ids": sorted(contents)}).all())


@lru_cache(maxsize=64)
def _records_of_contents(pipeline: int, chosen: AssetFilter) -> Select[Any]:
    wanted = _asset.content_id.in_(bindparam("ids", expanding=True))
    return _records(pipeline).where(wanted, passes(chosen)).order_by(_asset.id)


@lru_cache(maxsize=16)
def _records(pipeline: int) -> Select[Any]:
    caption = schema.caption.c
    sentence = (
        select(caption.text)
        .where(
            caption.content_id == _asset.content_id,
            caption.pipeline_id == pipeline,
            caption.region_id.is_(None),
        )
        .order_by(caption.id)
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(
            _asset.id,
            _asset.content_id,
            _asset.collection_id,
            schema.collection.c.name.label("collection"),
            _asset.external_id,
            _asset.uri,
            _asset.path,
            _asset.managed,
            _asset.file_name,
            func.coalesce(_asset.edited_title, _asset.title).label("title"),
            _asset.custom,
            _state(pipeline).label("state"),
            _content.sha256,
            _content.format,
            _content.width,
            _content.height,
            _asset.size,
            _asset.mtime_ns,
            _asset.taken_at,
            _asset.added_at,
            _asset.dated_at,
            _asset.deleted_at,
            camera_name().label("camera"),
            sentence.label("caption"),
            _asset.failure,
        )
        .join_from(schema.asset, schema.collection)
        .join(schema.content, _content.id == _asset.content_id, isouter=True)
    )


def _sorted(statement: Select[Any], order: AssetOrder, after: Place | None) -> Select[Any]:
    keys: list[Any] = [_asset.dated_at, _asset.id] if order.by_date else [_asset.id]
    if after is not None:
        place, values = tuple_(*keys), tuple_(*(after if order.by_date else after[1:]))
        statement = statement.where(place < values if order.descending else place > values)
    return statement.order_by(*(key.desc() if order.descending else key.asc() for key in keys))


def _complete(connection: Connection, rows: Sequence[Row[Any]]) -> list[AssetRecord]:
    """Records of rows, tags added."""
    tags: dict[int, list[str]] = {}
    ids = [row.id for row in rows]
    for tagged in connection.execute(_TAGS, {"ids": ids}):
        tags.setdefault(tagged.asset_id, []).append(tagged.tag)
    records = []
    for row in rows:
        columns = row._asdict()
        asset = columns["id"]
        columns["path"] = bytes(columns["path"])
        columns["managed"] = bool(columns["managed"])
        columns["file_name"] = columns["file_name"] or ""
        columns["tags"] = tuple(tags[asset]) if asset in tags else ()
        columns["custom"] = json.loads(columns["custom"]) if columns["custom"] else {}
        columns["state"] = AssetState(columns["state"])
        records.append(AssetRecord(**columns))
    return records


def _facts(connection: Connection, asset: int) -> PhotoFacts:
    facts = connection.execute(select(schema.asset).where(_asset.id == asset)).mappings().one()
    keyword = schema.asset_keyword.c
    keywords = connection.execute(
        select(keyword.keyword).where(keyword.asset_id == asset).order_by(keyword.position)
    ).scalars()
    single = {field.name for field in dataclasses.fields(PhotoFacts)} - {"keywords", "capture"}
    return PhotoFacts(
        **{name: facts[name] for name in single},
        keywords=tuple(keywords),
        capture=Capture(**json.loads(facts["capture"])),
    )


def _regions(
    connection: Connection, pipeline: int, content_id: int | None
) -> tuple[RegionRecord, ...]:
    region, caption = schema.region.c, schema.caption.c
    sentence = (
        select(caption.text)
        .where(caption.region_id == region.id)
        .order_by(caption.id)
        .limit(1)
        .scalar_subquery()
    )
    rows = connection.execute(
        select(
            *(region.id, region.x, region.y, region.width, region.height, region.area),
            *(region.score, sentence.label("caption")),
        )
        .where(region.content_id == content_id, region.pipeline_id == pipeline)
        .order_by(region.ordinal)
    )
    return tuple(
        RegionRecord(
            row.id,
            content_id or 0,
            Box(row.x, row.y, row.width, row.height),
            row.area,
            row.score,
            row.caption,
        )
        for row in rows
    )


def _captions(
    connection: Connection, pipeline: int, content_id: int | None
) -> tuple[CaptionRecord, ...]:
    caption = schema.caption.c
    rows = connection.execute(
        select(caption.text, caption.model, caption.region_id)
        .where(caption.content_id == content_id, caption.pipeline_id == pipeline)
        .order_by(caption.id)
    )
    return tuple(CaptionRecord(row.text, row.model, row.region_id) for row in rows)


def _facet(
    connection: Connection, name: str, where: Sequence[ColumnElement[bool]]
) -> list[FacetValue]:
    value = _FACETS[name]()
    statement = (
        select(value.label("value"), func.count().label("number"))
        .select_from(schema.asset)
        .join(schema.collection)
        .join(schema.content, _content.id == _asset.content_id, isouter=True)
    )
    if name == "tags":
        statement = statement.join(schema.asset_tag, schema.asset_tag.c.asset_id == _asset.id)
    rows = connection.execute(
        statement.where(and_(value.is_not(None), value != "", *where))
        .group_by(value)
        .order_by(func.count().desc(), value)
        .limit(_FACET_VALUES)
    )
    return [FacetValue(row.value, row.number) for row in rows]


def _month() -> ColumnElement[str]:
    """`2024-05`, spelt so that both databases understand it."""
    year, month = extract("year", _asset.taken_at), extract("month", _asset.taken_at)
    return _padded(year, 4) + "-" + _padded(month, 2)


def _padded(number: ColumnElement[Any], width: int) -> ColumnElement[str]:
    digits = cast(cast(number, Integer), String)
    return func.substr("0" * width, 1, width - func.length(digits)) + digits


_FACETS: Mapping[str, Any] = {
    "camera": camera_name,
    "month": _month,
    "tags": lambda: schema.asset_tag.c.tag,
    "collection": lambda: schema.collection.c.name,
}
FACETS = tuple(_FACETS)
