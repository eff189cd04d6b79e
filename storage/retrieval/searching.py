"""The catalog as search reads it: from embedding ids to assets, regions and captions.

The statements of an answer are made once: to build and to recognise one takes longer than to run it.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from typing import Any

from sqlalchemy import BindParameter, Connection, Integer, Select, and_, bindparam, exists, select

from regard.core.catalog import AssetView, Owners, RegionView, StoredVectors, Views
from regard.core.errors import NotFound
from regard.core.filters import AssetFilter
from regard.core.geometry import Box
from regard.core.records import Int64Array, Kind
from regard.storage.assets.filters import passes
from regard.storage.database import schema
from regard.storage.database.vector_bytes import from_bytes
from regard.storage.pipelines.catalog import Catalog
from regard.storage.pipelines.stored import StoredPipeline
from regard.storage.retrieval.owners import EmbeddingOwners
from regard.storage.retrieval.passing_embeddings import require_collections

# Below the 32,766 parameters that SQLite takes in one statement.
_CHUNK = 10_000
_MOST_ROWS = 2**31 - 1
_IDS: BindParameter[Any] = bindparam("ids", expanding=True)


class SqlSearchCatalog:
    """Reads for search, over one pipeline. See `regard.core.catalog.SearchCatalog`."""

    def __init__(self, catalog: Catalog, pipeline: StoredPipeline) -> None:
        """Nothing is read yet."""
        self._database = catalog.database
        self._pipeline = pipeline
        self._owners = EmbeddingOwners(catalog.database)

    def preload(self) -> None:
        """Read ahead what searches would read bit by bit; worth it for a process that stays."""
        self._owners.preload()

    def owners(self, embeddings: Int64Array) -> Owners:
        """Whom each embedding describes; negative ids describe nobody."""
        return self._owners.of(embeddings)

    def views(
        self, contents: Collection[int], regions: Collection[int], chosen: AssetFilter
    ) -> Views:
        """The assets of each content that pass the filter, with its caption; and regions."""
        with self._database.reading() as connection:
            return Views(
                self._asset_views(connection, contents, chosen), region_views(connection, regions)
            )

    def _asset_views(
        self, connection: Connection, contents: Collection[int], chosen: AssetFilter
    ) -> dict[int, list[AssetView]]:
        assets: dict[int, list[AssetView]] = {}
        last = 0
        statement = _assets_statement(self._pipeline.id, chosen)
        for row in _by_id(connection, statement, sorted(contents)):
            # Of several captions the first.
            if row[0] != last:
                last = row[0]
                assets.setdefault(row[1], []).append(AssetView(*row))
        return assets

    def newest(self, chosen: AssetFilter, offset: int, limit: int) -> list[AssetView]:
        """Analysed assets that pass the filter, by date, newest first, a page of them.

        Raises NotFound for an unknown collection.
        """
        with self._database.reading() as connection:
            require_collections(connection, chosen)
            statement = _newest_statement(self._pipeline.id, chosen)
            # SQLite takes no number of more than 64 bits.
            page = {"offset": min(offset, _MOST_ROWS), "limit": min(limit, _MOST_ROWS)}
            rows = connection.execute(statement, page).all()
        contents = {row.content_id for row in rows}
        views = self.views(contents, (), chosen).assets
        found = {view.id: view for of_content in views.values() for view in of_content}
        # What was deleted since is absent.
        return [found[row.id] for row in rows if row.id in found]

    def asset_vectors(self, asset: int) -> StoredVectors:
        """Vectors of the whole image of an asset; raises NotFound."""
        with self._database.reading() as connection:
            content_id = connection.execute(
                select(schema.asset.c.content_id).where(schema.asset.c.id == asset)
            ).scalar_one_or_none()
            if content_id is None:
                raise NotFound(
                    f"no indexed photograph has the id a{asset}",
                    remedy="take an id from the hits of: regard search --json",
                )
            return self._vectors(connection, content_id, None)

    def region_vectors(self, region: int) -> StoredVectors:
        """Vectors of a region; raises NotFound."""
        with self._database.reading() as connection:
            content_id = connection.execute(
                select(schema.region.c.content_id).where(
                    schema.region.c.id == region, schema.region.c.pipeline_id == self._pipeline.id
                )
            ).scalar_one_or_none()
            if content_id is None:
                raise NotFound(
                    f"no region has the id r{region}",
                    remedy="take an id from the hits of: regard search --target region --json",
                )
            return self._vectors(connection, content_id, region)

    def _vectors(
        self, connection: Connection, content_id: int, region_id: int | None
    ) -> StoredVectors:
        embedding = schema.embedding.c
        by_id = {stored.id: stored for stored in self._pipeline.channels.values()}
        vectors = {}
        for row in connection.execute(
            select(embedding.channel_id, embedding.vector).where(
                embedding.content_id == content_id,
                embedding.pipeline_id == self._pipeline.id,
                embedding.region_id == region_id
                if region_id is not None
                else embedding.region_id.is_(None),
            )
        ):
            stored = by_id[row.channel_id]
            if stored.channel.kind is not Kind.CAPTION:
                vectors[stored.channel] = from_bytes([row.vector], stored.dimension)[0]
        return StoredVectors(content_id, region_id, vectors)


@functools.lru_cache(maxsize=64)
def _assets_statement(pipeline: int, chosen: AssetFilter) -> Select[Any]:
    """The fields of `AssetView`, in their order."""
    asset, content, caption = schema.asset.c, schema.content.c, schema.caption.c
    return (
        select(
            asset.id,
            asset.content_id,
            asset.uri,
            asset.path,
            content.width,
            content.height,
            caption.text,
        )
        .join_from(schema.asset, schema.content, content.id == asset.content_id)
        .join(
            schema.caption,
            and_(
                caption.content_id == asset.content_id,
                caption.pipeline_id == pipeline,
                caption.region_id.is_(None),
            ),
            isouter=True,
        )
        .where(asset.content_id.in_(_IDS), passes(chosen))
        .order_by(asset.id, caption.id)
    )


@functools.lru_cache(maxsize=64)
def _newest_statement(pipeline: int, chosen: AssetFilter) -> Select[Any]:
    asset, content, analysis = schema.asset.c, schema.content.c, schema.analysis.c
    analysed = exists().where(
        analysis.content_id == asset.content_id, analysis.pipeline_id == pipeline
    )
    return (
        select(asset.id, asset.content_id)
        .join_from(schema.asset, schema.content, content.id == asset.content_id)
        .where(analysed.correlate(schema.asset), passes(chosen))
        .order_by(asset.dated_at.desc(), asset.id.desc())
        .offset(bindparam("offset", type_=Integer))
        .limit(bindparam("limit", type_=Integer))
    )


def _regions_statement() -> Select[Any]:
    region, caption = schema.region.c, schema.caption.c
    return (
        select(
            region.id,
            region.content_id,
            region.x,
            region.y,
            region.width,
            region.height,
            region.area,
            caption.text,
        )
        .join_from(schema.region, schema.caption, caption.region_id == region.id, isouter=True)
        .where(region.id.in_(_IDS))
        .order_by(region.id, caption.id)
    )


_REGIONS = _regions_statement()


def region_views(connection: Connection, regions: Collection[int]) -> dict[int, RegionView]:
    """Regions by id; what was deleted is absent."""
    found: dict[int, RegionView] = {}
    for number, content, x, y, width, height, area, text in _by_id(
        connection, _REGIONS, sorted(regions)
    ):
        if number not in found:
            box = Box(x, y, width, height)
            found[number] = RegionView(number, content, box, area, text)
    return found


def _by_id(connection: Connection, statement: Select[Any], ids: list[int]) -> Iterator[Any]:
    """The rows of a statement about `ids`."""
    for start in range(0, len(ids), _CHUNK):
        yield from connection.execute(statement, {"ids": ids[start : start + _CHUNK]})
