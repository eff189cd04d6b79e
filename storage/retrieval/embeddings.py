"""The owners of embeddings, and the embeddings that pass a filter; both cached.

An embedding's id is never reused and its owner never changes, so an owner read once stays valid. A
deleted embedding may keep its owner here: the indexes have dropped it, and hits of deleted
contents are left out.

The embeddings that pass a filter are those whose content has an asset that passes. They are kept
for the last filters until assets change. Either the contents that pass or those that do not are
listed, whichever are fewer, so that neither a narrow filter nor a wide one reads much.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
from sqlalchemy import BigInteger, Connection, Select, bindparam, distinct, exists, func, select

from regard.core.catalog import Owners
from regard.core.errors import NotFound
from regard.core.filters import AssetFilter
from regard.core.idset import IdSet
from regard.core.records import Channel, Int64Array
from regard.storage.assets.filters import passes
from regard.storage.database import schema
from regard.storage.database.connection import Database
from regard.storage.database.embeddings import ids_from_bytes
from regard.storage.database.stored_pipelines import StoredPipeline

_PAGE = 10_000
_CACHED_FILTERS = 32
_asset, _content, _embedding = schema.asset.c, schema.content.c, schema.embedding.c
_LATER_OWNERS = (
    select(_embedding.id, _embedding.content_id, _embedding.vector_count, _embedding.regions)
    .where(_embedding.id > bindparam("after", type_=BigInteger))
    .order_by(_embedding.id)
)
_HAS_TRASH = select(exists().where(_asset.deleted_at.is_not(None)))

Allowed = Mapping[Channel, IdSet | None]


class EmbeddingOwners:
    """Reads owners on demand, or all at once; any number of threads may use one.

    Takes 16 bytes for each id up to the largest that was read.
    """

    def __init__(self, database: Database) -> None:
        """Nothing is read yet."""
        self._database = database
        self._growing = threading.Lock()
        # The last embedding whose owner was read.
        self._through = 0
        # Contents and regions by embedding id, 0 where unknown; replaced as a pair when they grow.
        self._table = (np.zeros(1, np.int64), np.zeros(1, np.int64))

    def of(self, embeddings: Int64Array) -> Owners:
        """The owners of embeddings, in their order and shape; negative ids have none."""
        owners = self._known(embeddings)
        if embeddings.size and embeddings.max() > self._through:
            self.preload()
            owners = self._known(embeddings)
        return owners

    def preload(self) -> None:
        """Read the owners of all embeddings that were added since the last call."""
        with self._database.reading() as connection:
            # Ids become visible in order.
            rows = connection.execute(_LATER_OWNERS, {"after": self._through})
            for some in rows.partitions(_PAGE):
                counts = [row.vector_count for row in some]
                regions = [ids_from_bytes(row.regions, row.vector_count) for row in some]
                ids = [np.arange(row.id, row.id + row.vector_count) for row in some]
                self._learn(
                    np.concatenate(ids),
                    contents=np.repeat(np.asarray([row.content_id for row in some]), counts),
                    regions=np.concatenate(regions),
                )

    def _known(self, embeddings: Int64Array) -> Owners:
        contents, regions = self._table
        places = np.where((embeddings > 0) & (embeddings < len(contents)), embeddings, 0)
        # Contents first: a thread that sees one also sees its region, which was written before.
        found = contents[places]
        return Owners(found, regions[places])

    def _learn(
        self,
        ids: Int64Array,
        *,
        contents: Int64Array,
        regions: Int64Array,
    ) -> None:
        with self._growing:
            table = self._table
            if ids.max() >= len(table[0]):
                # Memory pages that are never written to take no memory.
                size = max(int(ids.max()) + 1, len(table[0]) * 3 // 2)
                table = (np.zeros(size, np.int64), np.zeros(size, np.int64))
                for grown, before in zip(table, self._table, strict=True):
                    grown[: len(before)] = before
            # Contents last: an owner counts as known once its content is.
            table[1][ids] = regions
            table[0][ids] = contents
            self._table = table
            self._through = max(self._through, int(ids[-1]))


class PassingEmbeddings:
    """Sets of embeddings by filter, for one pipeline; any number of threads may use one."""

    def __init__(self, pipeline: StoredPipeline) -> None:
        """Nothing is read yet."""
        self._pipeline = pipeline
        self._lock = threading.Lock()
        self._cache: OrderedDict[AssetFilter, tuple[int, Allowed]] = OrderedDict()

    def read(self, connection: Connection, asset_filter: AssetFilter, version: int) -> Allowed:
        """For each channel the embeddings that pass, None for all, as the connection sees them.

        `version` is that of the assets it sees. Raises NotFound for an unknown collection.
        """
        cached = self.cached(asset_filter, version)
        if cached is not None:
            return cached
        allowed = self._read(connection, asset_filter)
        with self._lock:
            # Another thread may have read a later version.
            if asset_filter not in self._cache or self._cache[asset_filter][0] <= version:
                self._cache[asset_filter] = (version, allowed)
                self._cache.move_to_end(asset_filter)
            if len(self._cache) > _CACHED_FILTERS:
                self._cache.popitem(last=False)
        return allowed

    def cached(self, asset_filter: AssetFilter, version: int) -> Allowed | None:
        """What was read at this version of the assets, or None."""
        with self._lock:
            cached = self._cache.get(asset_filter)
            if cached is None or cached[0] != version:
                return None
            self._cache.move_to_end(asset_filter)
            return cached[1]

    def _read(self, connection: Connection, asset_filter: AssetFilter) -> Allowed:
        everything: Allowed = dict.fromkeys(self._pipeline.channels)
        require_collections(connection, asset_filter)
        if asset_filter.is_everything and not connection.execute(_HAS_TRASH).scalar_one():
            return everything
        passing = (
            select(_asset.content_id)
            .join_from(schema.asset, schema.content, _content.id == _asset.content_id)
            .where(passes(asset_filter))
        )
        ids = passing.subquery().c.content_id
        total = connection.execute(select(func.count()).select_from(schema.content)).scalar_one()
        inside = connection.execute(select(func.count(distinct(ids)))).scalar_one()
        if inside == total:
            return everything
        if 2 * inside <= total:
            return self._owned_by(connection, passing, complement=False)
        passed = exists().where(_asset.content_id == _content.id, passes(asset_filter))
        failing = select(_content.id).where(~passed.correlate(schema.content))
        return self._owned_by(connection, failing, complement=True)

    def _owned_by(
        self, connection: Connection, contents: Select[tuple[int]], *, complement: bool
    ) -> Allowed:
        channels = {stored.id: channel for channel, stored in self._pipeline.channels.items()}
        found: dict[int, list[Int64Array]] = {number: [] for number in channels}
        for row in connection.execute(
            select(_embedding.channel_id, _embedding.id, _embedding.vector_count).where(
                _embedding.channel_id.in_(channels), _embedding.content_id.in_(contents)
            )
        ):
            found[row.channel_id].append(np.arange(row.id, row.id + row.vector_count))
        return {
            channel: IdSet(
                np.concatenate([np.zeros(0, np.int64), *found[number]]), complement=complement
            )
            for number, channel in channels.items()
        }


def require_collections(connection: Connection, asset_filter: AssetFilter) -> None:
    """Raise NotFound for a collection that the filter names and that does not exist."""
    named = asset_filter.named_collections
    if not named:
        return
    names = set(connection.execute(select(schema.collection.c.name)).scalars())
    for name in named:
        if name not in names:
            raise NotFound(
                f"no collection is named {name}",
                remedy="the collections are: " + (", ".join(sorted(names)) or "none"),
            )
