"""Connections to the catalog's database, on SQLite or PostgreSQL.

A reading transaction sees one moment of the database, on both: SQLite always does, PostgreSQL with
REPEATABLE READ. SQLite runs in WAL mode, so readers never wait for the writer; a write transaction
takes the lock at its start (BEGIN IMMEDIATE), so that it waits instead of failing halfway.
`synchronous=FULL` makes a commit survive a power cut: a vector index on disk may then never be
ahead of the catalog.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Dialect,
    Engine,
    Select,
    Table,
    create_engine,
    event,
    make_url,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.sql.compiler import SQLCompiler

from regard.core.errors import (
    HomeError,
    MissingDependency,
    UnstorableValue,
    UsageError,
)

# A connection that was lost is replaced, and the statement that it carried has raised the error;
# SQLAlchemy would log it again, with a traceback, when it can't be rolled back.
logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)

BUSY_TIMEOUT_SECONDS = 30
# The value of `PRAGMA auto_vacuum` when free pages can be given back step by step.
_INCREMENTAL = 2
_PAGES_AT_ONCE = 1000
# SQLite connections kept for single statements: about as many as threads read at once.
_MOST_IDLE = 8
_WRITES = "regard_writes"
_WRITER_CACHE_KIB = 16 * 1024
# After so many pages, 16 MB, SQLite copies its log into the file: photographs change the same pages
# of indexes again and again, which are then copied once.
_LOG_PAGES = 4000
# Arbitrary; no other program may use it for advisory locks in the same database.
_TURN = 7265676172
_DRIVERS = {
    "sqlite": "sqlite+pysqlite",
    "sqlite+pysqlite": "sqlite+pysqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_LAST_ID = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
_NEXT_IDS = text(
    "SELECT nextval(pg_get_serial_sequence(:name, 'id')) FROM generate_series(1, :count)"
)


class Database:
    """Connections to one catalog database, with read and write transactions."""

    def __init__(self, url: str | Path) -> None:
        """Connect lazily to a SQLAlchemy URL or an SQLite file; `postgresql://` means psycopg 3.

        Raises UsageError for a malformed URL or another kind of database, MissingDependency when
        the driver is not installed.
        """
        try:
            # A file name is not a URL: `?` and `%` have a meaning in one.
            parsed = (
                URL.create("sqlite", database=str(url)) if isinstance(url, Path) else make_url(url)
            )
        except (ArgumentError, ValueError) as error:  # the latter for a port that is not a number
            raise UsageError(
                "the database URL is malformed",
                remedy="set REGARD_DATABASE_URL to postgresql://user:password@host/name",
            ) from error
        if parsed.drivername not in _DRIVERS:
            raise UsageError(
                f"the catalog supports SQLite and PostgreSQL, not {parsed.drivername}",
                remedy="unset REGARD_DATABASE_URL to use SQLite",
            )
        parsed = parsed.set(drivername=_DRIVERS[parsed.drivername])
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        if self.is_sqlite and parsed.database in {None, "", ":memory:"}:
            raise UsageError(
                "a catalog in memory can't be shared between connections",
                remedy="name a file in REGARD_DATABASE_URL, or unset it",
            )
        self._idle: list[PoolProxiedConnection] = []
        self.location = (
            str(url) if isinstance(url, Path) else parsed.render_as_string(hide_password=True)
        )
        try:
            if self.is_sqlite:
                self.engine = create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_SECONDS})
                _prepare_sqlite(self.engine)
                self._reader = self.engine
            else:
                self.engine = create_engine(parsed, pool_pre_ping=True)
                self._reader = self.engine.execution_options(
                    isolation_level="REPEATABLE READ", postgresql_readonly=True
                )
        except (ModuleNotFoundError, NoSuchModuleError) as error:
            raise MissingDependency(
                "the PostgreSQL driver is not installed",
                remedy="run: pip install 'regard[postgres]'",
            ) from error
        self._errors = (
            *(OverflowError, UnicodeError, DBAPIError, PoolTimeout),
            self.engine.dialect.loaded_dbapi.Error,
        )

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read-only transaction that sees one moment of the database."""
        try:
            with self._reader.connect() as connection, connection.begin():
                yield connection
        except self._errors as error:
            raise self._named(error) from error

    def read_once(
        self, statement: str, parameters: Mapping[str, Any] | Sequence[Any] = ()
    ) -> list[Any]:
        """The rows of one statement in the driver's own form, without a transaction.

        For what every search reads: with cold caches a transaction takes five times as long.
        SQLite connections for it are kept outside the pool, whose overhead is larger than the
        statement.
        """
        connection = None
        is_sound = False
        try:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self.engine.raw_connection()
                if self.is_sqlite:
                    connection.detach()
            driver = connection.dbapi_connection
            assert driver is not None
            cursor = driver.cursor()
            cursor.execute(statement, *([parameters] if parameters else []))
            rows = list(cursor.fetchall())
            is_sound = True
        except self._errors as error:
            raise self._named(error) from error
        finally:
            if connection is not None:
                if is_sound and self.is_sqlite and len(self._idle) < _MOST_IDLE:
                    self._idle.append(connection)
                elif is_sound or self.is_sqlite:
                    connection.close()
                else:
                    # It may be lost; then the pool's rollback would fail, too, and be logged.
                    connection.invalidate()
        return rows

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A write transaction; commits at the end of the block, rolls back on an error."""
        try:
            with self.engine.connect() as connection:
                connection.execution_options(**{_WRITES: True})
                with connection.begin():
                    yield connection
        except self._errors as error:
            raise self._named(error) from error

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """A PostgreSQL connection for several transactions, which the caller begins.

        It is closed after an error, so that it keeps no lock.
        """
        try:
            with self.engine.connect() as connection:
                try:
                    yield connection
                except BaseException:
                    connection.invalidate()
                    raise
        except self._errors as error:
            raise self._named(error) from error

    def take_turns(self, connection: Connection) -> None:
        """Block other transactions that call this until this one has ended.

        For what two processes may create at once: each checks again after the call.
        """
        # SQLite has one write transaction at a time anyway.
        if not self.is_sqlite:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_TURN})")

    def give_back_space(self, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Shrink an SQLite file by its free pages; PostgreSQL does so on its own.

        Works in small steps, so that others do not wait long. A file of an earlier version is
        rewritten at once if a quarter of it is free and the disk has room for copies.
        """
        if not self.is_sqlite:
            return
        # A connection of the pool reports what it was told to make of a new file.
        connection = sqlite3.connect(
            str(self.engine.url.database), timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None
        )

        def ask(statement: str) -> int:
            return int((connection.execute(statement).fetchall() or [(0,)])[0][0])

        # Others may write for too long.
        with contextlib.closing(connection), contextlib.suppress(sqlite3.OperationalError):
            if ask("PRAGMA auto_vacuum") == _INCREMENTAL:
                while not should_stop() and ask("PRAGMA freelist_count"):
                    # `execute` would free one page and wait for the disk after each.
                    connection.executescript(f"PRAGMA incremental_vacuum({_PAGES_AT_ONCE})")
            elif 4 * ask("PRAGMA freelist_count") > ask("PRAGMA page_count"):
                self.rewrite()
            # The file itself shrinks when the log is written back; readers of an old state delay
            # that.
            ask("PRAGMA busy_timeout=1000")
            ask("PRAGMA wal_checkpoint(TRUNCATE)")

    def rewrite(self) -> None:
        """Rewrite an SQLite file where the disk has room for copies."""
        file = self.engine.url.database
        if not self.is_sqlite or file is None:
            return
        if shutil.disk_usage(os.path.dirname(os.path.abspath(file))).free < 2 * os.path.getsize(
            file
        ):
            return
        # The file stays as it is where there is no room in the folder for temporary files.
        with contextlib.suppress(HomeError):
            self.read_once("VACUUM")

    def close(self) -> None:
        """Close all connections."""
        while self._idle:
            self._idle.pop().close()
        self.engine.dispose()

    def _named(self, error: Exception) -> UnstorableValue | HomeError:
        """What to raise for one of `_errors`: whether a value is refused, or the database fails."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        reason = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
        # PostgreSQL: 22 are data exceptions, 54 exceeded limits, such as an index entry's size.
        state = getattr(cause, "sqlstate", None) or ""
        if isinstance(error, OverflowError | UnicodeError | DataError) or state[:2] in {"22", "54"}:
            return UnstorableValue(f"the database can't store a value: {reason}")
        return HomeError(
            f"the database {self.location} can't be used: {reason}",
            remedy="check that the home is on a writable disk with free space"
            if self.is_sqlite
            else "check REGARD_DATABASE_URL and that the server is up",
        )


@dataclass(frozen=True, slots=True)
class CompiledStatement:
    """A statement's text, and its parameters except those of a call, in order if that counts.

    SQLAlchemy's cache look-up for a large expression takes longer than running it.
    """

    text: str
    values: Mapping[str, Any]
    order: Sequence[str] | None

    @classmethod
    def of(cls, statement: Select[Any], dialect: Dialect) -> CompiledStatement:
        """Compile a statement."""
        compiled = statement.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        return cls(str(compiled), compiled.params, compiled.positiontup)

    def run(self, database: Database, values: Mapping[str, Any]) -> list[Any]:
        """Its rows for these values, by `Database.read_once`."""
        every = {**self.values, **values}
        given = every if self.order is None else [every[name] for name in self.order]
        return database.read_once(self.text, given)


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        assert isinstance(connection, sqlite3.Connection)
        # Otherwise the driver begins transactions when it chooses.
        connection.isolation_level = None
        try:
            # For a new file, and for one that is rewritten; repeating it would write to the file.
            if connection.execute("PRAGMA auto_vacuum").fetchone()[0] != _INCREMENTAL:
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
            _use_wal(connection)
            for pragma in (
                "synchronous=FULL",
                "foreign_keys=ON",
                f"wal_autocheckpoint={_LOG_PAGES}",
            ):
                connection.execute(f"PRAGMA {pragma}")
            # Some builds of SQLite lack these.
            for function in (math.sin, math.cos, math.floor):
                connection.create_function(
                    function.__name__, 1, _of_nothing(function), deterministic=True
                )
        except sqlite3.Error:
            # The pool does not have it yet, so nothing else would close it.
            connection.close()
            raise

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get(_WRITES, False):
            # What a batch of photographs changes is more than the 2 MB of SQLite's own choice.
            connection.exec_driver_sql(f"PRAGMA cache_size=-{_WRITER_CACHE_KIB}")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            # Through the engine it would take half as long as the query of a search.
            sqlite = connection.connection.dbapi_connection
            assert isinstance(sqlite, sqlite3.Connection)
            sqlite.execute("BEGIN")


def storable_text(text: str) -> str:
    """The text without NUL and unpaired surrogates, which databases reject."""
    return (
        text.encode("utf-8", errors="replace")
        .decode("utf-8")
        .replace("\0", "\N{REPLACEMENT CHARACTER}")
    )


def in_batches(ids: Iterable[int], size: int = 10_000) -> Iterator[list[int]]:
    """The ids in order, in lists that fit into one statement: SQLite takes 32,766 parameters."""
    ordered = sorted(ids)
    for start in range(0, len(ordered), size):
        yield ordered[start : start + size]


def insert_into(connection: Connection, table: Table) -> Any:
    """An INSERT with the dialect's `on_conflict_do_nothing` and `on_conflict_do_update`."""
    dialect = sqlite_dialect if connection.dialect.name == "sqlite" else postgresql
    return dialect.insert(table)


def insert_many(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that have the same columns, in order.

    For many rows this takes a third of the time of `connection.execute(insert(table), rows)`.
    """
    if not rows:
        return
    statement, names, processors, is_positional = _insertion(
        table, tuple(rows[0]), connection.dialect
    )
    values: list[Sequence[Any]] = [[row[name] for row in rows] for name in names]
    for place, process in processors:
        values[place] = [process(value) for value in values[place]]
    if is_positional:
        connection.exec_driver_sql(statement, list(zip(*values, strict=True)))
    else:
        named = (dict(zip(names, row, strict=True)) for row in zip(*values, strict=True))
        connection.exec_driver_sql(statement, list(named))


@functools.lru_cache(maxsize=64)
def _insertion(
    table: Table, columns: tuple[str, ...], dialect: Dialect
) -> tuple[str, Sequence[str], Sequence[tuple[int, Callable[[Any], Any]]], bool]:
    """The statement, its parameters, and what changes values into those of the driver, by place."""
    compiled = table.insert().compile(dialect=dialect, column_keys=list(columns))
    names = tuple(compiled.positiontup or columns)
    of_types = (table.c[name].type.dialect_impl(dialect).bind_processor(dialect) for name in names)
    processors = [(place, process) for place, process in enumerate(of_types) if process]
    return str(compiled), names, processors, bool(compiled.positional)


def next_ids(connection: Connection, table: Table, count: int) -> range | list[int]:
    """Unused ids of a table, to be inserted by the caller's transaction.

    Inserting rows with known ids takes far less time than reading back the ids that they got.
    """
    if not count:
        return []
    if connection.dialect.name == "sqlite":
        # Inserting takes the write lock, and raises the sequence.
        row = connection.execute(_LAST_ID, {"name": table.name}).first()
        first = 1 if row is None else row.seq + 1
        return range(first, first + count)
    return list(connection.execute(_NEXT_IDS, {"name": table.name, "count": count}).scalars())


def _of_nothing(function: Callable[[float], float]) -> Callable[[float | None], float | None]:
    """Make a function return NULL for NULL, as SQL functions do."""
    return lambda value: None if value is None else function(value)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL mode, which is stored in it.

    If two processes switch a new file at once, SQLite refuses one at once, ignoring the busy
    timeout, to avoid a deadlock.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.01)
