"""Which embeddings a filter lets through: those whose content has an asset that passes.

Kept for the filters asked last, until assets change. Of the contents that pass and those that do not the
fewer are listed, so that neither a narrow filter nor a wide one reads much.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
from sqlalchemy import Connection, Select, distinct, exists, func, select

from regard.core.errors import NotFound
from regard.core.filters import AssetFilter
from regard.core.idset import IdSet
from regard.core.records import Channel
from regard.storage.assets.filters import passes
from regard.storage.database import schema
from regard.storage.pipelines.stored import StoredPipeline

_KEPT = 32
_asset, _content, _embedding = schema.asset.c, schema.content.c, schema.embedding.c
_TRASH = select(exists().where(_asset.deleted_at.is_not(None)))

Allowed = Mapping[Channel, IdSet | None]


class PassingEmbeddings:
    """Sets of embeddings by filter, for the channels of one pipeline and any number of threads."""

    def __init__(self, pipeline: StoredPipeline) -> None:
        """Nothing is read yet."""
        self._pipeline = pipeline
        self._lock = threading.Lock()
        self._kept: OrderedDict[AssetFilter, tuple[int, Allowed]] = OrderedDict()

    def of(self, connection: Connection, chosen: AssetFilter, version: int) -> Allowed:
        """For each channel the embeddings that pass, None for all, at the connection's moment.

        `version` is that of the assets then. Raises NotFound for an unknown collection.
        """
        kept = self.kept(chosen, version)
        if kept is not None:
            return kept
        allowed = self._read(connection, chosen)
        with self._lock:
            # Another thread may have read at a later moment.
            if chosen not in self._kept or self._kept[chosen][0] <= version:
                self._kept[chosen] = (version, allowed)
                self._kept.move_to_end(chosen)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return allowed

    def kept(self, chosen: AssetFilter, version: int) -> Allowed | None:
        """What was read at that version of the assets, so that no look at the catalog is needed."""
        with self._lock:
            kept = self._kept.get(chosen)
            if kept is None or kept[0] != version:
                return None
            self._kept.move_to_end(chosen)
            return kept[1]

    def _read(self, connection: Connection, chosen: AssetFilter) -> Allowed:
        everything: Allowed = dict.fromkeys(self._pipeline.channels)
        require_collections(connection, chosen)
        if chosen.is_everything and not connection.execute(_TRASH).scalar_one():
            return everything
        passing = (
            select(_asset.content_id)
            .join_from(schema.asset, schema.content, _content.id == _asset.content_id)
            .where(passes(chosen))
        )
        ids = passing.subquery().c.content_id
        total = connection.execute(select(func.count()).select_from(schema.content)).scalar_one()
        inside = connection.execute(select(func.count(distinct(ids)))).scalar_one()
        if inside == total:
            return everything
        if 2 * inside <= total:
            return self._owned_by(connection, passing, complement=False)
        passed = exists().where(_asset.content_id == _content.id, passes(chosen))
        failing = select(_content.id).where(~passed.correlate(schema.content))
        return self._owned_by(connection, failing, complement=True)

    def _owned_by(
        self, connection: Connection, contents: Select[tuple[int]], *, complement: bool
    ) -> Allowed:
        channels = {stored.id: channel for channel, stored in self._pipeline.channels.items()}
        rows = connection.execute(
            select(_embedding.channel_id, _embedding.id).where(
                _embedding.channel_id.in_(channels), _embedding.content_id.in_(contents)
            )
        ).all()
        table = np.asarray([tuple(row) for row in rows], dtype=np.int64).reshape(-1, 2)
        return {
            channel: IdSet(table[table[:, 0] == number, 1], complement=complement)
            for number, channel in channels.items()
        }


def require_collections(connection: Connection, chosen: AssetFilter) -> None:
    """Raise NotFound for a collection that a filter names and nobody made."""
    named = chosen.named_collections
    if not named:
        return
    names = set(connection.execute(select(schema.collection.c.name)).scalars())
    for name in named:
        if name not in names:
            raise NotFound(
                f"no collection is named {name}",
                remedy="the collections are: " + (", ".join(sorted(names)) or "none"),
            )
