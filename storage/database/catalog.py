"""An open catalog: its database, identity and pipelines."""

from __future__ import annotations

import uuid
from pathlib import Path

from sqlalchemy import Connection, insert, select

from regard.core.errors import HomeError
from regard.core.records import PipelineSpec
from regard.storage.database import schema
from regard.storage.database.connection import Database
from regard.storage.database.counters import COUNTERS
from regard.storage.database.kept_counts import KeptCounts
from regard.storage.database.stored_pipelines import (
    StoredPipeline,
    ensure_pipeline,
    live_pipeline,
    make_live,
    stored_pipelines,
)
from regard.storage.database.upgrading import upgrade

_UUID = "catalog_uuid"


class Catalog:
    """The catalog of one home."""

    def __init__(self, database: Database) -> None:
        """Use a database whose schema is current; `open_catalog` upgrades it first."""
        self.database = database
        self.kept_counts = KeptCounts()
        with database.reading() as connection:
            self.uuid = _read_uuid(connection)

    def live_pipeline(self) -> StoredPipeline | None:
        """The live pipeline, or None when nothing was indexed yet."""
        with self.database.reading() as connection:
            return live_pipeline(connection)

    def make_live(self, spec: PipelineSpec) -> StoredPipeline:
        """Return the live pipeline; make that of `spec` live if none has analysed anything yet."""
        with self.database.writing() as connection:
            self.database.take_turns(connection)
            return make_live(connection, spec)

    def ensure_pipeline(self, spec: PipelineSpec) -> StoredPipeline:
        """Return the pipeline of `spec`, created if it is new; raises PipelineConflict."""
        with self.database.writing() as connection:
            self.database.take_turns(connection)
            return ensure_pipeline(connection, spec)

    def pipelines(self) -> list[StoredPipeline]:
        """All pipelines except those being deleted, oldest first."""
        with self.database.reading() as connection:
            return stored_pipelines(connection)

    def close(self) -> None:
        """Close the database's connections."""
        self.database.close()


def open_catalog(url: str | Path) -> Catalog:
    """Open the catalog at a database URL or in an SQLite file; create or upgrade its schema.

    Raises HomeError, HomeVersionError, MissingDependency or UsageError.
    """
    database = Database(url)
    try:
        upgrade(database)
        with database.reading() as connection:
            fresh = _is_fresh(connection)
        if fresh:
            with database.writing() as connection:
                database.take_turns(connection)
                if _is_fresh(connection):
                    _initialise(connection)
        return Catalog(database)
    except BaseException:
        database.close()
        raise


def _is_fresh(connection: Connection) -> bool:
    return connection.execute(select(schema.catalog_info.c.key)).first() is None


def _initialise(connection: Connection) -> None:
    connection.execute(insert(schema.counter), [{"name": name, "value": 0} for name in COUNTERS])
    connection.execute(insert(schema.catalog_info).values(key=_UUID, value=str(uuid.uuid4())))


def _read_uuid(connection: Connection) -> str:
    value = connection.execute(
        select(schema.catalog_info.c.value).where(schema.catalog_info.c.key == _UUID)
    ).scalar_one_or_none()
    if value is None:
        raise HomeError("the catalog has no identity", remedy="choose another --home")
    return str(value)
