"""The pipelines of a home: how complete each is, and which one is live."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

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


class PipelineState(StrEnum):
    """`kept` was live before; `unfinished` never was; `deleting` was pruned halfway."""

    LIVE = "live"
    KEPT = "kept"
    UNFINISHED = "unfinished"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True)
class PipelineOverview:
    """Counts for one pipeline; times are naive UTC.

    `models` names each part's model and revision. `analysed` counts contents; `missing` those that
    only the live pipeline has analysed; `failed` those of them that this one could not. Each of
    the `embeddings` takes two bytes per dimension.
    """

    profile: str
    fingerprint: str
    state: PipelineState
    models: Mapping[str, str]
    spaces: Mapping[str, int]
    analysed: int
    missing: int
    failed: int
    embeddings: int
    live_since: datetime | None
    replaced_at: datetime | None

    def to_json(self) -> dict[str, Any]:
        """The documented JSON form; times in ISO 8601 with `Z`."""
        return {
            "profile": self.profile,
            "fingerprint": self.fingerprint,
            "state": self.state.value,
            "models": dict(self.models),
            "spaces": dict(self.spaces),
            "analysed": self.analysed,
            "missing": self.missing,
            "failed": self.failed,
            "embeddings": self.embeddings,
            "live_since": _shown(self.live_since),
            "replaced_at": _shown(self.replaced_at),
        }


def read_pipelines(catalog: Catalog) -> list[PipelineOverview]:
    """All pipelines, the live one first, then the newest first.

    Pipelines that have not analysed anything yet are left out.
    """
    pipeline, analysis = schema.pipeline.c, schema.analysis.c
    failure = schema.analysis_failure.c
    other = schema.analysis.alias()
    with catalog.database.reading() as connection:
        rows = connection.execute(
            select(schema.pipeline).order_by(pipeline.live.desc(), pipeline.id.desc())
        ).all()
        sums = connection.execute(
            select(analysis.pipeline_id, func.count(), func.sum(analysis.vector_count)).group_by(
                analysis.pipeline_id
            )
        ).all()
        analysed = {row[0]: int(row[1]) for row in sums}
        vectors = {row[0]: int(row[2]) for row in sums}
        live = next((row.id for row in rows if row.live), None)
        # Contents analysed by the live pipeline and by another.
        shared = {live: analysed.get(live, 0)}
        if len(analysed) > 1:
            shared = _counts(
                connection.execute(
                    _by(analysis.pipeline_id)
                    .join(other, other.c.content_id == analysis.content_id)
                    .where(other.c.pipeline_id == live)
                ).all()
            )
        unable = schema.analysis.alias()
        failed = _counts(
            connection.execute(
                _by(failure.pipeline_id)
                .join(
                    unable,
                    and_(
                        unable.c.content_id == failure.content_id,
                        unable.c.pipeline_id == failure.pipeline_id,
                    ),
                    isouter=True,
                )
                .where(unable.c.content_id.is_(None))
            ).all()
        )
    found = []
    for row in rows:
        state = _state(row)
        if state is PipelineState.UNFINISHED and not (analysed.get(row.id) or failed.get(row.id)):
            continue
        spec = json.loads(row.spec)
        found.append(
            PipelineOverview(
                row.profile,
                row.fingerprint,
                state,
                spec["models"],
                spec["spaces"],
                analysed.get(row.id, 0),
                analysed.get(live, 0) - shared.get(row.id, 0),
                failed.get(row.id, 0),
                vectors.get(row.id, 0),
                row.live_since,
                row.replaced_at,
            )
        )
    return found


def _by(column: Any) -> Any:
    return select(column, func.count()).group_by(column)


def _counts(rows: Any) -> dict[int | None, int]:
    return {row[0]: int(row[1]) for row in rows}


def _state(row: Any) -> PipelineState:
    if row.live:
        return PipelineState.LIVE
    if row.pruned_at is not None:
        return PipelineState.DELETING
    return PipelineState.UNFINISHED if row.replaced_at is None else PipelineState.KEPT


def _shown(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment.isoformat(timespec='seconds')}Z"


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
    former = None if fingerprint is None else find_pipeline(connection, fingerprint)
    if former is None:
        raise Conflict(
            "this home keeps no former models",
            remedy="see what it has with: regard pipelines",
        )
    return former
