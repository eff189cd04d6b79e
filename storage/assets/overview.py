"""Questions about a whole catalog; regions, captions and embeddings are those of the live pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, false, func, select

from regard.core.filters import AssetFilter
from regard.photos.files import uri_of_path
from regard.storage.assets.collections import count_by_collection
from regard.storage.assets.filters import hidden_contents, passes
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
    """Counts over a whole catalog; `last_change` is the change log's last position.

    `read` counts contents whose text was read, `lines` the lines of text in them.
    """

    collections: tuple[CollectionOverview, ...]
    exclusions: tuple[ExclusionOverview, ...]
    contents: int
    regions: int
    captions: int
    embeddings: int
    read: int
    lines: int
    last_change: int


def read_overview(catalog: Catalog) -> Overview:
    """Count over the whole catalog."""
    asset, collection = schema.asset.c, schema.collection.c
    with catalog.database.reading() as connection:
        rows = connection.execute(
            select(collection.id, collection.name).order_by(collection.name)
        ).all()
        # Two indexes have them all; no other is as small.
        live_assets, trashed, failed = (
            count_by_collection(connection, condition)
            for condition in (
                asset.deleted_at.is_(None),
                asset.deleted_at.is_not(None),
                asset.failure.is_not(None),
            )
        )
        live = live_pipeline(connection)
        regions, captions, embeddings = _owned(connection, live)
        contents = connection.execute(select(func.count()).select_from(schema.content)).scalar_one()
        reading = schema.reading.c
        read, lines = connection.execute(
            select(func.count(), func.coalesce(func.sum(reading.line_count), 0)).where(
                reading.failure.is_(None)
            )
        ).one()
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
        int(read),
        int(lines),
        position,
    )


def first_outside(catalog: Catalog, folders: Sequence[bytes]) -> bytes | None:
    """The path of the first asset that is not managed and lies below none of these folders,
    without the trash; None if there is no such asset."""
    asset = schema.asset.c
    is_below = passes(AssetFilter(path_prefixes=tuple(folders))) if folders else false()
    query = (
        select(asset.path)
        .where(~is_below, asset.managed.is_not(True), asset.deleted_at.is_(None))
        .order_by(asset.id)
        .limit(1)
    )
    with catalog.database.reading() as connection:
        path = connection.execute(query).scalar_one_or_none()
    return None if path is None else bytes(path)


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
    key = None if visible is None else tuple(visible)
    with catalog.database.reading() as connection:
        return catalog.kept_counts.read(
            connection, "visible", key, lambda: _count_visible(connection, visible)
        )


def _count_visible(connection: Connection, visible: Sequence[str] | None) -> VisibleCounts:
    asset, content, analysis = schema.asset.c, schema.content.c, schema.analysis.c
    live = live_pipeline(connection)
    assets = select(func.count()).select_from(schema.asset).where(asset.deleted_at.is_(None))
    contents = select(func.count()).select_from(schema.content)
    if visible is None:
        # Those that are not shown are fewer: all their assets are in the trash.
        hidden = hidden_contents()
        hidden_owned = _owned(connection, live, analysis.content_id.in_(hidden))
        hidden_count = connection.execute(contents.where(content.id.in_(hidden))).scalar_one()
        owned = [
            total - of_hidden
            for total, of_hidden in zip(_owned(connection, live), hidden_owned, strict=True)
        ]
        count = connection.execute(contents).scalar_one() - hidden_count
    else:
        collection = schema.collection.c
        ids = select(collection.id).where(collection.name.in_(visible))
        assets = assets.where(asset.collection_id.in_(ids))
        chosen = select(asset.content_id).where(
            asset.deleted_at.is_(None), asset.failure.is_(None), asset.collection_id.in_(ids)
        )
        owned = [*_owned(connection, live, analysis.content_id.in_(chosen))]
        count = connection.execute(contents.where(content.id.in_(chosen))).scalar_one()
    return VisibleCounts(connection.execute(assets).scalar_one(), count, *owned)


def _owned(
    connection: Connection, live: StoredPipeline | None, *conditions: ColumnElement[bool]
) -> tuple[int, int, int]:
    """How many regions, captions and vectors the live pipeline's analyses have."""
    analysis = schema.analysis.c
    columns = analysis.region_count, analysis.caption_count, analysis.vector_count
    regions, captions, vectors = connection.execute(
        select(*(func.coalesce(func.sum(column), 0) for column in columns)).where(
            analysis.pipeline_id == (-1 if live is None else live.id), *conditions
        )
    ).one()
    return int(regions), int(captions), int(vectors)
