"""The catalog as a service searches it: each hit comes with all that lists show of its asset.

One look at the catalog instead of two; of a search's time beside the models, a second one would be a tenth.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection

from regard.core.catalog import AssetView
from regard.core.filters import AssetFilter
from regard.storage.asset_reading import read_records
from regard.storage.searching import SqlSearchCatalog


class SqlHitRecords(SqlSearchCatalog):
    """A search catalog whose views hold records. See `regard.core.catalog.AssetView`."""

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
