"""The vector index of one channel in a table of PostgreSQL: changes, searches and its HNSW index."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from regard.core.catalog import Neighbours
from regard.core.errors import EngineUnavailable, NotFound
from regard.core.idset import IdSet
from regard.core.records import Float16Array, Float32Array, Int64Array
from regard.storage.database.connection import Database
from regard.storage.vectors.engine import Additions, IndexIdentity, Queries, VectorIndex
from regard.storage.vectors.pgvector.breadth import choose_breadth
from regard.storage.vectors.pgvector.scan import Scan
from regard.storage.vectors.pgvector.tables import (
    HAS_HNSW,
    POSITIONS,
    copy_in,
    create_table,
    driver,
    empty_rows,
    fetch_rows,
    identifying,
    lock_key,
    read_known_state,
    read_state,
    require_extension,
    sqlstate,
    table_name,
)
from regard.storage.vectors.rows import (
    Rows,
    checked_ids,
    checked_queries,
    checked_rows,
    pad,
    score_rows,
)

# From so many rows on, searches use HNSW.
_INDEXED_ROWS = 20_000
# pgvector's own limit.
_MOST_INDEXED_NUMBERS = 4000
# Rows of a step, and at least a tenth of a table, for which HNSW is built again by a snapshot.
_MANY_NEW = 2000
_IDS_AT_ONCE = 10_000
_BUILD_KIB = (64 << 10, 2 << 20)
# Links of a row, and candidates for them when it is added.
_LINKS, _BUILD_CANDIDATES = 32, 128
# What a build keeps of each row in memory, beside its vector.
_GRAPH_BYTES = 2400
_LOCK_SECONDS = 60
# SQLSTATEs: what the lock timeout ends, no such table, no room for a parallel build.
_LOCKED, _NO_TABLE, _NO_ROOM = "55P03", "42P01", "53"


class PgvectorIndex(VectorIndex):
    """One channel's table.

    A search in which the table is behind the position that this process knows, because it was
    deleted or is being rebuilt, raises EngineUnavailable; the next one applies what is missing.
    """

    def __init__(self, database: Database, identity: IndexIdentity, *, replaces: bool) -> None:
        """Nothing is read yet; with `replaces`, the first change replaces what is kept."""
        self.identity = identity
        self._database = database
        self._table = table_name(identity)
        self._replaces = replaces
        # The connection that holds the lock, in the thread that took it.
        self._local = threading.local()
        self._applied_through = self._row_count = 0
        self._has_hnsw = False

    @property
    def applied_through(self) -> int:
        return self._applied_through

    @property
    def is_exact(self) -> bool:
        return not self._has_hnsw

    @property
    def unsaved_rows(self) -> int:
        """None: a change is durable at once."""
        return 0

    def prepare(self) -> None:
        """Create the table where there is none, and read its state.

        Raises EngineUnavailable without the extension, IndexMismatch.
        """
        with self._transaction() as connection:
            state = read_state(connection, self.identity)
            if state is None:
                self._database.take_turns(connection)
                require_extension(connection)
                connection.execute(text(POSITIONS))
                create_table(connection, self._table, self.identity.dimension)
                connection.execute(
                    text(
                        "INSERT INTO vector_index VALUES (:name, :catalog, :pipeline, :space, "
                        ":kind, :dimension, :format, 0, 0, 0, 0) ON CONFLICT DO NOTHING"
                    ),
                    identifying(self.identity),
                )
                state = read_state(connection, self.identity)
                assert state is not None
        if not self._replaces:
            self._applied_through, self._row_count, self._has_hnsw, *_ = state

    @contextmanager
    def changing(self) -> Iterator[None]:
        """As in the Protocol; raises EngineUnavailable when another process goes on for too long.

        While a new index is filled, others go on changing the one that it will replace.
        """
        key = {"key": lock_key(f"{self._table}_new" if self._replaces else self._table)}
        with self._database.connected() as connection:
            try:
                with connection.begin():
                    connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'"))
                    connection.execute(text("SELECT pg_advisory_lock(:key)"), key)
            except DBAPIError as error:
                if sqlstate(error) != _LOCKED:
                    raise
                raise EngineUnavailable(
                    f"another process changes the index {self._name} since {_LOCK_SECONDS} s",
                    remedy="wait for it, or end it if it is stuck",
                ) from error
            self._local.connection = connection
            try:
                self.prepare()
                yield
            finally:
                self._local.connection = None
            with connection.begin():
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)

    @property
    def _name(self) -> str:
        return f"{self.identity.space}/{self.identity.kind}"

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """A write transaction, on the connection with the lock if this thread has it."""
        locking: Connection | None = getattr(self._local, "connection", None)
        if locking is None:
            with self._database.writing() as connection:
                yield connection
        else:
            with locking.begin():
                yield locking

    def apply(self, additions: Additions, removals: Int64Array, *, through: int) -> None:
        rows = checked_rows(additions, self.identity.dimension)
        removed = checked_ids(removals)
        if removed.size:
            rows = rows.take(~np.isin(rows.ids, removed))
        if self._replaces:
            self.prepare()
        has_hnsw = self._has_hnsw
        with self._transaction() as connection:
            position, count = self._lock(connection)
            if self._replaces:
                connection.execute(text(f"DROP INDEX IF EXISTS {self._table}_hnsw"))
                connection.execute(text(f"TRUNCATE {self._table}"))
                position = count = 0
            elif position < self._applied_through:
                # The step would leave out what lies between.
                raise self._gone()
            if through > position:
                if removed.size:
                    count -= connection.execute(
                        text(f"DELETE FROM {self._table} WHERE id = ANY(:ids)"),
                        {"ids": removed.tolist()},
                    ).rowcount
                known = connection.execute(
                    text(f"SELECT id FROM {self._table} WHERE id = ANY(:ids)"),
                    {"ids": rows.ids.tolist()},
                ).scalars()
                fresh = rows.take(~np.isin(rows.ids, np.fromiter(known, np.int64)))
                if self._has_hnsw and len(fresh) > max(_MANY_NEW, count // 10):
                    # A row takes HNSW several times as long when it comes after the build.
                    connection.execute(text(f"DROP INDEX IF EXISTS {self._table}_hnsw"))
                    has_hnsw = False
                copy_in(connection, self._table, self.identity.dimension, [fresh])
                position, count = through, count + len(fresh)
            self._record(connection, position, count)
        self._know(position, count)
        self._has_hnsw = has_hnsw

    def fill(self, additions: Iterable[Additions], *, through: int) -> None:
        self.prepare()
        with self._transaction() as connection:
            if not self._replaces and self._lock(connection) != (0, 0):
                position = self._applied_through
                raise ValueError(f"an index with rows up to {position} can't be filled")
            # Beside the table, which is searched meanwhile.
            new = f"{self._table}_new"
            connection.execute(text(f"DROP TABLE IF EXISTS {new}"))
            create_table(connection, new, self.identity.dimension)
            steps = (checked_rows(arriving, self.identity.dimension) for arriving in additions)
            count = copy_in(connection, new, self.identity.dimension, steps)
            connection.execute(text(f"ANALYZE {new} (id, content)"))
            if self._replaces:
                key = {"key": lock_key(self._table)}
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), key)
            self._lock(connection)
            connection.execute(text(f"DROP TABLE {self._table}"))
            connection.execute(text(f"ALTER TABLE {new} RENAME TO {self._table}"))
            for suffix in ("pkey", "content"):
                connection.execute(
                    text(f"ALTER INDEX {new}_{suffix} RENAME TO {self._table}_{suffix}")
                )
            self._record(connection, through, count)
        self._has_hnsw = False
        self._know(through, count)

    def _lock(self, connection: Connection) -> tuple[int, int]:
        """The position and the number of rows, which others change after this transaction."""
        row = connection.execute(
            text(
                "SELECT applied_through, row_count FROM vector_index WHERE name = :name FOR UPDATE"
            ),
            {"name": self._table},
        ).one_or_none()
        if row is None:
            raise self._gone()
        return int(row[0]), int(row[1])

    def _record(self, connection: Connection, position: int, count: int) -> None:
        """Write the position and the number of rows."""
        connection.execute(
            text(
                "UPDATE vector_index SET applied_through = :position, row_count = :count "
                "WHERE name = :name"
            ),
            {"position": position, "count": count, "name": self._table},
        )

    def _know(self, position: int, count: int) -> None:
        """Know what was committed."""
        self._replaces = False
        self._applied_through, self._row_count = position, count

    def _gone(self) -> EngineUnavailable:
        self._applied_through = self._row_count = 0
        return EngineUnavailable(
            f"the index {self._name} was deleted or is being rebuilt",
            remedy="try again, or run: regard rebuild",
        )

    def search(
        self, queries: Float32Array, k: int, allowed: IdSet | None = None, *, exact: bool = False
    ) -> Neighbours:
        checked = checked_queries(queries, k, self.identity.dimension)
        found = Neighbours.empty(len(checked), k)
        if self._replaces or not k:
            return found
        # Before the table is read: other threads of this process may go on meanwhile.
        known = self._applied_through
        with self._reading() as connection:
            state = read_known_state(connection, self.identity)
            if state is None or state.applied_through < known:
                raise self._gone()
            self._has_hnsw = state.has_hnsw
            scan = Scan(connection, self._table, self.identity.dimension, state, allowed)
            for place, query in enumerate(checked):
                norm = float(np.linalg.norm(query))
                direction = query / np.float32(norm) if norm else query
                rows = None
                if self._has_hnsw and not exact:
                    rows = scan.by_hnsw(direction, k)
                if rows is None:
                    rows = scan.all(direction, k)
                _write(found, place, query, rows)
        return found

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._database.reading() as connection:
            try:
                yield connection
            except Exception as error:
                if sqlstate(error) == _NO_TABLE:
                    raise self._gone() from error
                raise

    def ids(self) -> Int64Array:
        if self._replaces:
            return np.empty(0, np.int64)
        with self._reading() as connection:
            found = connection.execute(text(f"SELECT id FROM {self._table} ORDER BY id")).scalars()
            return np.fromiter(found, np.int64)

    def vectors(self, ids: Int64Array) -> Float16Array:
        wanted = checked_ids(ids)
        unique, places = np.unique(wanted, return_inverse=True)
        parts = []
        with self._reading() as connection:
            for start in range(0, len(unique), _IDS_AT_ONCE):
                part = unique[start : start + _IDS_AT_ONCE]
                rows = Rows.join([empty_rows(self.identity.dimension)])
                if not self._replaces:
                    rows = fetch_rows(
                        connection,
                        self.identity.dimension,
                        f"SELECT id, content, region, vector FROM {self._table} "
                        "WHERE id = ANY(%(ids)s) ORDER BY id",
                        {"ids": part.tolist()},
                    )
                if len(rows) < len(part):
                    missing = np.setdiff1d(part, rows.ids)
                    raise NotFound(f"the vector index has no row {missing[0]}")
                parts.append(rows.vectors)
        if not parts:
            return np.empty((0, self.identity.dimension), np.float16)
        return np.concatenate(parts)[places]

    @property
    def row_count(self) -> int:
        return self._row_count

    def stats(self) -> Mapping[str, Any]:
        """Counts of rows, and whether large tables are searched by HNSW."""
        return {"rows": self._row_count, "has_hnsw": self._has_hnsw}

    def snapshot(self, queries: Queries | None = None) -> None:
        """As in the Protocol: a table that has become large gets its HNSW index.

        How many candidates its searches keep is measured then, and again when the table has
        doubled. Searches and changes go on meanwhile. Another process that does it is not waited
        for.
        """
        if self._replaces:
            self._replaces_with_nothing()
        numbers = self.identity.dimension
        is_large = self._row_count >= _INDEXED_ROWS and numbers <= _MOST_INDEXED_NUMBERS
        if queries is None or not is_large:
            return
        with self._reading() as connection:
            state = read_state(connection, self.identity)
        if state is None or (state.has_hnsw and state.row_count <= 2 * state.breadth_rows):
            return
        key = {"key": lock_key(f"{self._table}_hnsw")}
        with self._database.connected() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            if not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), key).scalar_one():
                return
            if not driver(connection).execute(HAS_HNSW, {"name": self._table}).fetchone()[0]:
                # A build that is killed before the measurement leaves no former one behind.
                self._keep_breadth(connection, 0, 0)
                self._build_hnsw(connection)
            self._has_hnsw = True
            with self._reading() as reading:
                state = read_known_state(reading, self.identity)
                if state is not None:
                    breadth = choose_breadth(reading, self._table, state, queries())
                    self._keep_breadth(connection, breadth, state.row_count)
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)

    def _keep_breadth(self, connection: Connection, breadth: int, rows: int) -> None:
        connection.execute(
            text(
                "UPDATE vector_index SET breadth = :breadth, breadth_rows = :rows "
                "WHERE name = :name"
            ),
            {"breadth": breadth, "rows": rows, "name": self._table},
        )

    def _replaces_with_nothing(self) -> None:
        nothing = np.empty(0, np.int64)
        vectors = np.empty((0, self.identity.dimension), np.float16)
        self.apply((nothing, vectors, nothing, nothing), nothing, through=0)

    def _build_hnsw(self, connection: Connection) -> None:
        """Build without locking others out; again without helpers where shared memory is short."""
        least, most = _BUILD_KIB
        needed = self._row_count * (2 * self.identity.dimension + _GRAPH_BYTES) // 1024
        connection.execute(text(f"SET maintenance_work_mem = '{min(max(needed, least), most)}kB'"))
        for helpers in ("", "SET max_parallel_maintenance_workers = 0"):
            # What a build that was killed has left.
            connection.execute(text(f"DROP INDEX CONCURRENTLY IF EXISTS {self._table}_hnsw"))
            try:
                if helpers:
                    connection.execute(text(helpers))
                connection.execute(
                    text(
                        f"CREATE INDEX CONCURRENTLY {self._table}_hnsw ON {self._table} "
                        "USING hnsw (vector halfvec_ip_ops) "
                        f"WITH (m = {_LINKS}, ef_construction = {_BUILD_CANDIDATES})"
                    )
                )
                break
            except DBAPIError as error:
                if helpers or not sqlstate(error).startswith(_NO_ROOM):
                    raise
        connection.execute(text("RESET maintenance_work_mem"))
        connection.execute(text("RESET max_parallel_maintenance_workers"))

    def damage(self) -> list[str]:
        with self._reading() as connection:
            counted = connection.execute(text(f"SELECT count(*) FROM {self._table}")).scalar_one()
            state = read_state(connection, self.identity)
        if state is not None and state.row_count != counted:
            return [f"the table {self._table} has {counted} rows instead of {state.row_count}"]
        return []


def _write(found: Neighbours, place: int, query: Float32Array, rows: Rows) -> None:
    """Score rows and write the best ones of a query."""
    scores = score_rows(pad(query[None]), pad(rows.vectors))[0]
    best = np.lexsort((rows.ids, -scores))[: found.ids.shape[1]]
    found.scores[place, : len(best)] = scores[best]
    found.ids[place, : len(best)] = rows.ids[best]
    found.contents[place, : len(best)] = rows.contents[best]
    found.regions[place, : len(best)] = rows.regions[best]
