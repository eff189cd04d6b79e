"""The logs of changed embeddings and assets, numbered in the order of becoming visible.

The numbers come from counters at the end of a transaction, so a reader of a counter sees all
entries up to it. An entry of the embedding log is about one row of `embedding`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, and_, delete, func, insert, literal, select

from regard.core.records import Int64Array
from regard.storage.database import schema
from regard.storage.database.clock import utc_now
from regard.storage.database.connection import Database, insert_many
from regard.storage.database.counters import (
    ASSETS,
    CHANGES,
    PRUNED,
    advance,
    counter_value,
    lost_counter,
)
from regard.storage.database.embeddings import EmbeddingBlock, Embeddings, unpack
from regard.storage.database.stored_pipelines import StoredChannel

# As text, because every search reads it and building the expression takes longer than running it.
_ALL_COUNTERS = "SELECT name, value FROM counter"


@dataclass(frozen=True, slots=True)
class ChangeBatch:
    """Net changes of one channel: embeddings to add, ids to remove, complete up to `through`."""

    added: Embeddings
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
    added: Sequence[EmbeddingBlock],
    removed: Sequence[EmbeddingBlock],
    assets: Sequence[AssetEvent] = (),
) -> None:
    """Log added and removed embeddings and the events of assets.

    Must be the last statement of its transaction.
    """
    _record_assets(connection, assets)
    record_embeddings(connection, added, removed)


def record_embeddings(
    connection: Connection, added: Sequence[EmbeddingBlock], removed: Sequence[EmbeddingBlock]
) -> None:
    """Log embeddings that do not change assets: those of a pipeline that is not live.

    Must be the last statement of its transaction.
    """
    count = len(added) + len(removed)
    if not count:
        return
    first = advance(connection, CHANGES, count) - count + 1
    entries = [*((block, False) for block in removed), *((block, True) for block in added)]
    insert_many(
        connection,
        schema.change,
        [
            {
                "position": position,
                "channel_id": block.channel,
                "embedding_id": block.first,
                "vector_count": block.count,
                "added": is_addition,
            }
            for position, (block, is_addition) in enumerate(entries, first)
        ],
    )


def _record_assets(connection: Connection, events: Sequence[AssetEvent]) -> None:
    # At least one step, so that cached filters are read again.
    step = max(1, len(events))
    position = advance(connection, ASSETS, step) - step
    if events:
        now = utc_now()
        insert_many(
            connection,
            schema.asset_change,
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
    position = advance(connection, ASSETS, max(1, count)) - max(1, count)
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
    advance(connection, PRUNED, count)
    return count


def pruned_positions(connection: Connection) -> int:
    """How many entries of the embedding log were deleted together with their pipelines."""
    return counter_value(connection, PRUNED)


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """The last positions of both logs that a transaction sees; later ones are greater."""

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
    for name in (CHANGES, ASSETS):
        if name not in values:
            raise lost_counter(name)
    return Moment(values[CHANGES], values[ASSETS])


def last_position(connection: Connection) -> int:
    """The last visible position; all earlier ones are visible too."""
    return counter_value(connection, CHANGES)


def assets_version(connection: Connection) -> int:
    """A number that grows with every change of assets; caches are valid while it is equal."""
    return counter_value(connection, ASSETS)


def read_changes(
    connection: Connection, channel: StoredChannel, after: int, visible: int, limit: int
) -> ChangeBatch:
    """Changes of a channel after a position: entries of up to `limit` vectors, at least one.

    `through` is the last visible position if there are no more. Embeddings that were added and then
    deleted are only listed as removed.
    """
    change, embedding = schema.change.c, schema.embedding.c
    coming = and_(change.channel_id == channel.id, change.position > after)
    entries = connection.execute(
        select(change.position, change.vector_count)
        .where(coming, change.position <= visible)
        .order_by(change.position)
        .limit(limit)
    ).all()
    through, taken = visible, 0
    for place, entry in enumerate(entries):
        taken += entry.vector_count
        if place and taken > limit:
            break
        through = entry.position
    else:
        through = visible if len(entries) < limit else through
    rows = connection.execute(
        select(
            *(change.embedding_id, change.added, change.vector_count.label("logged")),
            *(embedding.id, embedding.content_id, embedding.vector_count),
            *(embedding.regions, embedding.vectors),
        )
        .join_from(
            schema.change,
            schema.embedding,
            and_(change.added.is_(True), embedding.id == change.embedding_id),
            isouter=True,
        )
        .where(coming, change.position <= through)
        .order_by(change.position)
    ).all()
    removed = [
        np.arange(row.embedding_id, row.embedding_id + row.logged) for row in rows if not row.added
    ]
    return ChangeBatch(
        unpack([row for row in rows if row.id is not None], channel.dimension),
        np.concatenate(removed).astype(np.int64) if removed else np.zeros(0, np.int64),
        int(through),
    )
