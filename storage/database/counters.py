"""Counters of the catalog: positions of the logs, and ids of embeddings.

A database sequence can commit numbers out of order: a reader that has seen 7 would miss a 6 that
commits later. A counter's row stays locked from the first use until commit, so a reader of it sees
everything up to its value.
"""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from regard.core.errors import HomeError
from regard.storage.database import schema

CHANGES = "change"
ASSETS = "assets"
# How many entries of the embedding log were deleted together with their pipelines.
PRUNED = "pruned"
# The last id of a vector that was used.
EMBEDDINGS = "embedding"
COUNTERS = (CHANGES, ASSETS, PRUNED, EMBEDDINGS)


def advance(connection: Connection, name: str, by: int) -> int:
    """Increase a counter and hold it until commit; return its new value; raises HomeError."""
    value = connection.execute(
        update(schema.counter)
        .where(schema.counter.c.name == name)
        .values(value=schema.counter.c.value + by)
        .returning(schema.counter.c.value)
    ).scalar_one_or_none()
    if value is None:
        raise lost_counter(name)
    return int(value)


def counter_value(connection: Connection, name: str) -> int:
    """The value of a counter; raises HomeError if it is lost."""
    value = connection.execute(
        select(schema.counter.c.value).where(schema.counter.c.name == name)
    ).scalar_one_or_none()
    if value is None:
        raise lost_counter(name)
    return int(value)


def lost_counter(name: str) -> HomeError:
    """The error for a counter without a row."""
    return HomeError(
        f"the catalog is damaged: it has lost its counter of {name}",
        remedy="restore the database from a backup, or choose another --home",
    )
