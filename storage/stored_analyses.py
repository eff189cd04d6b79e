"""Reads back what a pipeline wrote about each photograph: its regions with masks, its caption."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, select

from regard.core.geometry import Box
from regard.core.masks import Mask
from regard.core.records import Region
from regard.storage import schema
from regard.storage.catalog import Catalog
from regard.storage.pipelines import StoredPipeline

_PAGE = 500


@dataclass(frozen=True, slots=True)
class StoredAnalysis:
    """One asset: the path's bytes, its regions, best first, and the sentence about the whole of it."""

    path: bytes
    regions: tuple[Region, ...]
    caption: str | None


def read_analyses(
    catalog: Catalog, pipeline: StoredPipeline, collection: str
) -> Iterator[StoredAnalysis]:
    """The indexed assets of a collection in the order of their ids, read page by page."""
    asset, content = schema.asset.c, schema.content.c
    after = 0
    while True:
        with catalog.database.reading() as connection:
            rows = connection.execute(
                select(asset.id, asset.path, asset.content_id, content.width, content.height)
                .join_from(schema.asset, schema.content, content.id == asset.content_id)
                .join(schema.collection, schema.collection.c.id == asset.collection_id)
                .where(schema.collection.c.name == collection, asset.id > after)
                .order_by(asset.id)
                .limit(_PAGE)
            ).all()
            sizes = {row.content_id: (row.height, row.width) for row in rows}
            regions = _regions(connection, pipeline, sizes)
            captions = _captions(connection, pipeline, list(sizes))
        for row in rows:
            yield StoredAnalysis(
                path=bytes(row.path),
                regions=tuple(regions.get(row.content_id, ())),
                caption=captions.get(row.content_id),
            )
        if len(rows) < _PAGE:
            return
        after = rows[-1].id


def _regions(
    connection: Connection, pipeline: StoredPipeline, sizes: dict[int, tuple[int, int]]
) -> dict[int, list[Region]]:
    region = schema.region.c
    found: dict[int, list[Region]] = {}
    for row in connection.execute(
        select(schema.region)
        .where(region.content_id.in_(sizes), region.pipeline_id == pipeline.id)
        .order_by(region.content_id, region.ordinal)
    ):
        mask = Mask(*sizes[row.content_id], bytes(row.mask))
        box = Box(row.x, row.y, row.width, row.height)
        found.setdefault(row.content_id, []).append(Region(box, mask, row.area, row.score))
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
