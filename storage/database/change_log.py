"""The logs of changed embeddings and assets, numbered in the order of becoming visible.

A database sequence can commit numbers out of order: a reader that has seen 7 would miss a 6 that
commits later. Here the numbers come from one counter row at the end of a transaction, and that row
stays locked until commit. A reader of the counter therefore sees all positions up to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, and_, delete, func, insert, literal, select, update

from regard.core.errors import HomeError
from regard.core.records import Float32Array, Int64Array
from regard.storage.database import schema
from regard.storage.database.clock import utc_now
from regard.storage.database.connection import Database
from regard.storage.database.vector_bytes import from_bytes

_POSITION = "change"
_ASSETS = "assets"
# How many entries were deleted together with their pipelines.
_PRUNED = "pruned"
COUNTERS = (_POSITION, _ASSETS, _PRUNED)
# As text, because every search reads it and building the expression takes longer than running it.
_ALL_COUNTERS = "SELECT name, value FROM counter"


@dataclass(frozen=True, slots=True)
class ChangeBatch:
    """Net changes of one channel: rows to add, rows to remove, complete up to `through`."""

    added_ids: Int64Array
    added_vectors: Float32Array
    removed_ids: Int64Array
    through: int


@dataclass(frozen=True, slots=True)
class AssetEvent:
    """What a transaction did to an asset: "added", "changed" or "removed"."""

    asset: int
    collection: int
    kind: str


def record_changes(
    connection: Connection,
    added: Sequence[tuple[int, int]],
    removed: Sequence[tuple[int, int]],
    assets: Sequence[AssetEvent] = (),
) -> None:
    """Log added and removed (channel id, embedding id) pairs and the events of assets.

    Must be the last statement of its transaction.
    """
    _record_assets(connection, assets)
    record_embeddings(connection, added, removed)


def record_embeddings(
    connection: Connection, added: Sequence[tuple[int, int]], removed: Sequence[tuple[int, int]]
) -> None:
    """Log embeddings that do not change assets: those of a pipeline that is not live.

    Must be the last statement of its transaction.
    """
    count = len(added) + len(removed)
    if not count:
        return
    position = _advance(connection, _POSITION, count) - count
    rows = []
    for pairs, is_addition in ((removed, False), (added, True)):
        for channel_id, embedding_id in pairs:
            position += 1
            rows.append(
                {
                    "position": position,
                    "channel_id": channel_id,
                    "embedding_id": embedding_id,
                    "added": is_addition,
                }
            )
    connection.execute(insert(schema.change), rows)


def _record_assets(connection: Connection, events: Sequence[AssetEvent]) -> None:
    # At least one step, so that cached filters are read again.
    step = max(1, len(events))
    position = _advance(connection, _ASSETS, step) - step
    if events:
        now = utc_now()
        connection.execute(
            insert(schema.asset_change),
            [
                {
                    "position": position + number,
                    "asset_id": event.asset,
                    "collection_id": event.collection,
                    "kind": event.kind,
                    "changed_at": now,
                }
                for number, event in enumerate(events, start=1)
            ],
        )


def record_all_changed(connection: Connection) -> None:
    """Log a change of all assets with a content; the last statement of its transaction."""
    asset = schema.asset.c
    is_live = and_(asset.content_id.is_not(None), asset.deleted_at.is_(None))
    count = connection.execute(
        select(func.count()).select_from(schema.asset).where(is_live)
    ).scalar_one()
    position = _advance(connection, _ASSETS, max(1, count)) - max(1, count)
    number = func.row_number().over(order_by=asset.id)
    now = literal(utc_now())
    connection.execute(
        insert(schema.asset_change).from_select(
            ["position", "asset_id", "collection_id", "kind", "changed_at"],
            # The transaction that adds an asset after the count logs it.
            select(number + position, asset.id, asset.collection_id, literal("changed"), now)
            .where(is_live)
            .order_by(asset.id)
            .limit(count),
        )
    )


def forget_channels(connection: Connection, channels: Sequence[int], limit: int) -> int:
    """Delete up to `limit` entries of channels; return how many were deleted."""
    change = schema.change.c
    oldest = (
        select(change.position)
        .where(change.channel_id.in_(channels))
        .order_by(change.position)
        .limit(limit)
    )
    count = connection.execute(delete(schema.change).where(change.position.in_(oldest))).rowcount
    _advance(connection, _PRUNED, count)
    return count


def pruned_positions(connection: Connection) -> int:
    """How many entries of the embedding log were deleted together with their pipelines."""
    return _value(connection, _PRUNED)


@dataclass(frozen=True, slots=True)
class Moment:
    """The last positions of both logs that a transaction sees."""

    embeddings: int
    assets: int


def moment(connection: Connection) -> Moment:
    """Read `last_position` and `assets_version` in one statement."""
    return _moment_of(connection.exec_driver_sql(_ALL_COUNTERS))


def moment_now(database: Database) -> Moment:
    """Read the same without a transaction."""
    return _moment_of(database.read_once(_ALL_COUNTERS))


def _moment_of(counters: Iterable[Iterable[Any]]) -> Moment:
    values = {name: int(value) for name, value in counters}
    return Moment(
        _present(values.get(_POSITION), _POSITION), _present(values.get(_ASSETS), _ASSETS)
    )


def last_position(connection: Connection) -> int:
    """The last visible position; all earlier ones are visible too."""
    return _value(connection, _POSITION)


def assets_version(connection: Connection) -> int:
    """A number that grows with every change of assets; caches are valid while it is equal."""
    return _value(connection, _ASSETS)


def read_changes(
    connection: Connection, channel_id: int, dimension: int, after: int, limit: int
) -> ChangeBatch:
    """Up to `limit` changes of a channel after a position.

    `through` is the last visible position if there are no more. An embedding that was added and
    then deleted is only listed as removed.
    """
    visible = last_position(connection)
    rows = connection.execute(
        select(
            schema.change.c.position,
            schema.change.c.embedding_id,
            schema.change.c.added,
            schema.embedding.c.vector,
        )
        .join_from(
            schema.change,
            schema.embedding,
            schema.embedding.c.id == schema.change.c.embedding_id,
            isouter=True,
        )
        .where(
            schema.change.c.channel_id == channel_id,
            schema.change.c.position > after,
            schema.change.c.position <= visible,
        )
        .order_by(schema.change.c.position)
        .limit(limit)
    ).all()
    added = [row for row in rows if row.added and row.vector is not None]
    removed = [row.embedding_id for row in rows if not row.added]
    return ChangeBatch(
        added_ids=np.asarray([row.embedding_id for row in added], dtype=np.int64),
        added_vectors=from_bytes([row.vector for row in added], dimension),
        removed_ids=np.asarray(removed, dtype=np.int64),
        through=int(rows[-1].position) if len(rows) == limit else visible,
    )


def _advance(connection: Connection, name: str, by: int) -> int:
    return int(
        connection.execute(
            update(schema.counter)
            .where(schema.counter.c.name == name)
            .values(value=schema.counter.c.value + by)
            .returning(schema.counter.c.value)
        ).scalar_one()
    )


def _value(connection: Connection, name: str) -> int:
    value = connection.execute(
        select(schema.counter.c.value).where(schema.counter.c.name == name)
    ).scalar_one_or_none()
    return int(_present(value, name))


def _present(value: int | None, name: str) -> int:
    if value is None:
        raise HomeError(
            f"the catalog is damaged: it has lost its counter of {name}",
            remedy="restore the database from a backup, or choose another --home",
        )
    return value
