"""Reads back the regions of photographs with their masks and vectors, and the vector of the whole."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection, and_, select

from regard.core.errors import HomeError
from regard.core.geometry import Box, Mask
from regard.core.records import Channel, Float32Array, Kind, Region
from regard.storage.database import schema
from regard.storage.database.vector_bytes import from_bytes
from regard.storage.pipelines.analyses import page_of_assets
from regard.storage.pipelines.catalog import Catalog
from regard.storage.pipelines.stored import StoredPipeline

_PAGE = 50


@dataclass(frozen=True, slots=True, eq=False)
class StoredSegments:
    """One asset: the path's bytes, its size in pixels, its regions, best first, and vectors by space.

    `region_vectors` are (regions, d), `image_vector` (1, d).
    """

    path: bytes
    height: int
    width: int
    regions: tuple[Region, ...]
    region_vectors: Mapping[str, Float32Array]
    image_vector: Mapping[str, Float32Array]


def read_segments(
    catalog: Catalog, pipeline: StoredPipeline, collection: str, spaces: Collection[str]
) -> Iterator[StoredSegments]:
    """The indexed assets of a collection in the order of their ids, read page by page.

    Raises HomeError when a region or a content lacks its vector.
    """
    after = 0
    while True:
        with catalog.database.reading() as connection:
            rows = page_of_assets(connection, collection, after, _PAGE)
            contents = sorted({row.content_id for row in rows})
            images = {
                space: _image_vectors(connection, pipeline, space, contents) for space in spaces
            }
            found = {space: _regions(connection, pipeline, space, contents) for space in spaces}
        for row in rows:
            regions: tuple[Region, ...] = ()
            vectors, image = {}, {}
            for space in spaces:
                of_content = found[space].get(row.content_id, [])
                dimension = pipeline.channels[Channel(space, Kind.REGION)].dimension
                regions = tuple(_region(one, row.height, row.width) for one in of_content)
                vectors[space] = _matrix([one.vector for one in of_content], dimension)
                image[space] = _matrix([images[space].get(row.content_id)], dimension)
            yield StoredSegments(bytes(row.path), row.height, row.width, regions, vectors, image)
        if len(rows) < _PAGE:
            return
        after = rows[-1].id


def _regions(
    connection: Connection, pipeline: StoredPipeline, space: str, contents: Sequence[int]
) -> dict[int, list[_Row]]:
    region, embedding = schema.region.c, schema.embedding.c
    channel = pipeline.channels[Channel(space, Kind.REGION)].id
    found: dict[int, list[_Row]] = {}
    for row in connection.execute(
        select(schema.region, embedding.vector)
        .join_from(
            schema.region,
            schema.embedding,
            and_(embedding.region_id == region.id, embedding.channel_id == channel),
            isouter=True,
        )
        .where(region.content_id.in_(contents), region.pipeline_id == pipeline.id)
        .order_by(region.content_id, region.ordinal)
    ):
        found.setdefault(row.content_id, []).append(
            _Row(
                Box(row.x, row.y, row.width, row.height),
                bytes(row.mask),
                row.area,
                row.score,
                row.vector,
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class _Row:
    """A region as it is stored; its mask has no size yet."""

    box: Box
    counts: bytes
    area: int
    score: float
    vector: bytes | None


def _region(row: _Row, height: int, width: int) -> Region:
    return Region(row.box, Mask(height, width, row.counts), row.area, row.score)


def _image_vectors(
    connection: Connection, pipeline: StoredPipeline, space: str, contents: Sequence[int]
) -> dict[int, bytes]:
    embedding = schema.embedding.c
    channel = pipeline.channels[Channel(space, Kind.IMAGE)].id
    rows = connection.execute(
        select(embedding.content_id, embedding.vector).where(
            embedding.content_id.in_(contents), embedding.channel_id == channel
        )
    )
    return {row.content_id: bytes(row.vector) for row in rows}


def _matrix(rows: Sequence[bytes | None], dimension: int) -> Float32Array:
    if any(row is None for row in rows):
        raise HomeError("the catalog lacks vectors", remedy="see which with: regard verify")
    if not rows:
        return np.zeros((0, dimension), np.float32)
    return from_bytes([bytes(row) for row in rows if row is not None], dimension)
