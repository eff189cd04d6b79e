"""Whom each embedding describes, kept in memory.

An embedding's id is never reused and its owner never changes, so what was read once holds for good. Two
arrays with the id as place answer for a whole ranking at once. A deleted embedding may keep its owner
here: the indexes have dropped it, and answers leave out whatever the catalog holds no more.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np
from sqlalchemy import bindparam, select

from regard.core.catalog import Owners
from regard.core.records import Int64Array
from regard.storage.database import schema
from regard.storage.database.connection import Database

# Below the 32,766 parameters that SQLite takes in one statement.
_CHUNK = 10_000
_PAGE = 100_000
_embedding = schema.embedding.c
_OF_IDS = select(_embedding.id, _embedding.content_id, _embedding.region_id).where(
    _embedding.id.in_(bindparam("ids", expanding=True))
)
# Each is answered from an index alone, past the vectors.
_ALL_CONTENTS = select(_embedding.id, _embedding.content_id)
_ALL_REGIONS = select(_embedding.id, _embedding.region_id).where(_embedding.region_id.is_not(None))


class EmbeddingOwners:
    """Reads owners as they are asked for, or all at once; for any number of threads.

    16 bytes for each id up to the largest that was asked for.
    """

    def __init__(self, database: Database) -> None:
        """Nothing is read yet."""
        self._database = database
        self._growing = threading.Lock()
        # Contents and regions, 0 where nothing is known; replaced as a pair when they grow.
        self._table = (np.zeros(1, np.int64), np.zeros(1, np.int64))

    def of(self, embeddings: Int64Array) -> Owners:
        """The owners of embeddings, in their order and shape; negative ids have none."""
        owners = self._known(embeddings)
        unknown = (owners.contents == 0) & (embeddings > 0)
        if not unknown.any():
            return owners
        ids = np.unique(embeddings[unknown]).tolist()
        with self._database.reading() as connection:
            for start in range(0, len(ids), _CHUNK):
                chunk = {"ids": ids[start : start + _CHUNK]}
                rows = np.asarray(
                    [(row[0], row[1], row[2] or 0) for row in connection.execute(_OF_IDS, chunk)],
                    dtype=np.int64,
                ).reshape(-1, 3)
                self._learn(rows[:, 0], contents=rows[:, 1], regions=rows[:, 2])
        return self._known(embeddings)

    def preload(self) -> None:
        """Read the owners of all embeddings."""
        with self._database.reading() as connection:
            # A content is what makes an owner known, so regions come first.
            for rows in connection.execute(_ALL_REGIONS).partitions(_PAGE):
                ids, regions = _columns(rows)
                self._learn(ids, regions=regions)
            for rows in connection.execute(_ALL_CONTENTS).partitions(_PAGE):
                ids, contents = _columns(rows)
                self._learn(ids, contents=contents)

    def _known(self, embeddings: Int64Array) -> Owners:
        contents, regions = self._table
        places = np.where((embeddings > 0) & (embeddings < len(contents)), embeddings, 0)
        # Contents first: whoever sees one sees its region too, which was written before.
        found = contents[places]
        return Owners(found, regions[places])

    def _learn(
        self,
        ids: Int64Array,
        *,
        contents: Int64Array | None = None,
        regions: Int64Array | None = None,
    ) -> None:
        if not ids.size:
            return
        with self._growing:
            table = self._table
            if ids.max() >= len(table[0]):
                # Pages that nothing is written to take no memory.
                size = max(int(ids.max()) + 1, len(table[0]) * 3 // 2)
                table = (np.zeros(size, np.int64), np.zeros(size, np.int64))
                for grown, before in zip(table, self._table, strict=True):
                    grown[: len(before)] = before
            if regions is not None:
                table[1][ids] = regions
            if contents is not None:
                table[0][ids] = contents
            self._table = table


def _columns(rows: Iterable[Iterable[int]]) -> tuple[Int64Array, Int64Array]:
    table = np.asarray([tuple(row) for row in rows], dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
