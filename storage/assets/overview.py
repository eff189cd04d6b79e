"""Counts over a catalog; regions, captions and embeddings are those of the live pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, Table, func, select

from regard.core.uris import uri_of_path
from regard.storage.assets.collections import count_by_collection
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.change_log import last_position
from regard.storage.database.stored_pipelines import StoredPipeline, live_pipeline


@dataclass(frozen=True, slots=True)
class CollectionOverview:
    """The numbers of indexed and failed assets of one collection."""

    name: str
    indexed: int
    failed: int


@dataclass(frozen=True, slots=True)
class ExclusionOverview:
    """What indexing leaves out of a collection, or does not: a pattern below a path, or the path.

    As in `Exclusion`, with bytes that are not UTF-8 as %XX.
    """

    collection: str
    path: str
    pattern: str | None
    left_out: bool

    def __str__(self) -> str:
        what = self.path if self.pattern is None else f"{self.pattern} below {self.path}"
        return f"{'left out of' if self.left_out else 'included in'} {self.collection}: {what}"


@dataclass(frozen=True, slots=True)
class Overview:
    """Counts over a whole catalog; `last_change` is the change log's last position."""

    collections: tuple[CollectionOverview, ...]
    exclusions: tuple[ExclusionOverview, ...]
    contents: int
    regions: int
    captions: int
    embeddings: int
    last_change: int


def read_overview(catalog: Catalog) -> Overview:
    """Count over the whole catalog."""
    asset, collection = schema.asset.c, schema.collection.c
    with catalog.database.reading() as connection:
        rows = connection.execute(
            select(collection.id, collection.name).order_by(collection.name)
        ).all()
        ids = [row.id for row in rows]
        # Two indexes have them all; no other is as small.
        live_assets, trashed, failed = (
            count_by_collection(connection, ids, condition)
            for condition in (
                asset.deleted_at.is_(None),
                asset.deleted_at.is_not(None),
                asset.failure.is_not(None),
            )
        )
        live = live_pipeline(connection)
        contents, regions, captions, embeddings = (
            int(connection.execute(_count(table, live)).scalar_one())
            for table in (schema.content, schema.region, schema.caption, schema.embedding)
        )
        position = last_position(connection)
        exclusion = schema.exclusion.c
        said = connection.execute(
            select(collection.name, exclusion.path, exclusion.pattern, exclusion.is_left_out)
            .join_from(schema.exclusion, schema.collection)
            .order_by(exclusion.id)
        ).all()
    return Overview(
        tuple(
            CollectionOverview(
                row.name,
                live_assets.get(row.id, 0) + trashed.get(row.id, 0) - failed.get(row.id, 0),
                failed.get(row.id, 0),
            )
            for row in rows
        ),
        tuple(
            ExclusionOverview(
                row.name,
                uri_of_path(bytes(row.path)),
                None if row.pattern is None else uri_of_path(bytes(row.pattern)),
                row.is_left_out,
            )
            for row in said
        ),
        contents,
        regions,
        captions,
        embeddings,
        position,
    )


@dataclass(frozen=True, slots=True)
class VisibleCounts:
    """Counts over the collections that a caller may see, without the trash."""

    assets: int
    contents: int
    regions: int
    captions: int
    embeddings: int


def count_visible(catalog: Catalog, visible: Sequence[str] | None) -> VisibleCounts:
    """Count over the collections with these names, None for all."""
    asset = schema.asset.c
    chosen = select(asset.content_id).where(
        asset.deleted_at.is_(None), asset.content_id.is_not(None)
    )
    assets = select(func.count()).select_from(schema.asset).where(asset.deleted_at.is_(None))
    if visible is not None:
        collection = schema.collection.c
        ids = select(collection.id).where(collection.name.in_(visible))
        chosen = chosen.where(asset.collection_id.in_(ids))
        assets = assets.where(asset.collection_id.in_(ids))
    with catalog.database.reading() as connection:
        live = live_pipeline(connection)
        contents, regions, captions, embeddings = (
            int(connection.execute(_count(table, live).where(column.in_(chosen))).scalar_one())
            for table, column in (
                (schema.content, schema.content.c.id),
                (schema.region, schema.region.c.content_id),
                (schema.caption, schema.caption.c.content_id),
                (schema.embedding, schema.embedding.c.content_id),
            )
        )
        return VisibleCounts(
            int(connection.execute(assets).scalar_one()), contents, regions, captions, embeddings
        )


def _count(table: Table, live: StoredPipeline | None) -> Select[Any]:
    counted = select(func.count()).select_from(table)
    if table is schema.embedding:
        counted = select(func.coalesce(func.sum(table.c.vector_count), 0))
    if "pipeline_id" not in table.c:
        return counted
    return counted.where(table.c.pipeline_id == (-1 if live is None else live.id))
