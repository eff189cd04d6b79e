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

import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from regard.core.catalog import Neighbours
from regard.core.errors import EngineUnavailable, IndexMismatch, NotFound
from regard.core.idset import IdSet
from regard.core.records import Float16Array, Float32Array, Int64Array
from regard.storage.database.connection import Database
from regard.storage.vectors.engine import (
    Additions,
    IndexIdentity,
    Queries,
    VectorEngine,
    VectorIndex,
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
# pgvector's own limits.
_MOST_INDEXED_NUMBERS, _MOST_CANDIDATES = 4000, 1000
# Longer vectors are kept apart from their rows, which must fit into a page of 8 kB.
_MOST_INLINE_NUMBERS = 3900
# Rows nominated beyond k, and candidates of HNSW for small k.
_SLACK, _CANDIDATES = 32, 800
# A candidate of HNSW costs about as much as so many rows of a scan.
_ROW_COST = 16
# Rows of a step, and at least a tenth of a table, for which HNSW is built again by a snapshot.
_MANY_NEW = 2000
# Contents whose rows are looked up by an index instead of being found in a scan.
_LISTED_CONTENTS = 50_000
_IDS_AT_ONCE = 10_000
_SCALE = 2048
_BUILD_KIB = (64 << 10, 2 << 20)
_LOCK_SECONDS = 60
_FORMAT = 1
# SQLSTATEs: what the lock timeout ends, no such table, no room for a parallel build.
_LOCKED, _NO_TABLE, _NO_ROOM = "55P03", "42P01", "53"

_POSITIONS = """
CREATE TABLE IF NOT EXISTS vector_index (
    name text PRIMARY KEY, catalog text NOT NULL, pipeline text NOT NULL, space text NOT NULL,
    kind text NOT NULL, dimension integer NOT NULL, format integer NOT NULL,
    applied_through bigint NOT NULL, row_count bigint NOT NULL
)
"""
_BY_HNSW = """
SELECT set_config('jit', 'off', true), set_config('enable_seqscan', 'off', true),
    set_config('hnsw.ef_search', %s, true), set_config('hnsw.max_scan_tuples', %s, true),
    set_config('hnsw.iterative_scan', 'relaxed_order', true),
    set_config('hnsw.scan_mem_multiplier', '8', true)
"""
_BY_SCAN = "SELECT set_config('jit', 'off', true), set_config('enable_seqscan', 'on', true)"
_HAS_HNSW = """
SELECT EXISTS (
    SELECT FROM pg_index JOIN pg_class ON pg_class.oid = pg_index.indexrelid
    JOIN pg_am ON pg_am.oid = pg_class.relam
    WHERE pg_index.indrelid = to_regclass(%(name)s) AND pg_am.amname = 'hnsw'
        AND pg_index.indisvalid
)
"""
_STATE = f"""
SELECT applied_through, row_count, ({_HAS_HNSW}), catalog, pipeline, space, kind, dimension, format
FROM vector_index WHERE name = %(name)s
"""


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
            state = _read_state(connection, identity)
        return None if state is None else {"rows": state[1], "has_hnsw": state[2]}

    def forget(self, catalog: str, pipeline: str) -> None:
        with self._database.writing() as connection:
            if not _has_positions(connection):
                return
            names = connection.execute(
                text("DELETE FROM vector_index WHERE pipeline = :pipeline RETURNING name"),
                {"pipeline": pipeline},
            ).scalars()
            for name in list(names):
                connection.execute(text(f"DROP TABLE IF EXISTS {name}"))


class PgvectorIndex(VectorIndex):
    """One channel's table.

    A search in which the table is behind the position that this process knows, because it was
    deleted or is being rebuilt, raises EngineUnavailable; the next one applies what is missing.
    """

    def __init__(self, database: Database, identity: IndexIdentity, *, replaces: bool) -> None:
        """Nothing is read yet; with `replaces`, the first change replaces what is kept."""
        self.identity = identity
        self._database = database
        self._table = _table_name(identity)
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
            state = _read_state(connection, self.identity)
            if state is None:
                self._database.take_turns(connection)
                _require_extension(connection)
                connection.execute(text(_POSITIONS))
                self._create_table(connection, self._table)
                connection.execute(
                    text(
                        "INSERT INTO vector_index VALUES (:name, :catalog, :pipeline, :space, "
                        ":kind, :dimension, :format, 0, 0) ON CONFLICT DO NOTHING"
                    ),
                    _identifying(self.identity),
                )
                state = _read_state(connection, self.identity)
                assert state is not None
        if not self._replaces:
            self._applied_through, self._row_count, self._has_hnsw = state

    @contextmanager
    def changing(self) -> Iterator[None]:
        """As in the Protocol; raises EngineUnavailable when another process goes on for too long.

        While a new index is filled, others go on changing the one that it will replace.
        """
        key = {"key": _lock_key(f"{self._table}_new" if self._replaces else self._table)}
        with self._database.connected() as connection:
            try:
                with connection.begin():
                    connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'"))
                    connection.execute(text("SELECT pg_advisory_lock(:key)"), key)
            except DBAPIError as error:
                if _sqlstate(error) != _LOCKED:
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
                _copy_in(connection, self._table, self.identity.dimension, [fresh])
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
            self._create_table(connection, new)
            steps = (checked_rows(arriving, self.identity.dimension) for arriving in additions)
            count = _copy_in(connection, new, self.identity.dimension, steps)
            connection.execute(text(f"ANALYZE {new} (id, content)"))
            if self._replaces:
                key = {"key": _lock_key(self._table)}
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

    def _create_table(self, connection: Connection, name: str) -> None:
        numbers = self.identity.dimension
        connection.execute(
            text(
                f"CREATE TABLE IF NOT EXISTS {name} (id bigint PRIMARY KEY, "
                f"content bigint NOT NULL, region bigint NOT NULL, vector halfvec({numbers}) "
                "NOT NULL)"
            )
        )
        connection.execute(text(f"CREATE INDEX IF NOT EXISTS {name}_content ON {name} (content)"))
        if numbers <= _MOST_INLINE_NUMBERS:
            # Otherwise a scan fetches every vector from another table.
            connection.execute(text(f"ALTER TABLE {name} ALTER vector SET STORAGE PLAIN"))

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
        with self._reading() as connection:
            state = _read_known_state(connection, self.identity)
            if state is None or state[0] < self._applied_through:
                raise self._gone()
            _, count, self._has_hnsw = state
            scan = _Scan(connection, self._table, self.identity.dimension, count, allowed)
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
                if _sqlstate(error) == _NO_TABLE:
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
                rows = Rows.join([_empty(self.identity.dimension)])
                if not self._replaces:
                    rows = _fetch(
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

    def stats(self) -> Mapping[str, Any]:
        """Counts of rows, and whether large tables are searched by HNSW."""
        return {"rows": self._row_count, "has_hnsw": self._has_hnsw}

    def snapshot(self, queries: Queries | None = None) -> None:
        """As in the Protocol: a table that has become large gets its HNSW index.

        Searches and changes go on meanwhile. Another process that builds it is not waited for.
        """
        if self._replaces:
            self._replaces_with_nothing()
        numbers = self.identity.dimension
        is_large = self._row_count >= _INDEXED_ROWS and numbers <= _MOST_INDEXED_NUMBERS
        if queries is None or self._has_hnsw or not is_large:
            return
        key = {"key": _lock_key(f"{self._table}_hnsw")}
        with self._database.connected() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            if not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), key).scalar_one():
                return
            if not _driver(connection).execute(_HAS_HNSW, {"name": self._table}).fetchone()[0]:
                self._build_hnsw(connection)
            self._has_hnsw = True
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)

    def _replaces_with_nothing(self) -> None:
        nothing = np.empty(0, np.int64)
        vectors = np.empty((0, self.identity.dimension), np.float16)
        self.apply((nothing, vectors, nothing, nothing), nothing, through=0)

    def _build_hnsw(self, connection: Connection) -> None:
        """Build without locking others out; again without helpers where shared memory is short."""
        least, most = _BUILD_KIB
        needed = self._row_count * (2 * self.identity.dimension + 400) // 1024
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
                        "USING hnsw (vector halfvec_ip_ops)"
                    )
                )
                break
            except DBAPIError as error:
                if helpers or not _sqlstate(error).startswith(_NO_ROOM):
                    raise
        connection.execute(text("RESET maintenance_work_mem"))
        connection.execute(text("RESET max_parallel_maintenance_workers"))

    def damage(self) -> list[str]:
        with self._reading() as connection:
            counted = connection.execute(text(f"SELECT count(*) FROM {self._table}")).scalar_one()
            state = _read_state(connection, self.identity)
        if state is not None and state[1] != counted:
            return [f"the table {self._table} has {counted} rows instead of {state[1]}"]
        return []


class _Scan:
    """Nominates rows of one table that pass a filter, in one transaction."""

    def __init__(
        self, connection: Connection, table: str, dimension: int, count: int, allowed: IdSet | None
    ) -> None:
        self._connection = connection
        self._dimension = dimension
        self._count = count
        self._select = f"SELECT id, content, region, vector FROM {table} WHERE "
        self._contents = f"SELECT max(content) FROM {table}"
        self._allowed = allowed
        self._bitmap: dict[str, Any] | None = None

    def by_hnsw(self, direction: Float32Array, k: int) -> Rows | None:
        """The nearest rows by HNSW; None where a scan costs less, or when it found too few."""
        fetch = k + _SLACK
        share = self._share()
        # Among fewer, the best of those that pass would come too late.
        candidates = max(_CANDIDATES, 2 * fetch / share)
        scanned = self._count * (share if self._is_listed() else 1)
        if 2 * fetch > self._count or scanned <= _ROW_COST * candidates:
            return None
        most = max(20_000, min(int(10 * fetch / share), self._count))
        _driver(self._connection).execute(
            _BY_HNSW, (str(min(int(candidates), _MOST_CANDIDATES)), str(most)), prepare=False
        )
        condition, parameters = self._condition(is_listed=False)
        # Beyond the first candidates, HNSW reads on with the best in no strict order.
        limit = fetch if self._allowed is None else 2 * fetch
        rows = self._fetch(
            f"{condition} ORDER BY vector <#> %(query)s::halfvec LIMIT %(limit)s",
            {**parameters, "query": _as_text(direction), "limit": limit},
        )
        return rows if len(rows) >= k else None

    def all(self, direction: Float32Array, k: int) -> Rows:
        """The nearest of all rows, by products that are as exact as those of float32.

        A sum of two products takes half the time of one with the vectors cast to float32.
        """
        condition, parameters = self._condition(is_listed=self._is_listed())
        _driver(self._connection).execute(_BY_SCAN)
        query = direction.astype(np.float16).astype(np.float32)
        # Scaled, because small numbers lose digits in half precision.
        rest = (direction - query) * np.float32(_SCALE)
        return self._fetch(
            f"{condition} ORDER BY (vector <#> %(query)s::halfvec) "
            f"+ (vector <#> %(rest)s::halfvec) / {_SCALE}, id LIMIT %(limit)s",
            {
                **parameters,
                "query": _as_text(query),
                "rest": _as_text(rest),
                "limit": k + _SLACK,
            },
        )

    def _fetch(self, rest: str, parameters: Mapping[str, Any]) -> Rows:
        return _fetch(self._connection, self._dimension, self._select + rest, parameters)

    def _share(self) -> float:
        """About which share of the rows passes."""
        if self._allowed is None:
            return 1.0
        contents = _driver(self._connection).execute(self._contents).fetchone()[0] or 1
        listed = min(self._allowed.listed_count / int(contents), 1.0)
        return max(1 - listed if self._allowed.is_complement else listed, 1e-9)

    def _is_listed(self) -> bool:
        """Whether the rows that pass are found by their contents."""
        allowed = self._allowed
        return (
            allowed is not None
            and not allowed.is_complement
            and allowed.listed_count <= _LISTED_CONTENTS
        )

    def _condition(self, *, is_listed: bool) -> tuple[str, dict[str, Any]]:
        """What rows have to pass."""
        allowed = self._allowed
        if allowed is None:
            return "true", {}
        if is_listed:
            return "content = ANY(%(contents)s)", {"contents": allowed.listed().tolist()}
        if self._bitmap is None:
            listed = allowed.listed()
            # The last bit stands for all that lies beyond.
            bits = np.zeros(int(listed[-1]) + 2 if len(listed) else 1, np.bool_)
            bits[listed] = True
            packed = np.packbits(bits, bitorder="little").tobytes()
            passing = 0 if allowed.is_complement else 1
            self._bitmap = {"last": len(bits) - 1, "bitmap": packed, "passing": passing}
        return "get_bit(%(bitmap)s, least(content, %(last)s)) = %(passing)s", self._bitmap


def _as_text(vector: Float32Array) -> str:
    """A vector as pgvector reads it; the driver takes ten times as long to send an array."""
    return str(vector.tolist())


def _write(found: Neighbours, place: int, query: Float32Array, rows: Rows) -> None:
    """Score rows and write the best ones of a query."""
    scores = score_rows(pad(query[None]), pad(rows.vectors))[0]
    best = np.lexsort((rows.ids, -scores))[: found.ids.shape[1]]
    found.scores[place, : len(best)] = scores[best]
    found.ids[place, : len(best)] = rows.ids[best]
    found.contents[place, : len(best)] = rows.contents[best]
    found.regions[place, : len(best)] = rows.regions[best]


def _table_name(identity: IndexIdentity) -> str:
    whole = f"{identity.catalog} {identity.pipeline} {identity.space}/{identity.kind}"
    return f"vectors_{hashlib.sha256(whole.encode()).hexdigest()[:16]}"


def _lock_key(name: str) -> int:
    """The key of an advisory lock, a signed 64-bit number."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)


def _identifying(identity: IndexIdentity) -> dict[str, Any]:
    return {
        "name": _table_name(identity),
        "catalog": identity.catalog,
        "pipeline": identity.pipeline,
        "space": identity.space,
        "kind": str(identity.kind),
        "dimension": identity.dimension,
        "format": _FORMAT,
    }


def _has_positions(connection: Connection) -> bool:
    known = text("SELECT to_regclass('vector_index') IS NOT NULL")
    return bool(connection.execute(known).scalar_one())


def _read_state(connection: Connection, identity: IndexIdentity) -> tuple[int, int, bool] | None:
    """The position, the number of rows and whether there is an HNSW index; raises IndexMismatch."""
    return _read_known_state(connection, identity) if _has_positions(connection) else None


def _read_known_state(
    connection: Connection, identity: IndexIdentity
) -> tuple[int, int, bool] | None:
    """The same, where other indexes are known to be."""
    wanted = _identifying(identity)
    row = _driver(connection).execute(_STATE, {"name": wanted["name"]}).fetchone()
    if row is None:
        return None
    position, count, has_hnsw, *kept = row
    if kept != [
        wanted[key] for key in ("catalog", "pipeline", "space", "kind", "dimension", "format")
    ]:
        raise IndexMismatch(
            f"the table {wanted['name']} was made for another index", remedy="run: regard rebuild"
        )
    return int(position), int(count), bool(has_hnsw)


def _require_extension(connection: Connection) -> None:
    """Create the extension where it is not there; raises EngineUnavailable."""
    try:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
    except DBAPIError as error:
        reason = str(error.orig).splitlines()[0]
        raise EngineUnavailable(
            f"pgvector can't be used in this database: {reason}",
            remedy="install it on the server, and as its administrator run: CREATE EXTENSION vector",
        ) from error
    version = connection.execute(
        text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    ).scalar_one()
    if tuple(map(int, version.split(".")[:2])) < (0, 8):
        raise EngineUnavailable(
            f"pgvector {version} is too old, 0.8 is needed",
            remedy="upgrade it and run: ALTER EXTENSION vector UPDATE",
        )


def _driver(connection: Connection, *, binary: bool = False) -> Any:
    """A cursor of psycopg."""
    driver: Any = connection.connection
    return driver.cursor(binary=binary)


def _sqlstate(error: BaseException) -> str:
    return str(getattr(getattr(error, "orig", error), "sqlstate", None) or "")


def _empty(dimension: int) -> Rows:
    nothing = np.empty(0, np.int64)
    return Rows(nothing, nothing, nothing, np.empty((0, dimension), np.float16))


def _fetch(
    connection: Connection, dimension: int, statement: str, parameters: Mapping[str, Any]
) -> Rows:
    """The rows of a statement that selects id, content, region and vector."""
    cursor = _driver(connection, binary=True)
    # Not prepared: a plan for any parameters would ignore what the filter holds.
    rows = cursor.execute(statement, parameters, prepare=False).fetchall()
    if not rows:
        return _empty(dimension)
    ids, contents, regions, vectors = zip(*rows, strict=True)
    # Two numbers of 16 bits come first: the dimension, and one that is not used.
    numbers = np.frombuffer(b"".join(vectors), ">f2").reshape(len(rows), dimension + 2)
    return Rows(
        np.array(ids, np.int64),
        np.array(contents, np.int64),
        np.array(regions, np.int64),
        numbers[:, 2:].astype(np.float16),
    )


def _copy_in(connection: Connection, table: str, dimension: int, steps: Iterable[Rows]) -> int:
    """Insert rows in PostgreSQL's binary format of COPY; return how many."""
    fields: list[Any] = [("fields", ">i2")]
    for name in ("id", "content", "region"):
        fields += [(f"{name}_size", ">i4"), (name, ">i8")]
    fields += [
        ("size", ">i4"),
        ("dimension", ">i2"),
        ("unused", ">i2"),
        ("vector", ">f2", dimension),
    ]
    count = 0
    statement = f"COPY {table} (id, content, region, vector) FROM STDIN (FORMAT BINARY)"
    with _driver(connection).copy(statement) as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
        for rows in steps:
            block = np.zeros(len(rows), np.dtype(fields))
            block["fields"], block["size"], block["dimension"] = 4, 4 + 2 * dimension, dimension
            for name, ids in (
                ("id", rows.ids),
                ("content", rows.contents),
                ("region", rows.regions),
            ):
                block[f"{name}_size"], block[name] = 8, ids
            block["vector"] = rows.vectors.reshape(len(rows), dimension)
            copy.write(block.tobytes())
            count += len(rows)
        copy.write(b"\xff\xff")
    return count
