"""Reads the regions of many photographs with their masks and vectors, page by page."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, select

from regard.core.errors import HomeError
from regard.core.filters import AssetFilter
from regard.core.records import Channel, Float32Array, Kind, Region
from regard.core.same_objects import ContentRegions
from regard.storage.assets.filters import passes
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.connection import in_batches
from regard.storage.database.embeddings import read_embeddings
from regard.storage.database.stored_pipelines import StoredPipeline
from regard.storage.pipelines.analyses import page_of_assets, read_regions

_PAGE = 200
_asset, _content, _region = schema.asset.c, schema.content.c, schema.region.c


class SqlRegions:
    """The regions that one pipeline made."""

    def __init__(self, catalog: Catalog, pipeline: StoredPipeline) -> None:
        """Nothing is read yet."""
        self._database = catalog.database
        self._pipeline = pipeline

    def content_regions(self, asset_filter: AssetFilter) -> Iterator[ContentRegions]:
        """Contents with an asset that passes the filter, by id, read page by page."""
        after = 0
        while True:
            with self._database.reading() as connection:
                rows = connection.execute(
                    select(_content.id, _content.width, _content.height)
                    .join_from(schema.content, schema.asset, _asset.content_id == _content.id)
                    .where(passes(asset_filter), _content.id > after)
                    .distinct()
                    .order_by(_content.id)
                    .limit(_PAGE)
                ).all()
                found = self._with_regions(connection, rows)
            yield from found
            if len(rows) < _PAGE:
                return
            after = rows[-1].id

    def regions_of(self, contents: Collection[int]) -> list[ContentRegions]:
        """The regions of contents, by id; deleted contents are left out."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(_content.id, _content.width, _content.height)
                .where(_content.id.in_(contents))
                .order_by(_content.id)
            ).all()
            return self._with_regions(connection, rows)

    def vectors_of_regions(
        self, channels: Collection[Channel], regions: Sequence[int]
    ) -> Mapping[Channel, Float32Array]:
        """Vectors of regions, (n, d) a channel, in the order asked for; NaN for what has gone."""
        with self._database.reading() as connection:
            return {
                channel: read_region_vectors(connection, self._pipeline, channel, regions)
                for channel in channels
            }

    def _with_regions(
        self, connection: Connection, contents: Sequence[Any]
    ) -> list[ContentRegions]:
        sizes = {row.id: (row.height, row.width) for row in contents}
        found = read_regions(connection, self._pipeline, sizes)
        return [
            ContentRegions(row.id, row.width, row.height, tuple(regions), tuple(regions.values()))
            for row in contents
            for regions in (found.get(row.id, {}),)
        ]


def read_region_vectors(
    connection: Connection, pipeline: StoredPipeline, channel: Channel, regions: Sequence[int]
) -> Float32Array:
    """Vectors of regions, (n, d), in the order given; NaN for a region that has none."""
    contents: set[int] = set()
    for ids in in_batches(regions):
        contents |= set(
            connection.execute(select(_region.content_id).where(_region.id.in_(ids))).scalars()
        )
    stored = pipeline.channels[channel]
    found = read_embeddings(connection, stored, contents)
    vectors = np.full((len(regions), stored.dimension), np.nan, dtype=np.float32)
    rows = {region: row for row, region in enumerate(found.regions.tolist())}
    for place, region in enumerate(regions):
        if region in rows:
            vectors[place] = found.vectors[rows[region]]
    return vectors


@dataclass(frozen=True, slots=True, eq=False)
class StoredSegments:
    """One asset: path bytes, size in pixels, regions, best first, and vectors by space.

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
    """The indexed assets of a collection, ordered by id, read page by page.

    Raises HomeError when a region or a content lacks its vector.
    """
    after = 0
    while True:
        with catalog.database.reading() as connection:
            rows = page_of_assets(connection, collection, after, _PAGE)
            sizes = {row.content_id: (row.height, row.width) for row in rows}
            found = read_regions(connection, pipeline, sizes)
            ids = [region for regions in found.values() for region in regions]
            vectors = {
                space: read_region_vectors(connection, pipeline, Channel(space, Kind.REGION), ids)
                for space in spaces
            }
            images = {space: _image_vectors(connection, pipeline, space, sizes) for space in spaces}
        places = {region: place for place, region in enumerate(ids)}
        for row in rows:
            regions = found.get(row.content_id, {})
            of_content = [places[region] for region in regions]
            segments = StoredSegments(
                bytes(row.path),
                row.height,
                row.width,
                tuple(regions.values()),
                {space: table[of_content] for space, table in vectors.items()},
                {space: images[space].get(row.content_id, _NO_VECTOR) for space in spaces},
            )
            for table in (*segments.region_vectors.values(), *segments.image_vector.values()):
                if np.isnan(table).any():
                    raise HomeError(
                        "the catalog lacks vectors", remedy="list them with: regard verify"
                    )
            yield segments
        if len(rows) < _PAGE:
            return
        after = rows[-1].id


def read_image_vectors(
    catalog: Catalog, pipeline: StoredPipeline, collection: str, space: str
) -> Iterator[tuple[bytes, Float32Array]]:
    """Path bytes and vector (d,) of the indexed assets of a collection, read page by page."""
    after = 0
    while True:
        with catalog.database.reading() as connection:
            rows = page_of_assets(connection, collection, after, _PAGE)
            vectors = _image_vectors(connection, pipeline, space, {row.content_id for row in rows})
        for row in rows:
            yield bytes(row.path), vectors[row.content_id][0]
        if len(rows) < _PAGE:
            return
        after = rows[-1].id


_NO_VECTOR = np.full((1, 1), np.nan, np.float32)


def _image_vectors(
    connection: Connection, pipeline: StoredPipeline, space: str, contents: Collection[int]
) -> dict[int, Float32Array]:
    found = read_embeddings(connection, pipeline.channels[Channel(space, Kind.IMAGE)], contents)
    vectors = found.vectors.astype(np.float32)[:, np.newaxis]
    return dict(zip(found.contents.tolist(), vectors, strict=True))
