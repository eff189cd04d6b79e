"""Rows of `embedding`: one holds all vectors of one content in one channel.

A vector's id is the row's id plus its place in the row. Ids are taken as blocks from a row of
`counter` that stays locked until commit, so they are never reused and become visible in order.
Vectors are little-endian float16, (n, d); `regions` and `captions` are one little-endian int64 id a
vector, 0 for none, or NULL if no vector has one. Vectors that an index would refuse are never
stored: one would block every index of its channel.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, select

from regard.core.errors import HomeError, ModelError
from regard.core.records import BoolArray, Float16Array, Float32Array, Int64Array
from regard.storage.database import schema
from regard.storage.database.connection import in_batches, insert_many
from regard.storage.database.counters import EMBEDDINGS, advance
from regard.storage.database.stored_pipelines import StoredChannel

# Above 1 by the rounding to float16; the vector indexes use the same bound.
_MAX_NORM = 1.01
# Before that rounding, which adds less than a thousandth.
_MAX_GIVEN_NORM = 1.009
_ID_BYTES = 8
# Rows that are read at a time, of some dozens of vectors each; they bound memory.
_PAGE = 2048


@dataclass(frozen=True, slots=True)
class EmbeddingBlock:
    """A row of `embedding`: its channel, the id of its first vector, and how many it has."""

    channel: int
    first: int
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Vectors (n, d), float16, with the ids of each, of its content and of its region, 0 for none.

    In the order of their rows.
    """

    ids: Int64Array
    contents: Int64Array
    regions: Int64Array
    vectors: Float16Array


def vectors_to_bytes(vectors: Sequence[Float32Array], dimension: int) -> bytes:
    """Bytes of vectors of shape (dimension,).

    Raises ModelError for another shape, or if one is longer than 1 or not finite.
    """
    for vector in vectors:
        if vector.shape != (dimension,):
            raise ModelError(f"a model gave a vector of shape {vector.shape}, not ({dimension},)")
    rows = np.asarray(vectors)
    if not is_sound(rows, _MAX_GIVEN_NORM).all():
        raise ModelError("a model gave a vector that is not normalised")
    return rows.astype("<f2").tobytes()


def ids_to_bytes(ids: Sequence[int | None]) -> bytes | None:
    """Bytes of ids of regions or captions; None if there are none."""
    return np.asarray([one or 0 for one in ids], "<i8").tobytes() if any(ids) else None


def ids_from_bytes(stored: bytes | None, count: int) -> Int64Array:
    """The ids of regions or captions of a row's vectors, 0 for none; raises HomeError."""
    if stored is None:
        return np.zeros(count, np.int64)
    if len(stored) != _ID_BYTES * count:
        raise _damaged()
    return np.frombuffer(stored, "<i8").astype(np.int64, copy=False)


def unpack(rows: Sequence[Any], dimension: int) -> Embeddings:
    """The embeddings of rows with id, content_id, vector_count, regions and vectors.

    Raises HomeError when a row has another number of bytes than its count says.
    """
    counts = np.asarray([row.vector_count for row in rows], np.int64)
    vectors = [row.vectors for row in rows]
    if [len(one) for one in vectors] != (2 * dimension * counts).tolist():
        raise _damaged()
    regions = [
        ids_from_bytes(row.regions, count) for row, count in zip(rows, counts.tolist(), strict=True)
    ]
    ends = counts.cumsum()
    # The ids of each row count up from the row's own.
    before = np.asarray([row.id for row in rows], np.int64) - ends + counts
    return Embeddings(
        ids=(np.repeat(before, counts) + np.arange(counts.sum())).astype(np.int64),
        contents=np.repeat(np.asarray([row.content_id for row in rows], np.int64), counts),
        regions=np.concatenate(regions) if regions else np.zeros(0, np.int64),
        vectors=np.frombuffer(b"".join(vectors), "<f2").reshape(-1, dimension),
    )


def read_embeddings(
    connection: Connection, channel: StoredChannel, contents: Collection[int]
) -> Embeddings:
    """The embeddings of contents in a channel, ordered by id; raises HomeError."""
    table = schema.embedding
    rows: list[Any] = []
    for some in in_batches(contents):
        rows += connection.execute(
            select(table).where(table.c.content_id.in_(some), table.c.channel_id == channel.id)
        )
    return unpack(sorted(rows, key=lambda row: row.id), channel.dimension)


def read_channel(connection: Connection, channel: StoredChannel) -> Iterator[Embeddings]:
    """All embeddings of a channel, ordered by id, some at a time; raises HomeError."""
    embedding = schema.embedding.c
    after = 0
    while True:
        rows = connection.execute(
            select(
                *(embedding.id, embedding.content_id, embedding.vector_count),
                *(embedding.regions, embedding.vectors),
            )
            .where(embedding.channel_id == channel.id, embedding.id > after)
            .order_by(embedding.id)
            .limit(_PAGE)
        ).all()
        if not rows:
            return
        yield unpack(rows, channel.dimension)
        after = rows[-1].id


def insert_embeddings(
    connection: Connection, rows: Sequence[Mapping[str, Any]]
) -> list[EmbeddingBlock]:
    """Insert rows of `embedding` that have an id, or get one here."""
    if not rows:
        return []
    next_id = None
    if needed := sum(row["vector_count"] for row in rows if "id" not in row):
        next_id = advance(connection, EMBEDDINGS, needed) - needed + 1
    numbered: list[Mapping[str, Any]] = []
    for row in rows:
        if "id" in row:
            numbered.append(row)
            continue
        assert next_id is not None
        numbered.append({"id": next_id, **row})
        next_id += row["vector_count"]
    insert_many(connection, schema.embedding, numbered)
    return [EmbeddingBlock(row["channel_id"], row["id"], row["vector_count"]) for row in numbered]


def is_sound(vectors: npt.NDArray[np.floating], max_norm: float = _MAX_NORM) -> BoolArray:
    """Which rows (n, d) are finite and not longer than 1."""
    rows = vectors.astype(np.float32, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("nd,nd->n", rows, rows)
    # Written so that NaN fails too.
    sound: BoolArray = squares <= max_norm**2
    return sound


def _damaged() -> HomeError:
    return HomeError("the catalog holds damaged vectors", remedy="see them with: regard verify")
