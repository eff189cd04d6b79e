"""Converts embeddings of homes made before revision 0008, which had one row for each vector.

That revision renames the former table. Each step moves the embeddings of some contents in one
transaction, so a conversion that was killed continues when the home is opened again; it cannot be
used before. New ids are above all former ones, so vector indexes are built from position 0.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

from sqlalchemy import Connection, bindparam, inspect, select, text, update

from regard.storage.database import schema
from regard.storage.database.change_log import record_embeddings
from regard.storage.database.embeddings import ids_to_bytes, insert_embeddings

REVISION = "0008"
_FORMER = "former_embedding"
_CONTENTS_AT_ONCE = 256
_NEXT = text(
    f"SELECT DISTINCT content_id FROM {_FORMER} "  # noqa: S608 - these are constants
    f"ORDER BY content_id LIMIT {_CONTENTS_AT_ONCE}"
)
_THESE = f"FROM {_FORMER} WHERE content_id BETWEEN :first AND :last"
_ROWS = text(f"SELECT * {_THESE} ORDER BY content_id, channel_id, id")
_DELETE = text(f"DELETE {_THESE}")


def is_unconverted(connection: Connection) -> bool:
    """Whether former embeddings are left to convert."""
    return inspect(connection).has_table(_FORMER)


def convert_some(connection: Connection) -> bool:
    """Convert the embeddings of the next contents; return False once all are converted."""
    if not is_unconverted(connection):
        return False
    contents = connection.execute(_NEXT).scalars().all()
    if not contents:
        connection.execute(text(f"DROP TABLE {_FORMER}"))
        return False
    these = {"first": contents[0], "last": contents[-1]}
    former = connection.execute(_ROWS, these).all()
    blocks = insert_embeddings(
        connection,
        [
            _row(list(vectors))
            for _, vectors in groupby(former, key=lambda row: (row.content_id, row.channel_id))
        ],
    )
    connection.execute(_DELETE, these)
    _compress_masks(connection, contents[0], contents[-1])
    record_embeddings(connection, blocks, [])
    return True


def _compress_masks(connection: Connection, first: int, last: int) -> None:
    """Write the masks of contents again, which their column then compresses."""
    region = schema.region.c
    masks = connection.execute(
        select(region.id.label("region"), region.mask.label("counts")).where(
            region.content_id.between(first, last)
        )
    ).mappings()
    rows = [dict(row) for row in masks]
    if rows:
        statement = update(schema.region).where(region.id == bindparam("region"))
        connection.execute(statement.values(mask=bindparam("counts")), rows)


def _row(vectors: list[Any]) -> dict[str, object]:
    """The new row for the former rows of a content in a channel."""
    one = vectors[0]
    return {
        "content_id": one.content_id,
        "pipeline_id": one.pipeline_id,
        "channel_id": one.channel_id,
        "vector_count": len(vectors),
        "regions": ids_to_bytes([row.region_id for row in vectors]),
        "captions": ids_to_bytes([row.caption_id for row in vectors]),
        "vectors": b"".join(row.vector for row in vectors),
    }
