"""The catalog as search reads it: records of hits and stored vectors.

The records of hits are kept while no asset changes. Every writer advances the version of the
assets in its own transaction, so the same version means the same rows.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, Integer, Select, bindparam, select

from regard.core.assets import Asset, StoredRegion
from regard.core.catalog import HitRecords, SearchCatalog, StoredVectors
from regard.core.errors import NotFound, UnanswerableQuery
from regard.core.filters import AssetFilter
from regard.core.records import Kind
from regard.storage.assets.filters import passes, reads_content
from regard.storage.assets.records import is_analysed, read_assets, read_hits, select_assets
from regard.storage.assets.stacks import is_shown_folded
from regard.storage.assets.texts import read_lines_by_id
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.change_log import moment, moment_now
from regard.storage.database.embeddings import read_embeddings
from regard.storage.database.stored_pipelines import StoredPipeline
from regard.storage.retrieval.passing_contents import require_collections

# Records, of about 2 kB each.
_CACHE_SIZE = 20_000
_MOST_ROWS = 2**31 - 1
_asset, _region = schema.asset.c, schema.region.c


class SqlSearchCatalog(SearchCatalog):
    """Reads for search over one pipeline; any number of threads may use one."""

    def __init__(self, catalog: Catalog, pipeline: StoredPipeline) -> None:
        """Nothing is read yet."""
        self._database = catalog.database
        self._pipeline = pipeline
        self._replacing = threading.Lock()
        self._cache = _HitCache(version=-1)

    def hit_records(
        self, contents: Collection[int], regions: Collection[int], asset_filter: AssetFilter
    ) -> HitRecords:
        kept = self._cache_at(moment_now(self._database).assets).of(asset_filter)
        if any(kept.missing(contents, regions)):
            with self._database.reading() as connection:
                kept = self._cache_at(moment(connection).assets).of(asset_filter)
                unread, unread_regions = kept.missing(contents, regions)
                # Regions are read with their contents, and most pages have new ones.
                of = contents if unread_regions else unread
                found = read_hits(connection, self._pipeline.id, of, unread_regions, asset_filter)
                kept.add(of, unread_regions, found)
        return kept.get(contents, regions)

    def _cache_at(self, version: int) -> _HitCache:
        """The cache of a version of the assets, an empty one where it is of another."""
        with self._replacing:
            if self._cache.version < version or len(self._cache) > _CACHE_SIZE:
                self._cache = _HitCache(version)
            # Another thread may have seen a later version than this one.
            return self._cache if self._cache.version == version else _HitCache(version)

    def newest(
        self,
        asset_filter: AssetFilter,
        offset: int,
        limit: int,
        *,
        oldest_first: bool = False,
        folded: bool = False,
    ) -> list[Asset]:
        # SQLite takes no number of more than 64 bits.
        page = {"offset": min(offset, _MOST_ROWS), "limit": min(limit, _MOST_ROWS)}
        with self._database.reading() as connection:
            require_collections(connection, asset_filter)
            statement = _select_newest(self._pipeline.id, asset_filter, oldest_first, folded)
            return read_assets(connection, statement, page)

    def asset_vectors(self, asset: int) -> StoredVectors:
        with self._database.reading() as connection:
            content = connection.execute(
                select(_asset.content_id).where(_asset.id == asset)
            ).scalar_one_or_none()
            if content is None:
                raise NotFound(
                    f"no indexed photograph has the id a{asset}",
                    remedy="take an id from the hits of: regard search --json",
                )
            return self._vectors(connection, content, None)

    def region_vectors(self, region: int) -> StoredVectors:
        with self._database.reading() as connection:
            content = connection.execute(
                select(_region.content_id).where(
                    _region.id == region, _region.pipeline_id == self._pipeline.id
                )
            ).scalar_one_or_none()
            if content is None:
                if read_lines_by_id(connection, [region]):
                    raise UnanswerableQuery(
                        f"r{region} is a line of text, which has no look to compare",
                        remedy="search for its words, or for its photograph",
                    )
                raise NotFound(
                    f"no region has the id r{region}",
                    remedy="take an id from the hits of: regard search --target region --json",
                )
            return self._vectors(connection, content, region)

    def _vectors(self, connection: Connection, content: int, region: int | None) -> StoredVectors:
        kind = Kind.IMAGE if region is None else Kind.REGION
        vectors = {}
        for channel, stored in self._pipeline.channels.items():
            if channel.kind is not kind:
                continue
            of_content = read_embeddings(connection, stored, [content])
            for place in np.flatnonzero(of_content.regions == (region or 0)):
                vectors[channel] = of_content.vectors[place].astype(np.float32)
        return StoredVectors(content, region, vectors)


@functools.lru_cache(maxsize=64)
def _select_newest(
    pipeline: int, asset_filter: AssetFilter, oldest_first: bool, folded: bool
) -> Select[Any]:
    columns = (_asset.dated_at, _asset.id)
    where = [is_analysed(pipeline), passes(asset_filter)]
    if folded:
        where.append(is_shown_folded(where, reads_content=reads_content(asset_filter)))
    return (
        select_assets(pipeline)
        .where(*where)
        .order_by(*(columns if oldest_first else (column.desc() for column in columns)))
        .offset(bindparam("offset", type_=Integer))
        .limit(bindparam("limit", type_=Integer))
    )


class _HitCache:
    """Records read at one version of the assets, by filter."""

    def __init__(self, version: int) -> None:
        self.version = version
        self._by_filter: dict[AssetFilter, _Records] = {}

    def __len__(self) -> int:
        return sum(1 + len(records) for records in list(self._by_filter.values()))

    def of(self, asset_filter: AssetFilter) -> _Records:
        """The records of a filter; those of regions too, as they are read with assets that pass."""
        return self._by_filter.setdefault(asset_filter, _Records())


class _Records:
    """Records by id, None or nothing for what is not there; threads may add side by side."""

    def __init__(self) -> None:
        self._assets: dict[int, Sequence[Asset]] = {}
        self._regions: dict[int, StoredRegion | None] = {}

    def __len__(self) -> int:
        return len(self._assets) + len(self._regions)

    def missing(
        self, contents: Collection[int], regions: Collection[int]
    ) -> tuple[set[int], set[int]]:
        """The contents and the regions of an answer that have not been read yet."""
        return (
            {content for content in contents if content not in self._assets},
            {region for region in regions if region not in self._regions},
        )

    def get(self, contents: Collection[int], regions: Collection[int]) -> HitRecords:
        """The records of an answer that have been read."""
        assets = {content: self._assets[content] for content in contents}
        found = [self._regions[region] for region in regions]
        return HitRecords(
            {content: records for content, records in assets.items() if records},
            {region.id: region for region in found if region is not None},
        )

    def add(self, contents: Collection[int], regions: Collection[int], records: HitRecords) -> None:
        """Keep what was read of these contents and regions."""
        for content in contents:
            self._assets[content] = records.assets.get(content, ())
        for region in regions:
            self._regions[region] = records.regions.get(region)
