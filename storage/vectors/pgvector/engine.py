"""Vectors in the catalog's PostgreSQL, searched by its extension pgvector.

Each index is a table of half-precision vectors, which hold the catalog's float16 values exactly. A
row of the table `vector_index` says up to which position of the change log it goes, and changes in
the same transaction. A large table gets an HNSW index when a snapshot is due. The server only
nominates rows; their scores are computed here:

    HNSW, read on until enough rows pass the filter ─ too few ─▶ scan of all rows that pass
                        │                                               │
                        ▼                                               ▼
          exact float32 scores, ordered by (-score, id) ─▶ first k
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import text

from regard.storage.database.connection import Database
from regard.storage.vectors.engine import IndexIdentity, VectorEngine
from regard.storage.vectors.pgvector.index import PgvectorIndex
from regard.storage.vectors.pgvector.tables import has_positions, read_state


class PgvectorEngine(VectorEngine):
    """Keeps each index in a table of its own, which is created on first use."""

    def __init__(self, folder: Path, database: Database) -> None:
        """`database` is the catalog's."""
        self.folder = folder
        self._database = database

    def open(self, identity: IndexIdentity) -> PgvectorIndex:
        index = PgvectorIndex(self._database, identity, replaces=False)
        index.prepare()
        return index

    def create(self, identity: IndexIdentity) -> PgvectorIndex:
        return PgvectorIndex(self._database, identity, replaces=True)

    def kept_stats(self, identity: IndexIdentity) -> Mapping[str, Any] | None:
        with self._database.reading() as connection:
            state = read_state(connection, identity)
        if state is None:
            return None
        return {"rows": state.row_count, "has_hnsw": state.has_hnsw, "breadth": state.breadth}

    def forget(self, catalog: str, pipeline: str) -> None:
        with self._database.writing() as connection:
            if not has_positions(connection):
                return
            names = connection.execute(
                text("DELETE FROM vector_index WHERE pipeline = :pipeline RETURNING name"),
                {"pipeline": pipeline},
            ).scalars()
            for name in list(names):
                connection.execute(text(f"DROP TABLE IF EXISTS {name}"))
