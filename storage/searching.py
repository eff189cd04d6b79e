"""The catalog as search reads it: from embedding ids to assets, regions and captions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

import numpy as np
from sqlalchemy import Connection, and_, select

from regard.core.catalog import AssetView, Owner, RegionView, StoredVectors
from regard.core.errors import NotFound
from regard.core.geometry import Box
from regard.core.idset import IdSet
from regard.core.records import Channel, Int64Array, Kind
from regard.storage import schema
from regard.storage.catalog import Catalog
from regard.storage.change_log import assets_version
from regard.storage.pipelines import StoredPipeline
from regard.storage.vector_bytes import from_bytes

# Below the 32,766 parameters that SQLite takes in one statement.
_CHUNK = 10_000


class SqlSearchCatalog:
    """Reads for search, over one pipeline. See `regard.core.catalog.SearchCatalog`."""

    def __init__(self, catalog: Catalog, pipeline: StoredPipeline) -> None:
        self._database = catalog.database
        self._pipeline = pipeline
        self._filters: dict[tuple[int, str], tuple[int, IdSet | None]] = {}

    def owners(self, embeddings: Int64Array) -> dict[int, Owner]:
        """Whom each embedding describes; deleted ones are absent."""
        columns = schema.embedding.c
        found: dict[int, Owner] = {}
        with self._database.reading() as connection:
            for ids in _chunks(np.unique(embeddings).tolist()):
                for row in connection.execute(
                    select(columns.id, columns.content_id, columns.region_id).where(
                        columns.id.in_(ids)
                    )
                ):
                    found[row.id] = Owner(row.id, row.content_id, row.region_id)
        return found

    def assets(
        self, contents: Collection[int], collection: str | None
    ) -> dict[int, list[AssetView]]:
        """The assets of each content, ordered by id, with the content's caption."""
        asset, content, caption = schema.asset.c, schema.content.c, schema.caption.c
        statement = (
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
                    caption.pipeline_id == self._pipeline.id,
                    caption.region_id.is_(None),
                ),
                isouter=True,
            )
            .order_by(asset.id, caption.id)
        )
        if collection is not None:
            statement = statement.join(
                schema.collection, schema.collection.c.id == asset.collection_id
            ).where(schema.collection.c.name == collection)
        views: dict[int, AssetView] = {}
        with self._database.reading() as connection:
            for ids in _chunks(contents):
                for row in connection.execute(statement.where(asset.content_id.in_(ids))):
                    view = AssetView(
                        id=row.id,
                        content=row.content_id,
                        uri=row.uri,
                        path=bytes(row.path),
                        width=row.width,
                        height=row.height,
                        caption=row.text,
                    )
                    views.setdefault(view.id, view)
        grouped: dict[int, list[AssetView]] = {}
        for view in sorted(views.values(), key=lambda view: view.id):
            grouped.setdefault(view.content, []).append(view)
        return grouped

    def regions(self, regions: Collection[int]) -> dict[int, RegionView]:
        """Regions by id; deleted ones are absent."""
        region, caption = schema.region.c, schema.caption.c
        statement = (
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
            .order_by(caption.id)
        )
        found: dict[int, RegionView] = {}
        with self._database.reading() as connection:
            for ids in _chunks(regions):
                for row in connection.execute(statement.where(region.id.in_(ids))):
                    box = Box(row.x, row.y, row.width, row.height)
                    view = RegionView(row.id, row.content_id, box, row.area, row.text)
                    found.setdefault(view.id, view)
        return found

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
                select(schema.region.c.content_id).where(schema.region.c.id == region)
            ).scalar_one_or_none()
            if content_id is None:
                raise NotFound(
                    f"no region has the id r{region}",
                    remedy="take an id from the hits of: regard search --target region --json",
                )
            return self._vectors(connection, content_id, region)

    def allowed(self, channel: Channel, collection: str) -> IdSet | None:
        """The embeddings of a channel whose content the collection holds; None means all.

        Kept until assets change. Raises NotFound for an unknown collection.
        """
        channel_id = self._pipeline.channels[channel].id
        key = (channel_id, collection)
        with self._database.reading() as connection:
            version = assets_version(connection)
            kept = self._filters.get(key)
            if kept is not None and kept[0] == version:
                return kept[1]
            names = list(connection.execute(select(schema.collection.c.name)).scalars())
            if collection not in names:
                raise NotFound(
                    f"no collection is named {collection}",
                    remedy="the collections are: " + (", ".join(sorted(names)) or "none"),
                )
            found = None if len(names) == 1 else _members(connection, channel_id, collection)
        # One assignment: searches in other threads see the old entry or the new one.
        self._filters[key] = (version, found)
        return found

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


def _members(connection: Connection, channel_id: int, collection: str) -> IdSet:
    embedding, asset = schema.embedding.c, schema.asset.c
    contents = (
        select(asset.content_id)
        .join_from(schema.asset, schema.collection)
        .where(schema.collection.c.name == collection, asset.content_id.is_not(None))
    )
    rows = connection.execute(
        select(embedding.id).where(
            embedding.channel_id == channel_id, embedding.content_id.in_(contents)
        )
    ).scalars()
    return IdSet(np.fromiter(rows, dtype=np.int64))


def _chunks(ids: Iterable[int]) -> Iterator[list[int]]:
    items = list(ids)
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
