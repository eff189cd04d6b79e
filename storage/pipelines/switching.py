"""Makes another pipeline live, in one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    exists,
    func,
    insert,
    literal,
    not_,
    select,
    update,
)

from regard.core.errors import Conflict
from regard.storage.database import schema
from regard.storage.database.catalog import Catalog
from regard.storage.database.change_log import record_all_changed
from regard.storage.database.clock import utc_now
from regard.storage.database.lease import hold_writer_lease
from regard.storage.database.stored_pipelines import (
    StoredPipeline,
    find_pipeline,
    live_pipeline,
    set_live,
)

_content, _pipeline = schema.content.c, schema.pipeline.c
_failure = schema.analysis_failure.c
_INDEXED_SINCE = "it was indexed after other models had gone live, and these came back without it"


@dataclass(frozen=True, slots=True)
class Rollback:
    """The former pipeline of a rollback, what it lacks, and whether it is live now.

    `missing` counts contents that only the current pipeline has analysed; `collections` names
    theirs.
    """

    pipeline: StoredPipeline
    missing: int
    collections: tuple[str, ...]
    is_live: bool


def switch(connection: Connection, pipeline: StoredPipeline) -> None:
    """Make a pipeline live and keep the former one; the last statements of a transaction.

    Logs all assets as changed, because their captions and regions change.
    """
    connection.execute(
        update(schema.pipeline)
        .where(_pipeline.live.is_(True))
        .values(live=False, replaced_at=utc_now())
    )
    set_live(connection, pipeline)
    record_all_changed(connection)


def lacking(pipeline: int) -> ColumnElement[bool]:
    """Whether a pipeline has neither analysed a content nor failed to."""
    return and_(lacks(schema.analysis, pipeline), lacks(schema.analysis_failure, pipeline))


def lacks(table: Table, pipeline: int) -> ColumnElement[bool]:
    """Whether a table has no row of a content by a pipeline."""
    return not_(exists().where(table.c.content_id == _content.id, table.c.pipeline_id == pipeline))


def roll_back(catalog: Catalog, *, at_once: bool) -> Rollback:
    """Make the last former pipeline live if it lacks nothing that the live one has analysed.

    With `at_once` it goes live anyway; what it lacks counts as not analysed. Raises Conflict if no
    former pipeline is kept, LeaseHeld while another process indexes.
    """
    database = catalog.database
    with hold_writer_lease(database) as writer, database.writing() as connection:
        database.take_turns(connection)
        writer.guard(connection)
        former = former_pipeline(connection)
        live = live_pipeline(connection)
        analysed = exists().where(
            schema.analysis.c.content_id == _content.id,
            schema.analysis.c.pipeline_id == (-1 if live is None else live.id),
        )
        # Contents noted by an earlier rollback are not failures; they are still missing.
        unable = exists().where(
            _failure.content_id == _content.id,
            _failure.pipeline_id == former.id,
            _failure.reason != _INDEXED_SINCE,
        )
        missing = and_(analysed, lacks(schema.analysis, former.id), not_(unable))
        count = connection.execute(
            select(func.count()).select_from(schema.content).where(missing)
        ).scalar_one()
        names = connection.execute(
            select(schema.collection.c.name)
            .distinct()
            .join_from(schema.collection, schema.asset)
            .join(schema.content, _content.id == schema.asset.c.content_id)
            .where(missing)
            .order_by(schema.collection.c.name)
        ).scalars()
        collections = tuple(names)
        if not count or at_once:
            connection.execute(
                insert(schema.analysis_failure).from_select(
                    ["content_id", "pipeline_id", "reason"],
                    select(_content.id, literal(former.id), literal(_INDEXED_SINCE)).where(
                        missing, lacks(schema.analysis_failure, former.id)
                    ),
                )
            )
            switch(connection, former)
    return Rollback(former, int(count), collections, is_live=not count or at_once)


def former_pipeline(connection: Connection) -> StoredPipeline:
    """The pipeline that was live before the current one; raises Conflict if none is kept."""
    fingerprint = connection.execute(
        select(_pipeline.fingerprint)
        .where(_pipeline.replaced_at.is_not(None), _pipeline.pruned_at.is_(None))
        .order_by(_pipeline.replaced_at.desc(), _pipeline.id.desc())
        .limit(1)
    ).scalar_one_or_none()
    found = None if fingerprint is None else find_pipeline(connection, fingerprint)
    if found is None:
        raise Conflict(
            "this home keeps no former models",
            remedy="see what it has with: regard pipelines",
        )
    return found
