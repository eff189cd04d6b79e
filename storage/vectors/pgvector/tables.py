"""The tables of the indexes, and rows into and out of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from psycopg.adapt import Dumper
from psycopg.pq import Format
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from regard.core.errors import EngineUnavailable, IndexMismatch
from regard.core.records import Float32Array, Int64Array
from regard.storage.vectors.engine import IndexIdentity
from regard.storage.vectors.rows import Rows

_FORMAT = 1
_BIGINT = 20  # the type's id
# Longer vectors are kept apart from their rows, which must fit into a page of 8 kB.
_MOST_INLINE_NUMBERS = 3900

POSITIONS = """
CREATE TABLE IF NOT EXISTS vector_index (
    name text PRIMARY KEY, catalog text NOT NULL, pipeline text NOT NULL, space text NOT NULL,
    kind text NOT NULL, dimension integer NOT NULL, format integer NOT NULL,
    applied_through bigint NOT NULL, row_count bigint NOT NULL,
    breadth integer NOT NULL, breadth_rows bigint NOT NULL
)
"""
HAS_HNSW = """
SELECT EXISTS (
    SELECT FROM pg_index JOIN pg_class ON pg_class.oid = pg_index.indexrelid
    JOIN pg_am ON pg_am.oid = pg_class.relam
    WHERE pg_index.indrelid = to_regclass(%(name)s) AND pg_am.amname = 'hnsw'
        AND pg_index.indisvalid
)
"""
_STATE = f"""
SELECT applied_through, row_count, ({HAS_HNSW}), breadth, breadth_rows,
    catalog, pipeline, space, kind, dimension, format
FROM vector_index WHERE name = %(name)s
"""


class TableState(NamedTuple):
    """What the table `vector_index` says of an index, and whether it has an HNSW index.

    `breadth` is the number of candidates that a search of HNSW keeps, chosen when the table had
    `breadth_rows` rows; both are 0 before.
    """

    applied_through: int
    row_count: int
    has_hnsw: bool
    breadth: int
    breadth_rows: int


def table_name(identity: IndexIdentity) -> str:
    """The table of an index; two channels never share one."""
    whole = f"{identity.catalog} {identity.pipeline} {identity.space}/{identity.kind}"
    return f"vectors_{hashlib.sha256(whole.encode()).hexdigest()[:16]}"


def lock_key(name: str) -> int:
    """The key of an advisory lock, a signed 64-bit number."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)


def identifying(identity: IndexIdentity) -> dict[str, Any]:
    """What the row of `vector_index` says of an index besides its state."""
    return {
        "name": table_name(identity),
        "catalog": identity.catalog,
        "pipeline": identity.pipeline,
        "space": identity.space,
        "kind": str(identity.kind),
        "dimension": identity.dimension,
        "format": _FORMAT,
    }


def has_positions(connection: Connection) -> bool:
    """Whether there are any indexes."""
    known = text("SELECT to_regclass('vector_index') IS NOT NULL")
    return bool(connection.execute(known).scalar_one())


def read_state(connection: Connection, identity: IndexIdentity) -> TableState | None:
    """The state of an index, None where there is none; raises IndexMismatch."""
    return read_known_state(connection, identity) if has_positions(connection) else None


def read_known_state(connection: Connection, identity: IndexIdentity) -> TableState | None:
    """The same, where other indexes are known to be."""
    wanted = identifying(identity)
    row = driver(connection).execute(_STATE, {"name": wanted["name"]}).fetchone()
    if row is None:
        return None
    state, kept = row[:5], list(row[5:])
    if kept != [
        wanted[key] for key in ("catalog", "pipeline", "space", "kind", "dimension", "format")
    ]:
        raise IndexMismatch(
            f"the table {wanted['name']} was made for another index", remedy="run: regard rebuild"
        )
    return TableState(*state)


def create_table(connection: Connection, name: str, dimension: int) -> None:
    """Create the table of an index where it is not there."""
    connection.execute(
        text(
            f"CREATE TABLE IF NOT EXISTS {name} (id bigint PRIMARY KEY, "
            f"content bigint NOT NULL, region bigint NOT NULL, vector halfvec({dimension}) "
            "NOT NULL)"
        )
    )
    connection.execute(text(f"CREATE INDEX IF NOT EXISTS {name}_content ON {name} (content)"))
    if dimension <= _MOST_INLINE_NUMBERS:
        # Otherwise a scan fetches every vector from another table.
        connection.execute(text(f"ALTER TABLE {name} ALTER vector SET STORAGE PLAIN"))


def require_extension(connection: Connection) -> None:
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


def driver(connection: Connection, *, binary: bool = False) -> Any:
    """A cursor of psycopg."""
    driver: Any = connection.connection
    return driver.cursor(binary=binary)


def sqlstate(error: BaseException) -> str:
    """The code of an error of PostgreSQL; empty for others."""
    return str(getattr(getattr(error, "orig", error), "sqlstate", None) or "")


def empty_rows(dimension: int) -> Rows:
    """No rows."""
    nothing = np.empty(0, np.int64)
    return Rows(nothing, nothing, nothing, np.empty((0, dimension), np.float16))


class Binary(bytes):
    """A parameter in PostgreSQL's binary format, of the type that the statement casts it to.

    The driver takes many times as long to write lists of numbers.
    """

    @classmethod
    def halfvec(cls, vector: Float32Array) -> Binary:
        """A vector (d,), rounded to float16."""
        return cls(len(vector).to_bytes(2) + bytes(2) + vector.astype(">f2").tobytes())

    @classmethod
    def bigints(cls, numbers: Int64Array) -> Binary:
        """An array of numbers (n,)."""
        items = np.empty(len(numbers), [("size", ">i4"), ("number", ">i8")])
        items["size"], items["number"] = 8, numbers
        # Dimensions, no nulls, the type bigint, and the one dimension's length and lower bound.
        head = np.array([1, 0, _BIGINT, len(numbers), 1], ">i4")
        return cls(head.tobytes() + items.tobytes())


class _BinaryDumper(Dumper):
    """Sends what is in the format already."""

    format = Format.BINARY
    oid = 0

    def dump(self, value: Binary) -> bytes:
        """The same bytes."""
        return bytes(value)


def fetch_rows(
    connection: Connection, dimension: int, statement: str, parameters: Mapping[str, Any]
) -> Rows:
    """The rows of a statement that selects id, content, region and vector."""
    cursor = driver(connection, binary=True)
    cursor.adapters.register_dumper(Binary, _BinaryDumper)
    # Not prepared: a plan for any parameters would ignore what the filter holds.
    rows = cursor.execute(statement, parameters, prepare=False).fetchall()
    if not rows:
        return empty_rows(dimension)
    ids, contents, regions, vectors = zip(*rows, strict=True)
    # Two numbers of 16 bits come first: the dimension, and one that is not used.
    numbers = np.frombuffer(b"".join(vectors), ">f2").reshape(len(rows), dimension + 2)
    return Rows(
        np.array(ids, np.int64),
        np.array(contents, np.int64),
        np.array(regions, np.int64),
        numbers[:, 2:].astype(np.float16),
    )


def copy_in(connection: Connection, table: str, dimension: int, steps: Iterable[Rows]) -> int:
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
    with driver(connection).copy(statement) as copy:
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
