"""Writes and reads analyses: regions, captions and vectors of a content by one pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, insert, select

from regard.core.geometry import Box, Mask
from regard.core.records import Analysis, Channel, Region
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.storable import storable_text
from regard.storage.database.stored_pipelines import StoredPipeline
from regard.storage.database.vector_bytes import to_bytes

_PAGE = 500


@dataclass(frozen=True, slots=True)
class StoredAnalysis:
    """One asset: path bytes, regions, best first, and the caption of the whole image."""

    path: bytes
    regions: tuple[Region, ...]
    caption: str | None


def write_analysis(
    connection: Connection, pipeline: StoredPipeline, content_id: int, analysis: Analysis
) -> list[tuple[int, int]]:
    """Insert an analysis of a content; return (channel id, embedding id) of each embedding.

    Raises ModelError for a vector that an index would refuse.
    """
    owner = {"content_id": content_id, "pipeline_id": pipeline.id}
    connection.execute(insert(schema.analysis).values(**owner))
    region_ids = _insert_all(
        connection,
        schema.region,
        [
            {
                **owner,
                "ordinal": ordinal,
                "x": region.box.x,
                "y": region.box.y,
                "width": region.box.width,
                "height": region.box.height,
                "area": region.area,
                "score": region.score,
                "mask": region.mask.counts,
            }
            for ordinal, region in enumerate(analysis.regions)
        ],
    )
    caption_ids = _insert_all(
        connection,
        schema.caption,
        [
            {
                **owner,
                "region_id": None if caption.region is None else region_ids[caption.region],
                "text": storable_text(caption.text),
                "model": caption.model,
            }
            for caption in analysis.captions
        ],
    )
    channels = [
        pipeline.channels[Channel(embedding.space, embedding.kind)]
        for embedding in analysis.embeddings
    ]
    embedding_ids = _insert_all(
        connection,
        schema.embedding,
        [
            {
                **owner,
                "channel_id": stored.id,
                "region_id": None if item.region is None else region_ids[item.region],
                "caption_id": None if item.caption is None else caption_ids[item.caption],
                "vector": to_bytes(item.vector, stored.dimension),
            }
            for stored, item in zip(channels, analysis.embeddings, strict=True)
        ],
    )
    return [
        (stored.id, embedding_id)
        for stored, embedding_id in zip(channels, embedding_ids, strict=True)
    ]


def page_of_assets(
    connection: Connection, collection: str, after: int, limit: int
) -> Sequence[Any]:
    """The next indexed assets of a collection: id, path, content_id, width and height."""
    asset, content = schema.asset.c, schema.content.c
    return connection.execute(
        select(asset.id, asset.path, asset.content_id, content.width, content.height)
        .join_from(schema.asset, schema.content, content.id == asset.content_id)
        .join(schema.collection, schema.collection.c.id == asset.collection_id)
        .where(schema.collection.c.name == collection, asset.id > after)
        .order_by(asset.id)
        .limit(limit)
    ).all()


def read_analyses(
    catalog: Catalog, pipeline: StoredPipeline, collection: str
) -> Iterator[StoredAnalysis]:
    """The indexed assets of a collection, ordered by id, read page by page."""
    after = 0
    while True:
        with catalog.database.reading() as connection:
            rows = page_of_assets(connection, collection, after, _PAGE)
            sizes = {row.content_id: (row.height, row.width) for row in rows}
            regions = read_regions(connection, pipeline, sizes)
            captions = _captions(connection, pipeline, list(sizes))
        for row in rows:
            yield StoredAnalysis(
                path=bytes(row.path),
                regions=tuple(regions.get(row.content_id, {}).values()),
                caption=captions.get(row.content_id),
            )
        if len(rows) < _PAGE:
            return
        after = rows[-1].id


def _insert_all(connection: Connection, table: Table, rows: list[dict[str, object]]) -> list[int]:
    if not rows:
        return []
    statement = insert(table).returning(table.c.id, sort_by_parameter_order=True)
    return [int(value) for value in connection.execute(statement, rows).scalars()]


def read_regions(
    connection: Connection, pipeline: StoredPipeline, sizes: Mapping[int, tuple[int, int]]
) -> dict[int, dict[int, Region]]:
    """Regions by content and id, best first; `sizes` are (height, width) by content."""
    region = schema.region.c
    found: dict[int, dict[int, Region]] = {}
    for row in connection.execute(
        select(schema.region)
        .where(region.content_id.in_(sizes), region.pipeline_id == pipeline.id)
        .order_by(region.content_id, region.ordinal)
    ):
        mask = Mask(*sizes[row.content_id], bytes(row.mask))
        box = Box(row.x, row.y, row.width, row.height)
        found.setdefault(row.content_id, {})[row.id] = Region(box, mask, row.area, row.score)
    return found


def _captions(
    connection: Connection, pipeline: StoredPipeline, contents: list[int]
) -> dict[int, str]:
    caption = schema.caption.c
    rows = connection.execute(
        select(caption.content_id, caption.text)
        .where(
            caption.content_id.in_(contents),
            caption.pipeline_id == pipeline.id,
            caption.region_id.is_(None),
        )
        .order_by(caption.id.desc())
    )
    return {row.content_id: row.text for row in rows}
