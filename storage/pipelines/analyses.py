"""Writes and reads analyses: regions, captions and vectors of a content by one pipeline."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, select, update

from regard.core.geometry import Box, Mask
from regard.core.records import Analysis, Channel, Embedding, Kind, Region
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.connection import insert_many, next_ids, storable_text
from regard.storage.database.embeddings import (
    ids_to_bytes,
    vectors_to_bytes,
)
from regard.storage.database.stored_pipelines import StoredPipeline

_PAGE = 500


@dataclass(frozen=True, slots=True)
class StoredAnalysis:
    """One asset: path bytes, regions, best first, and the captions of the whole image and of each
    region."""

    path: bytes
    regions: tuple[Region, ...]
    caption: str | None
    region_captions: tuple[str | None, ...]


def write_analyses(
    connection: Connection,
    pipeline: StoredPipeline,
    contents: Sequence[int],
    analyses: Sequence[Analysis],
) -> list[dict[str, object]]:
    """Insert analyses, one for each of the contents, except for their rows of `embedding`.

    The contents of videos get the times that their analyses say. Returns the rows of `embedding`
    for `insert_embeddings`, which locks out other writers and so comes late in a transaction.
    Raises ModelError for a vector that an index would refuse.
    """
    captions: list[dict[str, object]] = []
    embeddings: list[dict[str, object]] = []
    regions: list[dict[str, object]] = []
    region_ids = iter(
        next_ids(connection, schema.region, sum(len(one.regions) for one in analyses))
    )
    caption_ids = iter(
        next_ids(connection, schema.caption, sum(len(one.captions) for one in analyses))
    )
    for content_id, analysis in zip(contents, analyses, strict=True):
        owner = {"content_id": content_id, "pipeline_id": pipeline.id}
        of_regions = list(itertools.islice(region_ids, len(analysis.regions)))
        of_captions = list(itertools.islice(caption_ids, len(analysis.captions)))
        regions += [
            {
                **owner,
                "id": region_id,
                "ordinal": ordinal,
                "x": region.box.x,
                "y": region.box.y,
                "width": region.box.width,
                "height": region.box.height,
                "area": region.area,
                "score": region.score,
                "mask": region.mask.counts,
                "time_ms": region.time_ms,
            }
            for ordinal, (region_id, region) in enumerate(
                zip(of_regions, analysis.regions, strict=True)
            )
        ]
        captions += [
            {
                **owner,
                "id": caption_id,
                "region_id": None if caption.region is None else of_regions[caption.region],
                "text": storable_text(caption.text),
                "model": caption.model,
            }
            for caption_id, caption in zip(of_captions, analysis.captions, strict=True)
        ]
        by_channel: dict[tuple[str, Kind], list[Embedding]] = {}
        for item in analysis.embeddings:
            by_channel.setdefault((item.space, item.kind), []).append(item)
        for channel, items in by_channel.items():
            stored = pipeline.channels[Channel(*channel)]
            embeddings.append(
                {
                    **owner,
                    "channel_id": stored.id,
                    "vector_count": len(items),
                    "regions": ids_to_bytes(
                        [None if item.region is None else of_regions[item.region] for item in items]
                    ),
                    "captions": ids_to_bytes(
                        [
                            None if item.caption is None else of_captions[item.caption]
                            for item in items
                        ]
                    ),
                    "vectors": vectors_to_bytes([item.vector for item in items], stored.dimension),
                }
            )
    owners = [
        {
            "content_id": content_id,
            "pipeline_id": pipeline.id,
            "region_count": len(analysis.regions),
            "caption_count": len(analysis.captions),
            "vector_count": len(analysis.embeddings),
        }
        for content_id, analysis in zip(contents, analyses, strict=True)
    ]
    for table, rows in (
        (schema.analysis, owners),
        (schema.region, regions),
        (schema.caption, captions),
    ):
        insert_many(connection, table, rows)
    for content_id, analysis in sorted(zip(contents, analyses, strict=True), key=itemgetter(0)):
        if analysis.poster_ms is not None:
            connection.execute(
                update(schema.content)
                .where(schema.content.c.id == content_id)
                .values(duration_ms=analysis.duration_ms, poster_ms=analysis.poster_ms)
            )
    return embeddings


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
                caption=captions.get((row.content_id, None)),
                region_captions=tuple(
                    captions.get((row.content_id, region))
                    for region in regions.get(row.content_id, {})
                ),
            )
        if len(rows) < _PAGE:
            return
        after = rows[-1].id


def read_regions(
    connection: Connection, pipeline: StoredPipeline, sizes: Mapping[int, tuple[int, int]]
) -> dict[int, dict[int, Region]]:
    """Regions by content and id, best first, without moments of videos.

    `sizes` are (height, width) by content.
    """
    region = schema.region.c
    found: dict[int, dict[int, Region]] = {}
    for row in connection.execute(
        select(schema.region)
        .where(
            region.content_id.in_(sizes),
            region.pipeline_id == pipeline.id,
            region.time_ms.is_(None),
        )
        .order_by(region.content_id, region.ordinal)
    ):
        mask = Mask(*sizes[row.content_id], bytes(row.mask))
        box = Box(row.x, row.y, row.width, row.height)
        found.setdefault(row.content_id, {})[row.id] = Region(box, mask, row.area, row.score)
    return found


def _captions(
    connection: Connection, pipeline: StoredPipeline, contents: list[int]
) -> dict[tuple[int, int | None], str]:
    """The first caption of each content, and of each region."""
    caption = schema.caption.c
    rows = connection.execute(
        select(caption.content_id, caption.region_id, caption.text)
        .where(caption.content_id.in_(contents), caption.pipeline_id == pipeline.id)
        .order_by(caption.id.desc())
    )
    return {(row.content_id, row.region_id): row.text for row in rows}
