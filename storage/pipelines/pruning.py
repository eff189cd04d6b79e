"""Deletes pipelines that are not live: index folders, rows, and their entries in the change log.

Works in transactions of a few hundred contents, so that others do not wait long. From the first
transaction on the pipeline can't go live; the next call finishes an interrupted deletion. Servers
notice a switch within a second and hold a lease while they still use the former pipeline, which is
then not deleted.
"""

from __future__ import annotations

import datetime
import shutil
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, Row, delete, select, update

from regard.core.errors import Conflict, HomeError, NotFound, PipelineConflict
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.change_log import forget_channels
from regard.storage.database.clock import utc_now
from regard.storage.database.lease import BUILDER, SqlWriterLease, hold_writer_lease, is_free
from regard.storage.database.stored_pipelines import SHORT_FINGERPRINT, index_folder
from regard.storage.vectors.engine import VectorEngine

# Longer than a server takes to notice that another pipeline is live.
_NOTICED_SECONDS = 3.0
_CONTENTS_AT_ONCE = 200
_CHANGES_AT_ONCE = 10_000
_pipeline = schema.pipeline.c


def serving_mark(pipeline: int) -> str:
    """The prefix of the names of leases that servers hold on a pipeline they use."""
    return f"serves {pipeline} "


def prune(
    catalog: Catalog,
    engine: VectorEngine,
    prefixes: Sequence[str] = (),
    *,
    unfinished: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Delete pipelines by fingerprint prefix, or all former live ones; return their fingerprints.

    With `unfinished`, also those that were never live. `engine` keeps the vector indexes. Stops
    early when `should_stop` returns true. Raises NotFound for a prefix without a match,
    PipelineConflict for the live one, Conflict while a server uses one of them, LeaseHeld while
    another process reindexes, EngineUnavailable.
    """
    done = []
    with hold_writer_lease(catalog.database, BUILDER) as lease:
        with catalog.database.reading() as connection:
            rows = _select(connection, prefixes, unfinished=unfinished)
        for row in rows:
            _wait_until_noticed(row, should_stop)
            if should_stop() or not _prune_one(catalog, lease, engine, row, should_stop):
                break
            done.append(row.fingerprint)
    if done:
        catalog.database.give_back_space(should_stop)
    return done


def _select(
    connection: Connection, prefixes: Sequence[str], *, unfinished: bool
) -> list[Row[tuple[object, ...]]]:
    rows = list(connection.execute(select(schema.pipeline).order_by(_pipeline.id)).all())
    if not prefixes:
        return [
            row
            for row in rows
            if not row.live
            and (row.replaced_at is not None or row.pruned_at is not None or unfinished)
        ]
    found = []
    for prefix in prefixes:
        matches = [row for row in rows if row.fingerprint.startswith(prefix)]
        if len(matches) != 1 or not prefix:
            raise NotFound(
                f"{'no' if not matches else 'more than one'} pipeline begins with {prefix!r}",
                remedy="see them with: regard pipelines",
            )
        found += matches
    return found


def _wait_until_noticed(row: Row[tuple[object, ...]], should_stop: Callable[[], bool]) -> None:
    if row.replaced_at is None:
        return
    until = row.replaced_at + datetime.timedelta(seconds=_NOTICED_SECONDS)
    while not should_stop() and utc_now() < until:
        time.sleep(0.1)


def _prune_one(
    catalog: Catalog,
    lease: SqlWriterLease,
    engine: VectorEngine,
    row: Row[tuple[object, ...]],
    should_stop: Callable[[], bool],
) -> bool:
    """Delete one pipeline; return whether that was completed."""
    database, pipeline = catalog.database, row.id
    with database.writing() as connection:
        database.take_turns(connection)
        lease.guard(connection)
        _require_unused(connection, row)
        connection.execute(
            update(schema.pipeline)
            .where(_pipeline.id == pipeline)
            .values(pruned_at=utc_now(), replaced_at=None)
        )
    engine.forget(catalog.uuid, str(row.fingerprint))
    try:
        shutil.rmtree(index_folder(engine.folder, str(row.fingerprint)))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise HomeError(
            f"the vector indexes of the pipeline can't be deleted: {error.strerror or error}",
            remedy="check permissions, then run again: regard prune",
        ) from error
    while True:
        if should_stop():
            return False
        with database.writing() as connection:
            lease.guard(connection)
            if not _delete_some(connection, pipeline):
                connection.execute(delete(schema.pipeline).where(_pipeline.id == pipeline))
                return True


def _require_unused(connection: Connection, row: Row[tuple[object, ...]]) -> None:
    live = connection.execute(select(_pipeline.live).where(_pipeline.id == row.id)).scalar_one()
    short = str(row.fingerprint)[:SHORT_FINGERPRINT]
    if live:
        raise PipelineConflict(
            f"the pipeline {short} is the live one",
            remedy="choose another, or go back first with: regard rollback",
        )
    lease = schema.lease.c
    for held in connection.execute(
        select(schema.lease).where(lease.name.startswith(serving_mark(row.id)))
    ):
        if not is_free(held.host, held.pid, held.process_started, held.heartbeat_at, time.time()):
            raise Conflict(
                f"process {held.pid} on {held.host} still uses the pipeline {short}",
                remedy="wait until it has loaded the new models, then run this again",
            )


def _delete_some(connection: Connection, pipeline: int) -> bool:
    """Delete a portion of a pipeline's rows; return False when none were left."""
    analysis = schema.analysis.c
    contents = list(
        connection.execute(
            select(analysis.content_id)
            .where(analysis.pipeline_id == pipeline)
            .order_by(analysis.content_id)
            .limit(_CONTENTS_AT_ONCE)
        ).scalars()
    )
    if contents:
        # Referencing rows first.
        for table in (schema.embedding, schema.caption, schema.region, schema.analysis):
            connection.execute(
                delete(table).where(
                    table.c.content_id.in_(contents), table.c.pipeline_id == pipeline
                )
            )
        return True
    channel = schema.channel.c
    channels = list(
        connection.execute(select(channel.id).where(channel.pipeline_id == pipeline)).scalars()
    )
    failure = schema.analysis_failure
    connection.execute(delete(failure).where(failure.c.pipeline_id == pipeline))
    if forget_channels(connection, channels, _CHANGES_AT_ONCE):
        return True
    connection.execute(delete(schema.channel).where(channel.id.in_(channels)))
    return False
