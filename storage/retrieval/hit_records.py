"""The catalog as a service searches it: each hit comes with all that lists show of its asset.

One look at the catalog instead of two; of a search's time beside the models, a second one would be a tenth.
What was read is kept as long as no asset changes, which every writer says by a number (`moment`) in
its own transaction: whoever sees the same number sees the same rows.
"""

from __future__ import annotations

import threading
from collections.abc import Collection

from sqlalchemy import Connection

from regard.core.catalog import AssetView, RegionView, Views
from regard.core.filters import AssetFilter
from regard.storage.assets.reading import read_records
from regard.storage.database.change_log import moment, moment_now
from regard.storage.pipelines.catalog import Catalog
from regard.storage.pipelines.stored import StoredPipeline
from regard.storage.retrieval.searching import SqlSearchCatalog, region_views

# About 2 kB each.
_KEPT = 20_000


class SqlHitRecords(SqlSearchCatalog):
    """A search catalog whose views hold records, for any number of threads.

    See `regard.core.catalog.AssetView`.
    """

    def __init__(self, catalog: Catalog, pipeline: StoredPipeline) -> None:
        """Nothing is read yet."""
        super().__init__(catalog, pipeline)
        self._replacing = threading.Lock()
        self._kept = _Kept(version=-1)

    def views(
        self, contents: Collection[int], regions: Collection[int], chosen: AssetFilter
    ) -> Views:
        """The assets of each content that pass the filter, with their records; and regions."""
        kept = self._kept_at(moment_now(self._database).assets)
        views = kept.views(contents, regions, chosen)
        if views is not None:
            return views
        with self._database.reading() as connection:
            kept = self._kept_at(moment(connection).assets)
            assets = kept.assets.setdefault(chosen, {})
            unread = [content for content in contents if content not in assets]
            if unread:
                read = self._asset_views(connection, unread, chosen)
                assets.update({content: read.get(content, []) for content in unread})
            unread = [region for region in regions if region not in kept.regions]
            if unread:
                found = region_views(connection, unread)
                kept.regions.update({region: found.get(region) for region in unread})
        views = kept.views(contents, regions, chosen)
        assert views is not None, "what is kept is never dropped bit by bit"
        return views

    def _kept_at(self, version: int) -> _Kept:
        """What is kept of the moment of a version; nothing yet where that is another one."""
        with self._replacing:
            if self._kept.version < version or self._kept.count > _KEPT:
                self._kept = _Kept(version)
            # Another thread may have seen a later moment than this one.
            return self._kept if self._kept.version == version else _Kept(version)

    def _asset_views(
        self, connection: Connection, contents: Collection[int], chosen: AssetFilter
    ) -> dict[int, list[AssetView]]:
        assets: dict[int, list[AssetView]] = {}
        for record in read_records(connection, self._pipeline.id, contents, chosen):
            if record.content_id is not None:
                view = AssetView(
                    record.id,
                    record.content_id,
                    record.uri,
                    record.path,
                    record.width or 0,
                    record.height or 0,
                    record.caption,
                    record,
                )
                assets.setdefault(record.content_id, []).append(view)
        return assets


class _Kept:
    """What was read at one moment: assets by filter and content, regions by id; None is not there."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.assets: dict[AssetFilter, dict[int, list[AssetView]]] = {}
        self.regions: dict[int, RegionView | None] = {}

    def views(
        self, contents: Collection[int], regions: Collection[int], chosen: AssetFilter
    ) -> Views | None:
        """The views of an answer; None where some of them were not read yet."""
        assets = self.assets.get(chosen, {})
        try:
            return Views(
                {content: assets[content] for content in contents},
                {region: view for region in regions if (view := self.regions[region]) is not None},
            )
        except KeyError:
            return None

    @property
    def count(self) -> int:
        """How much it is; other threads may add to it meanwhile."""
        return len(self.regions) + sum(1 + len(views) for views in list(self.assets.values()))
