"""Reads assets for a service: lists in pages, single assets with all details, counts by value.

Every method takes `visible`, the names of the collections that the caller may see, None for all.
Anything else does not exist for it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Hashable, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Select,
    String,
    bindparam,
    cast,
    func,
    select,
    tuple_,
    union_all,
)

from regard.core.assets import (
    Asset,
    AssetDetail,
    AssetOrder,
    AssetState,
    FacetValue,
    MonthCounts,
    PlaceCounts,
    StoredRegion,
)
from regard.core.errors import NotFound
from regard.core.facts import Capture, DatePrecision, PhotoFacts, Place
from regard.core.filters import EVERYTHING, AssetFilter
from regard.core.geometry import Mask
from regard.storage.assets.facets import FORMAT, read_facets
from regard.storage.assets.filters import passes, reads_content
from regard.storage.assets.places import count_places
from regard.storage.assets.records import (
    has_failed,
    is_analysed,
    is_pending,
    read_assets,
    read_captions,
    read_regions,
    select_assets,
)
from regard.storage.assets.stacks import is_shown_folded
from regard.storage.assets.texts import mask_of_line, read_lines, read_lines_by_id
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.stored_pipelines import StoredPipeline, live_pipeline

Visible = Sequence[str] | None
# Where a page ends: its last sort value and asset id.
PageEnd = tuple[datetime | None, int]

_UNKNOWN_PIPELINE = -1
_asset, _content = schema.asset.c, schema.content.c


class SqlAssetReading:
    """Reads the assets of a catalog; each method sees one moment of it."""

    def __init__(self, catalog: Catalog, pipeline: StoredPipeline | None = None) -> None:
        """States and captions are those of `pipeline`; None means the live one at each call."""
        self._database = catalog.database
        self._pipeline = None if pipeline is None else pipeline.id
        self._counts = catalog.kept_counts

    def _pipeline_id(self, connection: Connection) -> int:
        return _live(connection) if self._pipeline is None else self._pipeline

    def page(
        self,
        asset_filter: AssetFilter = EVERYTHING,
        *,
        visible: Visible = None,
        state: AssetState | None = None,
        order: AssetOrder = AssetOrder.NEWEST,
        after: PageEnd | None = None,
        through: int | None = None,
        offset: int = 0,
        limit: int = 100,
        folded: bool = False,
    ) -> list[Asset]:
        """The next assets after a place, without the first `offset` of them.

        `state` None means all except the trash; `through` leaves out assets with greater ids. Here
        and in counts, `folded` leaves out those for which another one of their stack stands that
        also passes, unless the filter names a stack.
        """
        with self._database.reading() as connection:
            pipeline = self._pipeline_id(connection)
            where = _in_state(asset_filter, state, pipeline)
            if through is not None:
                where.append(_asset.id <= through)
            where += _folding(asset_filter, state, where, folded=folded)
            statement = _select(asset_filter, _asset.dated_at, _asset.id).where(*where)
            # Each collection's assets, from an index that is in this order.
            parts = [
                _sorted(statement.where(*seen), _asset, order, after)
                for seen in _each_seen(connection, visible)
            ]
            if not parts:
                return []
            # Ids first: joined to their details, all rows before the offset would be read.
            chosen: Select[Any]
            if len(parts) == 1:
                chosen = parts[0].with_only_columns(_asset.id)
            else:
                first = [part.limit(offset + limit).subquery() for part in parts]
                merged = union_all(*(select(part) for part in first)).subquery()
                chosen = _sorted(select(merged.c.id), merged.c, order, None)
            ids = list(connection.execute(chosen.offset(offset).limit(limit)).scalars())
            parameters = {"ids": ids, "names": None}
            assets = read_assets(connection, _select_by_id(pipeline, False), parameters)
            by_id = {asset.id: asset for asset in assets}
            return [by_id[number] for number in ids]

    def by_ids(self, ids: Collection[int], *, visible: Visible = None) -> dict[int, Asset]:
        """Assets by id, including the trash; missing or invisible ones are absent."""
        with self._database.reading() as connection:
            pipeline = self._pipeline_id(connection)
            names = None if visible is None else list(visible)
            statement = _select_by_id(pipeline, names is not None)
            found = read_assets(connection, statement, {"ids": list(ids), "names": names})
            return {asset.id: asset for asset in found}

    def get(self, asset: int, *, visible: Visible = None) -> Asset:
        """One asset; raises NotFound."""
        found = self.by_ids([asset], visible=visible).get(asset)
        if found is None:
            raise _no_asset(asset)
        return found

    def detail(self, asset: int, *, visible: Visible = None) -> AssetDetail:
        """One asset with facts, regions, captions and text; raises NotFound."""
        with self._database.reading() as connection:
            pipeline = self._pipeline_id(connection)
            statement = select_assets(pipeline).where(_asset.id == asset)
            statement = statement.where(*seen(visible))
            found = read_assets(connection, statement)
            if not found:
                raise _no_asset(asset)
            return AssetDetail(
                found[0],
                *_facts(connection, asset),
                read_regions(connection, pipeline, found[0].content_id),
                read_captions(connection, pipeline, found[0].content_id),
                read_lines(connection, found[0].content_id),
                () if found[0].deleted_at else _albums(connection, asset),
            )

    def region(self, region: int, *, visible: Visible = None) -> tuple[StoredRegion, Asset]:
        """A region, and the first visible asset of its content; raises NotFound."""
        with self._database.reading() as connection:
            pipeline = self._pipeline_id(connection)
            table = schema.region.c
            found = read_lines_by_id(connection, [region]).get(region)
            content_id = connection.execute(
                select(table.content_id).where(table.id == region)
            ).scalar_one_or_none()
            if found is None:
                regions = read_regions(connection, pipeline, content_id)
                found = next((item for item in regions if item.id == region), None)
            else:
                content_id = found.content_id
            assets = read_assets(
                connection,
                select_assets(pipeline)
                .where(_asset.content_id == content_id, *seen(visible))
                .order_by(_asset.deleted_at.is_not(None), _asset.id)
                .limit(1),
            )
            if found is None or not assets:
                raise NotFound(
                    f"no region has the id r{region}", remedy="take an id from the hits of a search"
                )
            return found, assets[0]

    def mask(self, region: int) -> Mask:
        """A region's mask, in the size of its content; raises NotFound."""
        table = schema.region.c
        with self._database.reading() as connection:
            row = connection.execute(
                select(table.mask, _content.width, _content.height)
                .join_from(schema.region, schema.content)
                .where(table.id == region)
            ).one_or_none()
            mask = mask_of_line(connection, region) if row is None else None
        if mask is not None:
            return mask
        if row is None:
            raise NotFound(f"no region has the id r{region}")
        return Mask(row.height, row.width, bytes(row.mask))

    def facets(
        self,
        asset_filter: AssetFilter,
        names: Iterable[str],
        *,
        visible: Visible = None,
        state: AssetState | None = None,
        folded: bool = False,
    ) -> dict[str, list[FacetValue]]:
        """Count passing assets by the values of facets, see `FACETS`; most frequent first.

        Of cameras, lenses, cities and tags only the most frequent. `state` None means all except the trash.
        """
        names = tuple(names)
        with self._database.reading() as connection:
            pipeline = self._pipeline_id(connection)
            is_of_all = asset_filter == EVERYTHING and visible is None and state is None
            # The formats of all assets are counted without it.
            with_content = FORMAT in names and not is_of_all
            key = (names, asset_filter, _key(visible), state, folded, pipeline)
            where = [*_in_state(asset_filter, state, pipeline), *seen(visible)]
            passing = _select(asset_filter, with_content=with_content).where(*where)
            hidden = None
            if shown := _folding(asset_filter, state, where, folded=folded):
                # Fewer than those that are shown, and from their own index.
                hidden = _select(asset_filter, with_content=FORMAT in names).where(
                    *where, _asset.stack_id.is_not(None), ~shown[0]
                )
            return self._counts.read(
                connection,
                "facets",
                key,
                lambda: read_facets(connection, names, passing, is_of_all=is_of_all, hidden=hidden),
            )

    def months(
        self,
        asset_filter: AssetFilter = EVERYTHING,
        *,
        visible: Visible = None,
        state: AssetState | None = None,
        folded: bool = False,
    ) -> MonthCounts:
        """Count passing assets by the month of `dated_at`; `state` None means all except the
        trash."""
        # The same text in both databases, taken from the index that lists are sorted by.
        month = func.substr(cast(_asset.dated_at, String), 1, len("2024-05"))
        columns = month.label("month"), func.count().label("number"), func.max(_asset.id)

        def read() -> MonthCounts:
            where = [*_in_state(asset_filter, state, pipeline), *seen(visible)]
            where += _folding(asset_filter, state, where, folded=folded)
            statement = _select(asset_filter, *columns).where(*where)
            rows = connection.execute(statement.group_by(month).order_by(month.desc())).all()
            return MonthCounts(
                tuple(FacetValue(month, number) for month, number, _ in rows),
                max((newest for _, _, newest in rows), default=None),
            )

        with self._database.reading() as connection:
            pipeline = self._pipeline_id(connection)
            key = (asset_filter, _key(visible), state, folded, pipeline)
            return self._counts.read(connection, "months", key, read)

    def places(
        self,
        asset_filter: AssetFilter = EVERYTHING,
        *,
        cell_degrees: float,
        limit: int,
        visible: Visible = None,
        state: AssetState | None = None,
        folded: bool = False,
    ) -> PlaceCounts:
        """Count passing assets with a position by cells of a grid; `state` None means all except
        the trash."""
        with self._database.reading() as connection:
            pipeline = self._pipeline_id(connection)
            where = [*_in_state(asset_filter, state, pipeline), *seen(visible)]
            where += _folding(asset_filter, state, where, folded=folded)
            passing = _select(asset_filter).where(*where)
            cells = cell_degrees, limit
            key = (asset_filter, cells, _key(visible), state, folded, pipeline)
            return self._counts.read(
                connection,
                "places",
                key,
                lambda: count_places(connection, passing, cell_degrees, limit),
            )

    def with_failures(
        self,
        collection: int,
        *,
        below: bytes | None = None,
        managed: bool | None = None,
        after: int = 0,
        limit: int = 100,
    ) -> list[Asset]:
        """Failed assets of a collection, by id; perhaps only below a folder, or managed."""
        prefixes = () if below is None else (below,)
        where = [
            passes(AssetFilter(path_prefixes=prefixes)),
            _asset.collection_id == collection,
            _asset.failure.is_not(None),
            _asset.id > after,
        ]
        if managed is not None:
            where.append(_asset.managed.is_(managed))
        with self._database.reading() as connection:
            statement = select_assets(self._pipeline_id(connection)).where(*where)
            return read_assets(connection, statement.order_by(_asset.id).limit(limit))


def _no_asset(asset: int) -> NotFound:
    return NotFound(
        f"no photograph has the id a{asset}", remedy="take an id from a list or a search"
    )


def _live(connection: Connection) -> int:
    pipeline = live_pipeline(connection)
    return _UNKNOWN_PIPELINE if pipeline is None else pipeline.id


def _select(asset_filter: AssetFilter, *columns: Any, with_content: bool = False) -> Select[Any]:
    """Columns of assets; each join that is not needed would read rows that are not."""
    statement = select(*columns).select_from(schema.asset)
    if with_content or reads_content(asset_filter):
        statement = statement.join(schema.content, _content.id == _asset.content_id, isouter=True)
    return statement


def _key(visible: Visible) -> Hashable:
    return None if visible is None else tuple(visible)


def seen(visible: Visible) -> list[ColumnElement[bool]]:
    """The conditions that an asset is in a visible collection."""
    if visible is None:
        return []
    collection = schema.collection.c
    return [_asset.collection_id.in_(select(collection.id).where(collection.name.in_(visible)))]


def _each_seen(connection: Connection, visible: Visible) -> list[list[ColumnElement[bool]]]:
    """`_seen`, for one visible collection after another."""
    if visible is None:
        return [[]]
    collection = schema.collection.c
    ids = connection.execute(select(collection.id).where(collection.name.in_(visible))).scalars()
    return [[_asset.collection_id == number] for number in ids]


def _in_state(
    asset_filter: AssetFilter, state: AssetState | None, pipeline: int
) -> list[ColumnElement[bool]]:
    where = [passes(asset_filter, trashed=state is AssetState.TRASHED)]
    match state:
        case AssetState.FAILED:
            where.append(has_failed())
        case AssetState.INDEXED:
            where.append(is_analysed(pipeline))
        case AssetState.PENDING:
            where.append(is_pending(pipeline))
    return where


def _folding(
    asset_filter: AssetFilter,
    state: AssetState | None,
    where: Sequence[ColumnElement[bool]],
    *,
    folded: bool,
) -> list[ColumnElement[bool]]:
    """The condition that an asset is shown where stacks are folded; none is in the trash."""
    if not folded or state is AssetState.TRASHED or asset_filter.names_stack:
        return []
    return [is_shown_folded(where, reads_content=reads_content(asset_filter))]


@lru_cache(maxsize=16)
def _select_by_id(pipeline: int, is_limited: bool) -> Select[Any]:
    statement = select_assets(pipeline).where(_asset.id.in_(bindparam("ids", expanding=True)))
    if is_limited:
        names: BindParameter[Any] = bindparam("names", expanding=True)
        statement = statement.where(schema.collection.c.name.in_(names))
    return statement


def _sorted(
    statement: Select[Any], columns: Any, order: AssetOrder, after: PageEnd | None
) -> Select[Any]:
    keys: list[Any] = [columns.dated_at, columns.id] if order.by_date else [columns.id]
    if after is not None:
        place, values = tuple_(*keys), tuple_(*(after if order.by_date else after[1:]))
        statement = statement.where(place < values if order.descending else place > values)
    return statement.order_by(*(key.desc() if order.descending else key.asc() for key in keys))


def _albums(connection: Connection, asset: int) -> tuple[tuple[int, str], ...]:
    """Ids and names of its albums; who sees an asset outside the trash sees these, too."""
    album, member = schema.album.c, schema.album_asset.c
    rows = connection.execute(
        select(album.id, album.name)
        .join_from(schema.album_asset, schema.album, album.id == member.album_id)
        .where(member.asset_id == asset, album.query.is_(None))
        .order_by(album.name)
    )
    return tuple((row.id, row.name) for row in rows)


def _facts(connection: Connection, asset: int) -> tuple[PhotoFacts, Place | None]:
    facts = connection.execute(select(schema.asset).where(_asset.id == asset)).mappings().one()
    keyword = schema.asset_keyword.c
    keywords = connection.execute(
        select(keyword.keyword).where(keyword.asset_id == asset).order_by(keyword.position)
    ).scalars()
    single = {field.name for field in dataclasses.fields(PhotoFacts)}
    single -= {"keywords", "capture", "taken_precision"}
    precision = facts["taken_precision"]
    country = facts["country"]
    place = None if country is None else Place(country, facts["city"])
    read = PhotoFacts(
        **{name: facts[name] for name in single},
        taken_precision=None if precision is None else DatePrecision(precision),
        keywords=tuple(keywords),
        capture=Capture(**json.loads(facts["capture"])),
    )
    return read, place
