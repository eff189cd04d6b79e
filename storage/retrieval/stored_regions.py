"""Reads back the regions of whole libraries, and their vectors, for comparing one with another.

Both are read in pages: what is held at once does not grow with the library.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from sqlalchemy import Connection, select

from regard.core.filters import AssetFilter
from regard.core.geometry import Box, Mask
from regard.core.records import Channel, Float32Array, Region
from regard.core.same_objects import ContentRegions
from regard.storage.assets.filters import passes
from regard.storage.database import schema
from regard.storage.database.change_log import Moment, moment
from regard.storage.database.vector_bytes import from_bytes
from regard.storage.pipelines.catalog import Catalog
from regard.storage.pipelines.stored import StoredPipeline

_PAGE = 200
# Below the 32,766 parameters that SQLite takes in one statement.
_CHUNK = 10_000


class SqlRegions:
    """Regions that one pipeline made. See `regard.core.same_objects.ObjectCatalog`."""

    def __init__(self, catalog: Catalog, pipeline: StoredPipeline) -> None:
        """Nothing is read yet."""
        self._database = catalog.database
        self._pipeline = pipeline

    def moment(self) -> Moment:
        """Equal to an earlier one as long as no region, asset or collection has changed since."""
        with self._database.reading() as connection:
            return moment(connection)

    def content_regions(self, chosen: AssetFilter) -> Iterator[ContentRegions]:
        """Contents with an asset that passes the filter, by id, read page by page."""
        asset, content = schema.asset.c, schema.content.c
        after = 0
        while True:
            with self._database.reading() as connection:
                rows = connection.execute(
                    select(content.id, content.width, content.height)
                    .join_from(schema.content, schema.asset, asset.content_id == content.id)
                    .where(passes(chosen), content.id > after)
                    .distinct()
                    .order_by(content.id)
                    .limit(_PAGE)
                ).all()
                sizes = {row.id: (row.height, row.width) for row in rows}
                found = self._regions(connection, sizes)
            for row in rows:
                ids, regions = found.get(row.id, ([], []))
                yield ContentRegions(row.id, row.width, row.height, tuple(ids), tuple(regions))
            if len(rows) < _PAGE:
                return
            after = rows[-1].id

    def vectors_of_regions(
        self, channels: Collection[Channel], regions: Sequence[int]
    ) -> Mapping[Channel, Float32Array]:
        """Vectors of regions, (n, d) a channel, in the order asked for; NaN for what has gone."""
        embedding = schema.embedding.c
        places = {region: place for place, region in enumerate(regions)}
        ids = list(places)
        vectors = {}
        for channel in channels:
            stored = self._pipeline.channels[channel]
            rows = np.full((len(regions), stored.dimension), np.nan, dtype=np.float32)
            with self._database.reading() as connection:
                for start in range(0, len(ids), _CHUNK):
                    found = connection.execute(
                        select(embedding.region_id, embedding.vector).where(
                            embedding.region_id.in_(ids[start : start + _CHUNK]),
                            embedding.channel_id == stored.id,
                            embedding.caption_id.is_(None),
                        )
                    ).all()
                    if found:
                        rows[[places[row.region_id] for row in found]] = from_bytes(
                            [bytes(row.vector) for row in found], stored.dimension
                        )
            vectors[channel] = rows
        return vectors

    def _regions(
        self, connection: Connection, sizes: Mapping[int, tuple[int, int]]
    ) -> dict[int, tuple[list[int], list[Region]]]:
        region = schema.region.c
        found: dict[int, tuple[list[int], list[Region]]] = {}
        for row in connection.execute(
            select(schema.region)
            .where(region.content_id.in_(sizes), region.pipeline_id == self._pipeline.id)
            .order_by(region.content_id, region.ordinal)
        ):
            ids, regions = found.setdefault(row.content_id, ([], []))
            ids.append(row.id)
            mask = Mask(*sizes[row.content_id], bytes(row.mask))
            box = Box(row.x, row.y, row.width, row.height)
            regions.append(Region(box, mask, row.area, row.score))
        return found
